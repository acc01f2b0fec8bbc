"""The runner for small devices: taxon's own sources, where there are only NumPy and Pillow.

It runs in an environment without pydantic and torch, and must answer as `taxon predict` does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_environment import Done, bare_python, run_bare
from pictures import encode, pattern
from PIL import Image

import taxon
from taxon.bundle.artefact import ARTEFACT_VERSION
from taxon.core.errors import ImageError, TaxonError
from taxon.core.fingerprint import sha256_bytes
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy, decide
from taxon.decision.policy import PredictionSets, Scope
from taxon.exporters import portable
from taxon.exporters.portable import RUNNER_FILE, package_files, portable_source, write_runner
from taxon.exporters.shipped import frozen_model, runner
from taxon.exporters.shipped.host import Host
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.transform import to_chw

KINDS = ("multiclass", "multilabel", "taxonomy")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare") / "env", "numpy", "PIL", "onnxruntime")


@pytest.fixture(scope="module")
def artefacts(
    run: Path, tags_run: Path, surfaces_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One ONNX artefact a task, each with the runner beside it."""
    folder = tmp_path_factory.mktemp("artefacts")
    taxon.export(run, "onnx", out=folder)
    folders = {"multiclass": folder / "onnx"}
    for kind, model in (("multilabel", tags_run), ("taxonomy", surfaces_run)):
        folders[kind] = Path(shutil.copytree(model / "artefacts" / "onnx", folder / kind))
        write_runner(folders[kind])
    return folders


@pytest.fixture(scope="module")
def pictures(defects: Path, tags: Path, surfaces: Path) -> dict[str, list[Path]]:
    """Some pictures of each data set, of all its folders."""
    return {
        kind: sorted(folder.rglob("*.jpg"))[::5]
        for kind, folder in zip(KINDS, (defects, tags, surfaces), strict=True)
    }


def _classify(python: Path, folder: Path, *arguments: str | Path) -> Done:
    return run_bare(python, RUNNER_FILE, *arguments, folder=folder)


@pytest.mark.parametrize("package", ["pydantic", "torch", "taxon", "yaml", "scipy"])
def test_environment_is_bare(python: Path, package: str, tmp_path: Path) -> None:
    assert run_bare(python, "-c", "import numpy, PIL, onnxruntime", folder=tmp_path).returncode == 0
    done = run_bare(python, "-c", f"import {package}", folder=tmp_path)
    assert f"No module named '{package}'" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_predict(
    python: Path,
    artefacts: dict[str, Path],
    pictures: dict[str, list[Path]],
    kind: str,
    tmp_path: Path,
) -> None:
    damaged = tmp_path / "señal.jpg"
    damaged.write_bytes(pictures[kind][0].read_bytes()[:-400])
    paths = [*pictures[kind], damaged, tmp_path / "nothing.png", tmp_path]
    done = _classify(python, artefacts[kind], "--top", "3", *paths)
    assert done.returncode == 3
    assert done.stderr == f"error: 3 of {len(paths)} pictures could not be read\n"
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    predictor = taxon.load(artefacts[kind]).predictor
    expected = [each.model_dump(mode="json") for each in predictor.predict(paths, top=3)]
    assert len(expected) == len(paths) and len(paths) > 20
    assert [list(answer) for answer in answers] == [list(each) for each in expected]
    assert [_rounded(answer) for answer in answers] == [_rounded(each) for each in expected]


