"""Models of the Hugging Face Hub: pushed to, and used from, a hub on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import fails, taxon, taxon_process
from conftest import TINY_BACKBONE
from fake_hub import FakeHub, Repository, fake_hub, use_hub
from safetensors.torch import save

import taxon as taxon_api
from taxon.bundle import read_bundle
from taxon.bundle.golden import differing_inputs, read_golden
from taxon.bundle.hub import local_folder, parse_hub_name
from taxon.bundle.redaction import without_places
from taxon.core.errors import BundleError, ConfigError, HubError, OutputError, WeightsError
from taxon.data import read_manifest

NAME = "ann/defects"
HUB_NAME = f"hf:{NAME}"
PUSHED = {"README.md", "bundle.json", "labels.json", "model.safetensors", "head.safetensors"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        yield server


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> Callable[..., Path]:
    """Be another user, at another machine; returns the cache."""

    def move(name: str = "elsewhere", *, token: str = "", at: str | None = None) -> Path:
        use_hub(at or hub, tmp_path / name, monkeypatch, token)
        return tmp_path / name / "hub"

    return move


@pytest.fixture
def pushed(run: Path, elsewhere: Callable[..., Path]) -> Path:
    """The model on the hub, and this user somewhere else; returns the cache."""
    elsewhere("home", token="hf_ann")
    taxon_api.push(run, NAME)
    return elsewhere()


def test_a_pushed_model_is_the_same_elsewhere(
    run: Path, defects: Path, hub: FakeHub, elsewhere: Callable[..., Path]
) -> None:
    elsewhere("home", token="hf_ann")
    done = taxon("push", run, NAME, "--message", "first")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert f"pushed: {hub.url}/{NAME}" in said
    # What is uploaded stands before what was done.
    assert said[0].startswith(f"pushing to {NAME}: ")
    assert any("generated pictures, which stand in for yours" in line for line in said)
    assert any("model.safetensors" in line and "kB" in line for line in said)
    assert hub.repositories[NAME].messages == ["initial commit", "first"]
    assert hub.files(NAME)["model.safetensors"] == (run / "model.safetensors").read_bytes()

    cache = elsewhere()
    folder = local_folder(HUB_NAME)
    assert folder.is_relative_to(cache)
    for name in ("model.safetensors", "head.safetensors", "artefacts/onnx/model.onnx"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    assert read_bundle(folder).spec == read_bundle(run).spec
    pictures = sorted((defects / "crack").iterdir())[:3]
    loaded, own = taxon_api.load(HUB_NAME), taxon_api.load(run)
    assert list(loaded.predict_many(pictures)) == list(own.predict_many(pictures))
    by_torch = taxon_api.load(HUB_NAME, backend="torch")
    assert by_torch.predict(pictures[0]).label == own.predict(pictures[0]).label


def test_as_processes(run: Path, defects: Path, elsewhere: Callable[..., Path]) -> None:
    elsewhere("home", token="hf_ann")
    done = taxon_process("push", run, NAME, "--private", "--revision", "v1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no bars in logs
    assert f"/{NAME}/tree/v1" in done.stdout and f"hf:{NAME}@v1" in done.stdout
    picture = next((defects / "crack").iterdir())
    elsewhere(token="hf_reader")
    typed = (f"{HUB_NAME}@v1", picture, "--format", "jsonl")
    there, here = taxon_process("predict", *typed), taxon("predict", run, *typed[1:])
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout) == json.loads(here.stdout)
    # Not before the branch, and not without a token.
    fails(2, "predict", HUB_NAME, picture, saying="there is no bundle.json in it")
    elsewhere("stranger")
    fails(2, "predict", f"{HUB_NAME}@v1", picture, saying="it is private and your token does not")


def test_nothing_of_the_owner_is_pushed(
    run: Path, defects: Path, hub: FakeHub, pushed: Path, copy_of: Callable[[Path], Path]
) -> None:
    files = hub.files(NAME)
    assert files.keys() >= PUSHED
    folders = {name.split("/")[0] for name in files}
    private = {"manifest.parquet", "report", "checkpoints", "evaluations", "history.csv"}
    assert not folders & private
    own = [path.read_bytes() for path in (run / "golden").iterdir()]
    assert len(own) == 9
    assert not {name for name, content in files.items() if content in own}
    names = [Path(record.path).name for record in read_manifest(run / "manifest.parquet").records]
    for name, content in files.items():
        assert str(defects.parent).encode() not in content, name
        assert str(run.parent).encode() not in content, name
        assert not [each for each in names if each.encode() in content], name


def test_places_and_pictures_are_taken_out_of_what_is_pushed(
    run: Path, hub: FakeHub, elsewhere: Callable[..., Path], copy_of: Callable[[Path], Path]
) -> None:
    own = copy_of(run)
    info = json.loads((own / "bundle.json").read_text())
    told = {
        "command": "taxon train /home/ann/ward/photos --out /srv/model",
        "notes": ["left out: /home/ann/ward/smith.jpg is damaged", "kept as it is"],
    }
    info["provenance"] |= told
    info["provenance"]["config"]["weights"] = "/home/ann/weights.safetensors"
    (own / "bundle.json").write_text(json.dumps(info))
    card = (own / "README.md").read_text()
    (own / "README.md").write_text(f"{card}\nMade of /home/ann/ward/photos, as smith.jpg shows.\n")
    elsewhere("home", token="hf_ann")
    taxon_api.push(own, NAME)
    files = hub.files(NAME)
    provenance = json.loads(files["bundle.json"])["provenance"]
    assert provenance["command"] == "taxon train photos --out model"
    assert provenance["notes"] == ["left out: PICTURE is damaged", "kept as it is"]
    assert provenance["config"]["weights"] == "weights.safetensors"
    shown = files["README.md"].decode()
    assert "Made of photos, as PICTURE shows." in shown
    # Its commands are for the hub.
    assert f"taxon predict {HUB_NAME} PICTURE..." in shown
    assert f'taxon.load("{HUB_NAME}")' in shown
    assert f'timm.create_model("hf-hub:{NAME}", pretrained=True)' in shown
    assert f'load_file(hf_hub_download("{NAME}", "head.safetensors"))' in shown
    assert "What is not here" in shown
    assert read_bundle(own).info.provenance.command == told["command"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("taxon train '/home/ann/my photos' --out ~/m/x", "taxon train 'my photos' --out x"),
        (r"C:\Users\ann\pics is gone", "pics is gone"),
        ("--set distillation.teacher=/a/b/teacher", "--set distillation.teacher=teacher"),
        ("ward-3/smith.JPG: truncated", "PICTURE: truncated"),
        (
            "https://example.org/a/b and http://h:80/a/b",
            "https://example.org/a/b and http://h:80/a/b",
        ),
        ("and/or 1/2 photos/crack", "and/or 1/2 photos/crack"),
        ('predict("picture.jpg")', 'predict("picture.jpg")'),
        ("golden/00.png", "golden/00.png"),
    ],
)
def test_without_places(text: str, left: str) -> None:
    assert without_places(text) == left


def test_golden_pictures_that_stand_in_are_checked(run: Path, pushed: Path) -> None:
    folder = local_folder(HUB_NAME)
    golden, bundle = read_golden(folder), read_bundle(folder)
    assert len(golden.pictures) == 8
    assert differing_inputs(golden, bundle.spec.preprocessing) == []
    reports = taxon_api.verify(HUB_NAME)
    assert [(report.passed, report.pictures) for report in reports] == [(True, 8)]
    assert bundle.info.fingerprint == read_bundle(run).info.fingerprint


def test_own_golden_pictures_where_they_are_asked_for(
    run: Path, hub: FakeHub, elsewhere: Callable[..., Path]
) -> None:
    elsewhere("home", token="hf_ann")
    done = taxon("push", run, NAME, "--with-pictures", "--artefacts", "none")
    assert "PICTURES OF YOUR DATA" in done.stdout
    files = hub.files(NAME)
    assert files["golden/00.png"] == (run / "golden/00.png").read_bytes()
    assert not [name for name in files if name.startswith("artefacts/")]
    elsewhere()
    assert read_bundle(local_folder(HUB_NAME)).info.stand_ins == {}


def test_a_dry_run_asks_nobody(run: Path, hub: FakeHub, elsewhere: Callable[..., Path]) -> None:
    elsewhere()  # without a token
    done = taxon("push", run, NAME, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"would be pushed to {NAME}: ")
    assert "golden/expected.npz" in done.stdout and "pushed: " not in done.stdout
    assert hub.requests == []


def test_a_push_replaces_what_an_earlier_one_left(
    run: Path, hub: FakeHub, pushed: Path, elsewhere: Callable[..., Path]
) -> None:
    hub.add(NAME, {"artefacts/onnx-int8/model.onnx": b"old", "notes.md": b"of a person"})
    elsewhere("home", token="hf_ann")
    first, second = taxon_api.push(run, NAME), taxon_api.push(run, NAME)
    assert "artefacts/onnx-int8/model.onnx" not in hub.files(NAME)
    assert hub.files(NAME)["notes.md"] == b"of a person"
    # The same once more makes no commit.
    assert first.commit == second.commit == hub.repositories[NAME].branches["main"]


def test_revisions(
    run: Path, tags_run: Path, hub: FakeHub, pushed: Path, elsewhere: Callable[..., Path]
) -> None:
    elsewhere("home", token="hf_ann")
    taxon_api.push(tags_run, NAME, revision="next")
    elsewhere()
    main, following = (read_bundle(local_folder(f"{HUB_NAME}{at}")) for at in ("", "@next"))
    assert main.spec.fingerprint == read_bundle(run).spec.fingerprint
    assert following.spec.fingerprint == read_bundle(tags_run).spec.fingerprint
    commit = hub.repositories[NAME].branches["next"]
    assert local_folder(f"{HUB_NAME}@{commit}") == following.path
    with pytest.raises(HubError, match="there is no such branch, tag or commit"):
        local_folder(f"{HUB_NAME}@none")


@pytest.mark.parametrize(
    ("options", "token", "saying"),
    [
        ((NAME,), "", "there is no token for"),
        ((NAME,), "wrong", "does not know this token"),
        ((NAME,), "hf_reader", "does not let this token"),
        (("bob/defects",), "hf_ann", "does not let this token"),
        (("defects",), "hf_ann", "is no name on the hub: that is user/name"),
        (("ann/a b",), "hf_ann", "is no name on the hub"),
        (("../ann/x",), "hf_ann", "is no name on the hub"),
        (("ann/x--y",), "hf_ann", "is no name on the hub"),
        ((f"{NAME}@v1",), "hf_ann", "name the branch with --revision v1"),
        ((NAME, "--revision", "../x"), "hf_ann", "an odd one"),
        ((NAME, "--artefacts", "coreml"), "hf_ann", "has no artefact 'coreml' (it has: onnx)"),
    ],
)
def test_refused(
    options: tuple[str, ...],
    token: str,
    saying: str,
    run: Path,
    hub: FakeHub,
    elsewhere: Callable[..., Path],
) -> None:
    elsewhere(token=token)
    fails(2, "push", run, *options, saying=saying)
    assert not [each for each in hub.requests if "commit" in each]


def test_what_was_altered_is_not_pushed(
    run: Path, hub: FakeHub, elsewhere: Callable[..., Path], copy_of: Callable[[Path], Path]
) -> None:
    own = copy_of(run)
    elsewhere(token="hf_ann")
    artefact = own / "artefacts/onnx/model.onnx"
    artefact.write_bytes(artefact.read_bytes() + b"x")
    fails(2, "push", own, NAME, saying="does not have the sha256")
    (own / "labels.json").write_text("{}")
    fails(2, "push", own, NAME, saying="it was altered or damaged after training")
    fails(2, "push", own.parent, NAME, saying="is not a model folder")
    assert hub.repositories == {}


def test_private_is_not_promised_of_what_is_public(
    run: Path, hub: FakeHub, pushed: Path, elsewhere: Callable[..., Path]
) -> None:
    before = len(hub.repositories[NAME].commits)
    elsewhere("home", token="hf_ann")
    fails(2, "push", run, NAME, "--private", saying="is public; nothing was pushed")
    assert len(hub.repositories[NAME].commits) == before
    taxon_api.push(run, "ann/secret", private=True)
    assert hub.repositories["ann/secret"].private


def test_without_a_network(
    run: Path,
    defects: Path,
    hub: FakeHub,
    pushed: Path,
    elsewhere: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = next((defects / "crack").iterdir())
    expected = taxon_api.load(HUB_NAME).predict(picture)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    hub.requests.clear()
    # Nobody answers: what is in the cache is used, and what is not is a line.
    elsewhere(at=closed)
    assert taxon_api.load(HUB_NAME).predict(picture) == expected
    fails(2, "predict", "hf:ann/other", picture, saying=f"cannot reach {closed}")
    elsewhere(at=closed, token="hf_ann")
    fails(2, "push", run, NAME, saying=f"cannot reach {closed}")
    # The network is forbidden.
    from huggingface_hub import constants

    elsewhere(token="hf_ann")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert taxon_api.load(HUB_NAME).predict(picture) == expected
    line = fails(2, "predict", "hf:ann/other", picture, saying="and HF_HUB_OFFLINE is set")
    assert "hf:ann/other is not, or not wholly, in the cache" in line
    fails(2, "push", run, NAME, saying="HF_HUB_OFFLINE is set, so nothing is pushed")
    # A file that is gone from the cache is missed, and not passed over.
    (local_folder(HUB_NAME) / "labels.json").unlink()
    with pytest.raises(HubError, match="not wholly, in the cache"):
        local_folder(HUB_NAME)
    assert hub.requests == []


def _state(cache: Path) -> dict[str, bytes]:
    """What lies in the blobs and snapshots of a cache."""
    files = [path for path in cache.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path): path.read_bytes() for path in files}


def test_a_snapshot_is_only_read(
    run: Path, defects: Path, pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = local_folder(HUB_NAME)
    before = _state(pushed)
    for typed in (HUB_NAME, folder):
        only_read = "lies in the hub's cache, which is only read; say where to write: --out"
        fails(2, "evaluate", typed, defects, saying=only_read)
        fails(2, "export", typed, "--to", "onnx", saying=only_read)
        fails(2, "evaluate", typed, defects, "--out", "x", "--refit-policy", saying="is only read")
    fails(2, "evaluate", HUB_NAME, "--out", "x", saying="has no manifest of its own pictures")
    with pytest.raises(OutputError, match="is only read"):
        taxon_api.load(HUB_NAME).evaluate(defects)
    with pytest.raises(OutputError, match="is only read"):
        taxon_api.refit_policy(HUB_NAME)

    done = taxon("evaluate", HUB_NAME, defects, "--out", "figures", "--no-explain")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "it is not known on which pictures the model was trained" in said
    assert (tmp_path / "figures/report/report.html").is_file()
    assert [info.format for info in taxon_api.export(HUB_NAME, out="exported")] == ["onnx"]
    assert taxon("verify", run, "exported/onnx").returncode == 0
    fails(2, "compare", HUB_NAME, run, saying=f"{HUB_NAME} is a published model and does not say")
    compared = taxon_api.compare(run, HUB_NAME, defects, split="all")
    assert compared.metrics.changed == ()
    assert compared.folder.resolve().is_relative_to(tmp_path / "comparisons")
    assert _state(pushed) == before


def test_benchmark(pushed: Path, run: Path) -> None:
    found = taxon_api.benchmark([HUB_NAME, run], ["onnx"], batches=[1], threads=[1], seconds=0.01)
    assert [subject.model for subject in found.subjects] == ["defects", run.name]
    assert found.absent == ()


def test_serve(pushed: Path, elsewhere: Callable[..., Path], defects: Path, run: Path) -> None:
    typed = [sys.executable, "-u", "-m", "taxon", "serve", f"ours={HUB_NAME}", "--port", "0"]
    with subprocess.Popen(typed, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving ours={HUB_NAME} at http://"), line
        picture = next((defects / "crack").iterdir())
        with taxon_api.Client(line.split()[3]) as client:
            answer = client.classify(picture)
        process.terminate()
        assert process.wait(30) == 0
    assert answer.label == taxon_api.load(run).predict(picture).label


def test_the_client_of_the_hub_is_not_loaded_for_folders(run: Path, defects: Path) -> None:
    picture = next((defects / "crack").iterdir())
    code = (
        "import sys, taxon, taxon.api; from taxon.api.serving_models import open_checked, "
        "BackendChoice; from taxon.api.serving import serve\n"
        f"from pathlib import Path; open_checked(Path({str(run)!r}), BackendChoice(), 10**8)\n"
        f"taxon.api.predict({str(run)!r}, {str(picture)!r})\n"
        "assert 'huggingface_hub' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_client_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fails(2, "predict", HUB_NAME, "a.jpg", saying="type: pip install huggingface_hub")


def test_what_was_altered_on_the_hub_is_refused(hub: FakeHub, pushed: Path) -> None:
    hub.add(NAME, {"decision.json": hub.files(NAME)["decision.json"] + b" "})
    with pytest.raises(BundleError, match="does not have the sha256 that"):
        taxon_api.load(HUB_NAME)


@pytest.mark.parametrize("outside", ["../../../secret", "/etc/hostname", "..\\secret", "C:\\x"])
@pytest.mark.parametrize("where", ["files", "stand_ins"])
def test_nothing_outside_of_a_snapshot_is_read(
    outside: str, where: str, hub: FakeHub, pushed: Path
) -> None:
    info = json.loads(hub.files(NAME)["bundle.json"])
    info[where][outside] = "0" * 64
    hub.add(NAME, {"bundle.json": json.dumps(info).encode()})
    with pytest.raises(BundleError, match="leads out of the model folder"):
        taxon_api.load(HUB_NAME)


def test_stand_ins_take_the_place_of_golden_examples_alone(hub: FakeHub, pushed: Path) -> None:
    info = json.loads(hub.files(NAME)["bundle.json"])
    info["stand_ins"]["decision.json"] = "0" * 64
    hub.add(NAME, {"bundle.json": json.dumps(info).encode()})
    with pytest.raises(BundleError, match=r"decision.json is no golden example"):
        taxon_api.load(HUB_NAME)
    del info["stand_ins"]["decision.json"], info["stand_ins"]["golden/expected.npz"]
    hub.add(NAME, {"bundle.json": json.dumps(info).encode()})
    with pytest.raises(BundleError, match=r"states no sha256 of golden/expected.npz"):
        taxon_api.load(HUB_NAME)


def test_names_in_a_repository_do_not_lead_out_of_the_cache(hub: FakeHub, pushed: Path) -> None:
    outside = pushed.parent / "escaped"
    hub.add(NAME, {"golden/../../../../../escaped": b"x"})
    with pytest.raises(HubError):
        taxon_api.load(HUB_NAME)
    assert not outside.exists()


def test_only_what_is_needed_is_downloaded(hub: FakeHub, pushed: Path) -> None:
    code = {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"pickle", "a/b.zip": b"x"}
    hub.add(NAME, {**code, "artefacts/onnx-fp16/model.onnx": b"large"})
    folder = local_folder(HUB_NAME)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "artefacts/onnx/model.onnx" in there
    assert not there & {*code, "artefacts/onnx-fp16/model.onnx"}
    # Once there, it is asked for the newest commit, and for no file of it.
    hub.requests.clear()
    assert local_folder(HUB_NAME) == folder
    assert [each for each in hub.requests if "agent" not in each] == [
        f"HEAD /{NAME}/resolve/main/bundle.json"
    ]


def test_a_repository_that_is_no_model(hub: FakeHub, elsewhere: Callable[..., Path]) -> None:
    elsewhere()
    hub.add("ann/text", {"README.md": b"# Text", "pytorch_model.bin": b"x"})
    hub.repositories["ann/empty"] = Repository()
    hub.repositories["ann/empty"].commit("main", {}, "nothing")
    for name in ("hf:ann/text", "hf:ann/empty"):
        line = fails(2, "predict", name, "a.jpg", saying=f"{name} is no model of taxon")
        assert "there is no bundle.json in it" in line
    line = fails(2, "predict", "hf:ann/none", "a.jpg", saying="shows no model hf:ann/none")
    assert "hf auth login" in line


@pytest.mark.parametrize("typed", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:a/b@ x", "hf:/b"])
def test_malformed_names(typed: str) -> None:
    with pytest.raises(ConfigError):
        parse_hub_name(typed)
    fails(2, "predict", typed, "a.jpg", saying="hf:")


SHORT: dict[str, Any] = {
    "recipe": "staged",
    "epochs": 1,
    "overrides": ["preprocessing.size=32"],
    "device": "cpu",
}


def test_train_from_a_pushed_model(
    few: Path, hub: FakeHub, pushed: Path, tmp_path: Path, without_export: None
) -> None:
    model = taxon_api.train(few, out=tmp_path / "next", model=HUB_NAME, **SHORT)
    provenance = read_bundle(model.path).info.provenance
    commit = hub.repositories[NAME].branches["main"]
    assert provenance.weights["source"] == f"{HUB_NAME}@{commit}"
    assert provenance.config["model"] == f"{HUB_NAME}@{commit}"
    assert read_bundle(model.path).info.backbone == TINY_BACKBONE
    # What it starts from is hashed like any model.
    hub.add(NAME, {"model.safetensors": b"altered"})
    with pytest.raises(BundleError, match="does not have the sha256"):
        taxon_api.train(few, out=tmp_path / "other", model=HUB_NAME, **SHORT)


def test_train_from_a_repository_of_timm(
    few: Path, hub: FakeHub, elsewhere: Callable[..., Path], tmp_path: Path, without_export: None
) -> None:
    import timm

    elsewhere()
    torch.manual_seed(3)
    state = timm.create_model(TINY_BACKBONE, pretrained=False).state_dict()
    config = {
        "architecture": TINY_BACKBONE,
        "pretrained_cfg": {
            **{"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.4, 0.4]},
            **{"classifier": "head.fc", "license": "mit", "crop_mode": "squash"},
        },
    }
    weights = {"model.safetensors": save(state), "evil.py": b"raise SystemExit"}
    hub.add("timm/tiny", {"config.json": json.dumps(config).encode(), **weights})
    options = {**SHORT, "epochs": 1, "overrides": ["optimiser.layer_decay=1.0"]}
    model = taxon_api.train(few, out=tmp_path / "model", model="hf:timm/tiny", **options)
    bundle = read_bundle(model.path)
    assert bundle.info.provenance.weights["licence"] == "mit"
    assert bundle.spec.preprocessing.mean == (0.1, 0.2, 0.3)
    assert (bundle.spec.preprocessing.height, bundle.spec.preprocessing.resize) == (64, "squash")

    hub.add("timm/pickle", {"config.json": json.dumps(config).encode(), "pytorch_model.bin": b"x"})
    hub.add("ann/bert", {"config.json": b'{"model_type": "bert"}', **weights})
    hub.add("timm/odd", {"config.json": b'{"architecture": "nothing"}', **weights})
    args = json.dumps({**config, "model_args": {"depths": [1]}}).encode()
    hub.add("timm/args", {"config.json": args, **weights})
    hub.add("ann/text", {"README.md": b"x"})
    for name, error, saying in (
        ("timm/pickle", WeightsError, "has no model.safetensors"),
        ("ann/bert", WeightsError, "names no `architecture`"),
        ("timm/odd", ConfigError, "unknown backbone 'nothing'"),
        ("timm/args", WeightsError, "arguments of its own \\(depths\\)"),
        ("ann/text", HubError, "neither a model of taxon nor one of timm"),
    ):
        with pytest.raises(error, match=saying):
            taxon_api.train(few, out=tmp_path / "none", model=f"hf:{name}", **SHORT)


def test_nothing_else_touches_the_network(
    run: Path,
    few: Path,
    hub: FakeHub,
    elsewhere: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_export: None,
) -> None:
    elsewhere(token="hf_ann")
    asked: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            asked.append(address)
            raise OSError("no network in this test")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    options = {**SHORT, "recipe": None, "weights": "none", "model": TINY_BACKBONE}
    taxon_api.train(few, out=tmp_path / "model", **options)
    for words in (
        ("predict", run, few / "crack"),
        ("verify", run),
        ("audit", few, "--weights", "none"),
        ("push", run, NAME, "--dry-run"),
    ):
        done = taxon(*words)
        assert done.returncode == 0, done.stderr
    assert asked == [] and hub.requests == []
    with pytest.raises(HubError, match="cannot reach"):  # it is watched
        taxon_api.push(run, NAME)
    assert asked
