"""YOLO backbones: Ultralytics' own networks, weights and preprocessing behind our interface."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import taxon as run_command
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import ConfigError, MissingDependencyError, WeightsError
from taxon.inference import load_predictor
from taxon.models import yolo
from taxon.models.backbones import (
    blocks,
    create_backbone,
    freeze_all_but_last,
    preprocessing_of,
    train_mode,
)
from taxon.models.restore import restore_classifier
from taxon.models.weights import load_pretrained
from taxon.models.zoo import ZOO, ZooEntry, find, resolve
from taxon.preprocessing.transform import resize, to_chw
from taxon.training.events import Note

YOLO = [entry for entry in ZOO if entry.source == "ultralytics"]
NAME = "yolo11n-cls"


def _in_a_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with .pt files as Ultralytics saves them, and the logits of its own network."""
    folder = tmp_path_factory.mktemp("ultralytics")
    _in_a_process(
        f"""
import torch
from ultralytics import YOLO
torch.manual_seed(1)
for name in ("yolo11n-cls", "yolo11s-cls", "yolo11n"):
    YOLO(name + ".yaml").save(r"{folder}/" + name + ".pt")
network = YOLO(r"{folder}/yolo11n-cls.pt").model.float().eval()
torch.manual_seed(2)
pictures = torch.rand(2, 3, 96, 128)
with torch.no_grad():
    _, logits = network(pictures)
linear = network.model[-1].linear
torch.save([pictures, logits, linear.weight.data, linear.bias.data], r"{folder}/logits.pth")
"""
    )
    return folder


class TestNetwork:
    @pytest.mark.parametrize("entry", YOLO, ids=lambda entry: entry.name)
    def test_listed_sizes_are_those_of_the_network(self, entry: ZooEntry) -> None:
        """Parameters in millions, multiply-adds in billions, with a classifier of 1000 classes."""
        backbone = create_backbone(entry.name)
        classifier = nn.Linear(backbone.features, 1000)
        both = [*backbone.module.parameters(), *classifier.parameters()]
        assert round(sum(p.numel() for p in both) / 1e6, 2) == entry.parameters
        picture = torch.zeros(1, 3, entry.input_size, entry.input_size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            classifier(backbone.module.eval()(picture))
        assert round(counter.get_total_flops() / 2e9, 2) == entry.multiply_adds

    @pytest.mark.parametrize("name", [NAME, f"{NAME}.pt"])
    def test_both_names_are_one_backbone(self, name: str) -> None:
        assert resolve(name) == NAME and create_backbone(name).name == NAME
        assert find(name) in YOLO

    def test_unknown_size_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"'yolo11t-cls'.*Did you mean 'yolo11.-cls'"):
            create_backbone("yolo11t-cls")

    def test_last_blocks_are_the_last_layers_before_the_classifier(self) -> None:
        backbone = create_backbone(NAME)
        groups = blocks(backbone)
        assert len(groups) == 10
        assert [name for group in groups for name in group] == [
            name for name, _ in backbone.module.named_parameters()
        ]
        layers = [{name.split(".")[1] for name in group} for group in groups]
        assert layers == [*({str(i)} for i in range(9)), {"9", "10"}]
        assert freeze_all_but_last(backbone, 2) == sorted([*groups[8], *groups[9]])

    def test_frozen_layers_keep_their_statistics(self) -> None:
        backbone = create_backbone(NAME)
        freeze_all_but_last(backbone, 1)
        train_mode(backbone.module)
        before = {key: value.clone() for key, value in backbone.module.state_dict().items()}
        backbone.module(torch.rand(4, 3, 64, 64))
        changed = {
            key.split(".")[1]
            for key, value in backbone.module.state_dict().items()
            if not torch.equal(value, before[key])
        }
        assert changed == {"9", "10"}

    def test_preprocessing_is_ultralytics_own(self) -> None:
        """Its evaluation transform, where that does not round the sides: a level apart at most."""
        create_backbone(NAME)  # imports it without what it changes
        from ultralytics.data.augment import classify_transforms

        spec = preprocessing_of(create_backbone(NAME).settings)
        theirs = classify_transforms(size=224)
        rng = np.random.default_rng(0)
        for height, width in ((448, 672), (896, 448), (224, 224), (112, 168)):
            picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
            ours = to_chw(resize(picture, spec)) / 255
            ours = (ours - np.reshape(spec.mean, (3, 1, 1))) / np.reshape(spec.std, (3, 1, 1))
            np.testing.assert_allclose(ours, theirs(picture).numpy(), atol=1.001 / 255)