def _rounded(value: Any) -> Any:
    """Batches of another size may differ in the last bits."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


def test_all_pictures_readable_ends_with_0(
    python: Path, artefacts: dict[str, Path], pictures: dict[str, list[Path]]
) -> None:
    done = _classify(python, artefacts["multiclass"], pictures["multiclass"][0])
    assert (done.returncode, done.stderr) == (0, "")


def test_benchmark(
    python: Path, artefacts: dict[str, Path], pictures: dict[str, list[Path]], tmp_path: Path
) -> None:
    folder = artefacts["multiclass"]
    done = _classify(python, folder, "--benchmark", *pictures["multiclass"], tmp_path / "nothing")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["runtime"] == "onnxruntime"
    assert measured["pictures"] == len(pictures["multiclass"]) and measured["rounds"] == 50
    parts = [measured[f"{name}_ms"] for name in ("prepare", "graph", "decide", "total")]
    assert all(0 < part["p50"] <= part["p95"] for part in parts)
    assert measured["total_ms"]["p50"] < 1.5 * sum(part["p95"] for part in parts[:3])
    none = _classify(python, folder, "--benchmark", tmp_path / "nothing")
    assert none.returncode == 2 and "none of the pictures can be read" in none.stderr


# Runs where there is no taxon: prepares files by several specs, and decides by several policies.
DRIVER = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from taxon_portable.core.errors import ImageError
from taxon_portable.host import Host
cases = json.load(sys.stdin)
for case in cases["specs"]:
    host = Host(case)
    for name in cases["pictures"]:
        try:
            image = host.prepare(Path(name).read_bytes(), name)
            print(json.dumps([str(image.dtype), image.shape, hashlib.sha256(image.tobytes()).hexdigest()]))
        except ImageError as error:
            print(json.dumps([error.reason, error.kind]))
    for scope, row in cases["rows"]:
        row = np.array(row, np.float32)[: len(host.label_space.names)]
        print(json.dumps(host.answer("x", row, scope)))
assert not {"pydantic", "torch", "taxon"} & set(sys.modules)
"""  # noqa: E501


def _drive(python: Path, folder: Path, cases: dict[str, Any]) -> list[Any]:
    text = json.dumps(cases)
    done = run_bare(python, "-c", DRIVER, RUNNER_FILE, folder=folder, text=text)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _spec(
    space: LabelSpace, policy: DecisionPolicy | None = None, **preprocessing: Any
) -> dict[str, Any]:
    """The part of an artefact's spec that the host needs."""
    chosen = policy or DecisionPolicy.default(space)
    return {
        "label_space": space.model_dump(mode="json"),
        "preprocessing": Preprocessing(**preprocessing).model_dump(mode="json"),
        "policy": chosen.model_dump(mode="json"),
    }