class TestImport:
    @pytest.mark.slow
    def test_other_backbones_do_not_load_it(self) -> None:
        loaded = _in_a_process(
            "import sys; import taxon.api.classifier; from taxon.models import build_classifier\n"
            "build_classifier(2, 'test_convnext', weights='none')\n"
            "print('ultralytics' in sys.modules, 'cv2' in sys.modules)"
        )
        assert loaded.split() == ["False", "False"]

    @pytest.mark.slow
    def test_it_changes_nothing_in_the_process_and_says_nothing(self) -> None:
        printed = _in_a_process(
            "import os, warnings; import numpy as np, torch; from PIL import Image\n"
            "from taxon.models import build_classifier\n"
            "def state(): return (Image.open, torch.save, dict(os.environ), warnings.filters[:],\n"
            "    repr(np.get_printoptions()), repr(torch._tensor_str.PRINT_OPTS))\n"
            "build_classifier(2, 'test_convnext', weights='none')\n"
            "before = state()\n"
            "build_classifier(2, 'yolo11n-cls', weights='none')\n"
            "print([a == b for a, b in zip(before, state())])"
        )
        assert printed.splitlines() == [str([True] * 6)]

    def test_missing_package_names_line_and_licence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "ultralytics", None)
        with pytest.raises(MissingDependencyError) as raised:
            create_backbone(NAME)
        assert "AGPL-3.0" in str(raised.value)
        assert "pip install 'taxon-vision[yolo]'" in str(raised.value)