def _variety(folder: Path) -> list[str]:
    """Pictures of many kinds, two of which cannot be read."""
    rgb = Image.fromarray(pattern(90, 61))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(pattern(90, 61, 3)[..., 0]))
    clear = rgb.quantize(16)
    clear.info["transparency"] = 3
    deep = np.arange(90 * 61, dtype=np.uint16).reshape(61, 90) * 11
    exif = Image.Exif()
    files: dict[str, bytes] = {}
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        files[f"turned{orientation}.jpg"] = encode(rgb, "JPEG", exif=exif, quality=90)
    files |= {
        "plain.png": encode(rgb),
        "large.jpg": encode(Image.fromarray(pattern(700, 500)), "JPEG"),
        "strip.webp": encode(Image.fromarray(pattern(300, 9)), "WEBP", lossless=True),
        "alpha.png": encode(alpha),
        "grey-alpha.png": encode(alpha.convert("LA")),
        "palette.png": encode(clear),
        "bits.png": encode(rgb.convert("1")),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "deep.png": encode(deep),
        "deep.tif": encode(deep, "TIFF"),
        "turned.tif": encode(rgb, "TIFF", exif=exif),
        "animated.gif": encode(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        "short.jpg": encode(rgb, "JPEG")[:-900],
        "float.tif": encode(deep.astype(np.float32), "TIFF"),
        "empty.png": b"",
        "words.png": b"no picture at all",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in files]


SPECS: tuple[dict[str, Any], ...] = (
    *(
        {"resize": resize, "interpolation": interpolation, "height": 32, "width": 47}
        for resize in ("crop", "squash", "pad")
        for interpolation in ("bilinear", "bicubic", "lanczos")
    ),
    {"height": 64, "width": 64, "jpeg_dct_scaling": True, "truncated": "fill"},
    {"height": 24, "width": 40, "exif_orientation": False, "background": 0, "resize": "pad"},
    {"height": 40, "width": 24, "crop_fraction": 1.0, "max_pixels": 20_000},
)


def test_preprocessing_is_equal_to_the_bit(
    python: Path, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    space = LabelSpace.flat("multiclass", ["a", "b"])
    names = _variety(tmp_path)
    specs = [_spec(space, **each) for each in SPECS]
    cases = {"specs": specs, "pictures": names, "rows": []}
    found = _drive(python, artefacts["multiclass"], cases)
    expected = [_prepared(name, Preprocessing(**each)) for each in SPECS for name in names]
    assert found == expected
    refused = sum(len(each) == 2 for each in expected)
    assert refused >= 3 * len(SPECS) and len({each[-1] for each in expected}) > len(expected) // 2


def _prepared(name: str, spec: Preprocessing) -> list[Any]:
    try:
        image = prepare(Path(name).read_bytes(), spec, name)
    except ImageError as error:
        return [error.reason, error.kind]
    return [str(image.dtype), list(image.shape), sha256_bytes(image.tobytes())]


def _policies() -> list[tuple[LabelSpace, DecisionPolicy]]:
    """All that a policy can say, over flat classes, tags and a taxonomy."""
    flat = LabelSpace.flat("multiclass", "abcdef")
    tags = LabelSpace.flat("multilabel", "abcdef")
    paths = [("p", "a"), ("p", "b"), ("q", "c", "x"), ("q", "c", "y"), ("q", "d"), ("r",)]
    tree = LabelSpace.taxonomy(paths)
    plain, sixths = DecisionPolicy.default(flat), tuple(place / 10 for place in range(1, 7))
    costs = tuple(tuple(float((i - j) ** 2) for j in range(6)) for i in range(6))
    lac = PredictionSets(method="lac", coverage=0.9, limits=(0.8,))
    raps = PredictionSets(method="raps", coverage=0.8, limits=sixths, penalty=0.05, free=1)
    scope = Scope(method="energy", energy=(1.0, 2.0), nearest=None, limit=-0.5, in_scope_share=0.98)
    changes: list[tuple[LabelSpace, dict[str, Any]]] = [
        (flat, {}),
        (flat, {"abstain_below": 0.4, "sets": lac, "scope": scope}),
        (flat, {"costs": costs, "sets": raps}),
        (flat, {"abstain_below": 2.0}),
        (tags, {"thresholds": sixths}),
        (tags, {"thresholds": sixths, "abstain_below": 0.2, "scope": scope}),
        (tree, {"taxonomy_confidence": 0.6, "sets": lac}),
        (tree, {"taxonomy_rule": "least-risk", "taxonomy_confidence": 0.3}),
    ]
    return [(space, plain.model_copy(update=change)) for space, change in changes]


def test_decisions_are_equal(python: Path, artefacts: dict[str, Path]) -> None:
    rows = _rows()
    policies = _policies()
    cases = {"specs": [_spec(*each) for each in policies], "pictures": [], "rows": rows}
    found = _drive(python, artefacts["multiclass"], cases)
    expected = [
        decide("x", np.array(row, np.float32), space, policy, scope=scope).model_dump(mode="json")
        for space, policy in policies
        for scope, row in rows
    ]
    assert found == expected
    for field in ("unsure", "out_of_scope", "label", "labels", "prediction_set", "taxonomy"):
        assert len({str(each[field]) for each in expected}) > 1, field  # or nothing is shown


def _rows() -> list[tuple[float | None, list[float]]]:
    """Probabilities of six classes, ties and certainty among them, with scopes."""
    generator = np.random.default_rng(0)
    drawn = generator.dirichlet(np.full(6, 0.5), 40).astype(np.float32)
    special = np.array([[1 / 6] * 6, [0.5, 0, 0.5, 0, 0, 0], [0, 0, 0, 1, 0, 0]], np.float32)
    scopes = [None, 1.0, -3.0, -0.5]
    return [(scopes[position % 4], row.tolist()) for position, row in enumerate([*drawn, *special])]


def test_runner_is_written_by_export_alone(
    run: Path, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    assert not (run / "artefacts" / "onnx" / RUNNER_FILE).exists()  # by `train`
    file = artefacts["multiclass"] / RUNNER_FILE
    assert file.stat().st_mode & 0o111
    assert write_runner(tmp_path).read_bytes() == file.read_bytes()
    info = json.loads((artefacts["multiclass"] / "artefact.json").read_text())
    assert any(f"python3 {RUNNER_FILE}" in note for note in info["notes"])
    assert RUNNER_FILE not in info["files"]


def test_sources_are_the_very_ones() -> None:
    """But for the names in their imports."""
    source = Path(prepare.__code__.co_filename)
    packed = package_files()["taxon_portable/preprocessing/transform.py"].decode()
    changed = [
        (before, after)
        for before, after in zip(source.read_text().splitlines(), packed.splitlines(), strict=True)
        if before != after
    ]
    assert changed == [
        (f"from taxon.preprocessing.{name}", f"from taxon_portable.preprocessing.{name}")
        for name in ("decode import decode", "spec import Preprocessing")
    ]


def test_import_of_what_is_not_there_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaxonError, match=r"taxon\.config\.load imports yaml"):
        portable_source("taxon.config.load")
    with pytest.raises(TaxonError, match=r"shipped\.torchserve_handler imports torch"):
        portable_source("taxon.exporters.shipped.torchserve_handler")
    monkeypatch.delattr(frozen_model, "model_validator")
    with pytest.raises(TaxonError, match=r"taxon\.core\.labels imports model_validator"):
        package_files()
    fewer = tuple(name for name in portable.MODULES if name != "taxon.core.labels")
    monkeypatch.setattr(portable, "MODULES", fewer)
    with pytest.raises(TaxonError, match=r"imports taxon_portable\.core\.labels"):
        package_files()


def _copied(artefacts: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(artefacts["multiclass"], tmp_path / "copy"))


def _refuses(done: Done, words: str) -> None:
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_artefact_that_is_not_whole(
    python: Path, artefacts: dict[str, Path], tmp_path: Path
) -> None:
    folder = _copied(artefacts, tmp_path)
    model, info = folder / "model.onnx", folder / "artefact.json"
    content, described = model.read_bytes(), json.loads(info.read_text())
    model.write_bytes(content[:-9])
    _refuses(_classify(python, folder, "x.jpg"), "model.onnx does not have the sha256")
    described["files"]["model.onnx"] = sha256_bytes(content[:-9])
    info.write_text(json.dumps(described))
    _refuses(_classify(python, folder, "x.jpg"), "model.onnx cannot be loaded by onnxruntime")
    model.unlink()
    _refuses(_classify(python, folder, "x.jpg"), "copy the whole folder")
    info.write_text(json.dumps({**described, "format_version": ARTEFACT_VERSION + 1}))
    _refuses(_classify(python, folder, "x.jpg"), f"format version {ARTEFACT_VERSION + 1}")
    described["spec"]["preprocessing"]["version"] = 2
    info.write_text(json.dumps(described))
    _refuses(_classify(python, folder, "x.jpg"), "Preprocessing.version cannot be 2")
    info.write_text("{")
    _refuses(_classify(python, folder, "x.jpg"), "artefact.json is damaged")


def test_runtime_that_is_not_installed(artefacts: dict[str, Path], tmp_path: Path) -> None:
    python = bare_python(tmp_path / "env", "numpy", "PIL")
    _refuses(_classify(python, artefacts["multiclass"], "x.jpg"), "pip install onnxruntime")
    folder = _copied(artefacts, tmp_path)
    described = json.loads((folder / "artefact.json").read_text())
    (folder / "model.tflite").write_bytes(b"TFL3")
    described |= {"file": "model.tflite", "files": {"model.tflite": sha256_bytes(b"TFL3")}}
    (folder / "artefact.json").write_text(json.dumps(described))
    _refuses(_classify(python, folder, "x.jpg"), "pip install ai-edge-litert")


# As far as the runner uses it; what it computes with is the ONNX of the same model.
LITERT = """
import numpy as np
import onnxruntime

class Interpreter:
    def __init__(self, model_path, num_threads):
        self._session = onnxruntime.InferenceSession(model_path)
        assert num_threads >= 1

    def allocate_tensors(self):
        self._allocated = True

    def get_signature_runner(self):
        assert self._allocated
        return _Signature(self._session)

class _Signature:
    def __init__(self, session):
        self._session = session

    def get_input_details(self):
        return {"pixels": {}}

    def __call__(self, *, pixels):
        assert pixels.dtype == np.uint8 and pixels.shape == (1, 32, 32, 3)
        assert pixels.flags["C_CONTIGUOUS"]
        names = [output.name for output in self._session.get_outputs()][::-1]
        values = self._session.run(names, {"images": pixels.transpose(0, 3, 1, 2)})
        return dict(zip(names, values))
"""


@pytest.mark.parametrize("package", ["ai_edge_litert", "tflite_runtime"])
def test_tflite_gets_channels_last_and_is_read_by_names(
    artefacts: dict[str, Path], pictures: dict[str, list[Path]], package: str, tmp_path: Path
) -> None:
    """The real runtime reads what the exporter writes in the tests of that format."""
    python = bare_python(tmp_path / "env", "numpy", "PIL", "onnxruntime")
    (site_packages,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    (site_packages / package).mkdir()
    (site_packages / package / "__init__.py").touch()
    (site_packages / package / "interpreter.py").write_text(LITERT)
    expected = _classify(python, artefacts["multiclass"], *pictures["multiclass"])
    folder = _copied(artefacts, tmp_path)
    model = (folder / "model.onnx").rename(folder / "model.tflite")
    described = json.loads((folder / "artefact.json").read_text())
    described |= {"file": model.name, "files": {model.name: sha256_bytes(model.read_bytes())}}
    (folder / "artefact.json").write_text(json.dumps(described))
    done = _classify(python, folder, *pictures["multiclass"])
    assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr


def test_version_of_the_artefact_is_the_one_that_is_written() -> None:
    assert runner.ARTEFACT_VERSION == ARTEFACT_VERSION


def test_frames_go_in_whole() -> None:
    spec = _spec(LabelSpace.flat("multiclass", ["a", "b"]))
    host = Host(spec, frame=(64, 48))
    frame = encode(pattern(64, 48))
    expected = to_chw(decode(frame, Preprocessing(), "frame"))
    np.testing.assert_array_equal(host.prepare(frame, "frame"), expected)
    with pytest.raises(ImageError, match=r"is 48x64 pixels; .* takes 64x48 alone"):
        host.prepare(encode(pattern(48, 64)), "frame")


class _Inner(frozen_model.BaseModel):
    share: float = frozen_model.Field(default=0.5, ge=0)
    pair: tuple[int, int] | None = None


class _Outer(frozen_model.BaseModel):
    inner: _Inner
    names: tuple[str, ...] = ()
    parents: dict[str, str] = {}


def test_stand_in_for_pydantic() -> None:
    made = _Outer.model_validate({"inner": {"share": 1, "pair": [1, 2]}, "names": ["a"]})
    assert (made.inner.share, made.inner.pair, made.names, made.parents) == (
        1.0,
        (1, 2),
        ("a",),
        {},
    )
    assert made.model_dump(mode="json") == {
        "inner": {"share": 1.0, "pair": [1, 2]},
        "names": ["a"],
        "parents": {},
    }
    with pytest.raises(AttributeError, match="frozen"):
        made.names = ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "_Outer lacks the field 'inner'"),
        ({"inner": {}, "more": 1}, "_Outer has no field 'more'"),
        ({"inner": {"share": "1"}}, "_Inner.share cannot be '1'"),
        ({"inner": {"pair": [1, 2, 3]}}, r"_Inner.pair cannot be \[1, 2, 3\]"),
        ({"inner": {"pair": [1, True]}}, "_Inner.pair cannot be True"),
        ({"inner": {}, "names": "a"}, "_Outer.names cannot be 'a'"),
        ({"inner": 3}, "_Inner is made from an object, not from 3"),
    ],
)
def test_stand_in_refuses(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _Outer.model_validate(values)


def test_command_line_of_the_runner(
    artefacts: dict[str, Path],
    pictures: dict[str, list[Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: str) -> Sequence[str]:
        assert runner.main(artefacts["multiclass"], arguments) == 0
        return capsys.readouterr().out.splitlines()

    name = str(pictures["multiclass"][0])
    (line,) = call("--top", "2", name)
    assert len(json.loads(line)["top"]) == 2
    for wrong in ([], ["--top", "0", name], ["--top", "x", name]):
        with pytest.raises(SystemExit, match="2"):
            runner.main(artefacts["multiclass"], wrong)