class TestWeights:
    @pytest.mark.parametrize("weights", ["hub", "file"])
    def test_pickle_is_refused_without_trust(self, published: Path, weights: str) -> None:
        file = published / f"{NAME}.pt"
        given: str | Path = file if weights == "file" else weights
        with pytest.raises(WeightsError) as raised:
            load_pretrained(create_backbone(NAME), given)
        for part in ("pickle", "can run any code", "--trust-pickle", "--weights none"):
            assert part in str(raised.value)

    def test_trusted_pickle_gives_the_logits_of_ultralytics(self, published: Path) -> None:
        before = set(torch.serialization.get_safe_globals())
        backbone, origin = load_pretrained(
            create_backbone(NAME), published / f"{NAME}.pt", trust_pickle=True
        )
        # Trust in this file is no trust in the next one.
        assert set(torch.serialization.get_safe_globals()) == before
        pictures, expected, weight, bias = torch.load(published / "logits.pth")
        with torch.no_grad():
            features = backbone.module.eval()(pictures)
        torch.testing.assert_close(nn.functional.linear(features, weight, bias), expected)
        assert origin["licence"] == "agpl-3.0" and len(origin["sha256"]) == 64

    def test_published_file_is_kept_in_the_cache(
        self, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TAXON_CACHE", str(tmp_path))
        with pytest.raises(WeightsError, match="cannot be reached"):
            load_pretrained(create_backbone(NAME), "hub", trust_pickle=True)
        cached = tmp_path / "ultralytics" / f"{NAME}.pt"
        cached.write_bytes((published / f"{NAME}.pt").read_bytes())
        backbone, _ = load_pretrained(create_backbone(NAME), "hub", trust_pickle=True)
        expected = yolo.read_pickle(cached)
        for key, value in backbone.module.state_dict().items():
            assert torch.equal(value, expected[key])

    def test_safetensors_with_the_networks_own_names(self, tmp_path: Path) -> None:
        state = create_backbone(NAME).module.state_dict()
        file = tmp_path / "model.safetensors"
        save_file({**state, "model.10.linear.weight": torch.zeros(7, 1280)}, file)
        backbone, origin = load_pretrained(create_backbone(NAME), file)
        for key, value in backbone.module.state_dict().items():
            assert torch.equal(value, state[key])
        assert origin["licence"] == "agpl-3.0"

    @pytest.mark.parametrize("other", ["yolo11s-cls", "yolo11n"])
    def test_other_networks_weights_are_refused(self, published: Path, other: str) -> None:
        with pytest.raises(WeightsError, match="does not fit yolo11n-cls"):
            load_pretrained(create_backbone(NAME), published / f"{other}.pt", trust_pickle=True)

    @pytest.mark.parametrize("kind", ["empty", "text", "code", "state"])
    def test_what_is_no_model_of_ultralytics(self, tmp_path: Path, kind: str) -> None:
        """Code in a pickle does not run even when it is trusted: the loader knows its classes."""
        file, trace = tmp_path / "model.pt", tmp_path / "trace"
        if kind == "code":
            torch.save({"model": _Trap(trace)}, file)
        elif kind == "state":
            torch.save(create_backbone(NAME).module.state_dict(), file)
        else:
            file.write_bytes(b"" if kind == "empty" else b"not a model")
        with pytest.raises(WeightsError, match=r"model\.pt (cannot be read|holds no model)"):
            load_pretrained(create_backbone(NAME), file, trust_pickle=True)
        assert not trace.exists()

    def test_absent_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no such weights file"):
            load_pretrained(create_backbone(NAME), tmp_path / "model.pt", trust_pickle=True)


class _Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(_Trap(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.fixture(scope="module")
def yolo_run(
    defects: Path, published: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[taxon.Model, list[str]]:
    """A run on published weights, and what it said."""
    said: list[str] = []
    model = taxon.train(
        defects,
        out=tmp_path_factory.mktemp("runs") / "yolo",
        model=NAME,
        weights=published / f"{NAME}.pt",
        trust_pickle=True,
        epochs=3,
        overrides=["preprocessing.size=64", "preprocessing.resize=squash"],
        device="cpu",
        listener=lambda event: said.append(event.text) if isinstance(event, Note) else None,
    )
    return model, said


class TestRun:
    def test_licence_is_said_and_written(self, yolo_run: tuple[taxon.Model, list[str]]) -> None:
        model, said = yolo_run
        assert any(text.startswith("licence: AGPL-3.0: ") for text in said)
        card = (model.path / "README.md").read_text()
        assert "**agpl-3.0**. AGPL-3.0: who passes this model on" in card
        assert "library_name: ultralytics\nlicense: agpl-3.0\n" in card
        assert "timm does not know this backbone" in card and "create_model" not in card
        assert read_bundle(model.path).info.provenance.versions["ultralytics"].startswith("8.")

    def test_bundle_holds_safetensors_and_no_pickle(
        self, yolo_run: tuple[taxon.Model, list[str]]
    ) -> None:
        path = yolo_run[0].path
        config = json.loads((path / "config.json").read_text())
        assert config["library_name"] == "ultralytics" and config["model"] == NAME
        assert not {"architecture", "pretrained_cfg"} & set(config)
        assert not [*path.rglob("*.pt"), *path.rglob("*.pth"), *path.rglob("*.pkl")]
        names = set(load_file(path / "model.safetensors"))
        assert names == set(create_backbone(NAME).module.state_dict())

    def test_restored_model_and_artefact_answer_alike(
        self, yolo_run: tuple[taxon.Model, list[str]]
    ) -> None:
        path = yolo_run[0].path
        assert restore_classifier(read_bundle(path)).spec.source == "ultralytics"
        images = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
        left = load_predictor(path, backend="torch").run(images)
        right = load_predictor(path, backend="onnx").run(images)
        np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-5)

    def test_its_weights_start_another_run(self, yolo_run: tuple[taxon.Model, list[str]]) -> None:
        file = yolo_run[0].path / "model.safetensors"
        backbone, origin = load_pretrained(create_backbone(NAME), file)
        expected = load_file(file)
        assert all(torch.equal(v, expected[k]) for k, v in backbone.module.state_dict().items())
        assert origin["licence"] == "agpl-3.0"


@pytest.mark.parametrize(("trust", "saying"), [(False, "is a pickle"), (True, "does not fit")])
def test_trust_is_an_option_of_train(
    defects: Path, published: Path, tmp_path: Path, trust: bool, saying: str
) -> None:
    """Another network's file: with trust it is read, and then it does not fit."""
    weights = published / "yolo11s-cls.pt"
    command = ["train", defects, "--model", NAME, "--weights", weights, "--out", tmp_path / "run"]
    done = run_command(*command, *(["--trust-pickle"] if trust else []))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and saying in line


def test_random_weights_state_the_licence_of_the_code() -> None:
    _, origin = load_pretrained(create_backbone(NAME), "none")
    assert origin["licence"] == "agpl-3.0"
