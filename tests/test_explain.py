"""Explanations: the map is hot where the class is decided, whichever way it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_evaluation import multiclass, multilabel
from torch import nn

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import BundleError, ImageError, MissingDependencyError
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.evaluation.explain import Explainer, Heat, Occlusion, choose, choose_method, pictures
from taxon.evaluation.explain.pictures import overlay
from taxon.inference import Outputs
from taxon.models.backbones import create_backbone
from taxon.models.classifier import Classifier, InferenceModule
from taxon.preprocessing import Preprocessing

SIDE = 64
SPOT = 20
CORNERS = ("top left", "top right", "bottom left", "bottom right")


def picture(corner: str, colour: int, seed: int = 0) -> np.ndarray:
    """Noise with a spot in one corner, whose channel alone tells the class."""
    image = np.random.default_rng(seed).integers(90, 150, (3, SIDE, SIDE)).astype(np.uint8)
    rows = slice(4, 4 + SPOT) if "top" in corner else slice(SIDE - 4 - SPOT, SIDE - 4)
    columns = slice(4, 4 + SPOT) if "left" in corner else slice(SIDE - 4 - SPOT, SIDE - 4)
    image[:, rows, columns] = 10
    image[colour, rows, columns] = 245
    return image


def corner_of(heat: np.ndarray) -> str:
    """Where the map is highest."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    height, width = heat.shape
    return f"{'top' if row < height / 2 else 'bottom'} {'left' if column < width / 2 else 'right'}"


class CornerModel:
    """Says class 1 by how bright the top right corner is."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, images: np.ndarray) -> Outputs:
        self.batches.append(len(images))
        light = images[:, :, :16, -16:].mean(axis=(1, 2, 3)) / 255
        probabilities = np.stack([1 - light, light], axis=1).astype(np.float32)
        return Outputs(logits=np.log(probabilities + 1e-6), probabilities=probabilities)


class TestOcclusion:
    def test_hottest_where_the_class_is_decided(self) -> None:
        model = CornerModel()
        image = np.zeros((3, SIDE, SIDE), np.uint8)
        image[:, :16, -16:] = 250
        heat = Occlusion(model).heat(image, 1)
        assert heat.map.shape == (7, 7) and heat.map.max() == 1
        assert corner_of(heat.map) == "top right"
        assert (heat.map[3:, :] == 0).all() and (heat.map[:, :4] == 0).all()
        assert "in place of 98.0 %" in heat.words
        assert sum(model.batches) == 50 and max(model.batches) <= 16

    def test_nothing_found(self) -> None:
        heat = Occlusion(CornerModel()).heat(np.full((3, SIDE, SIDE), 99, np.uint8), 1)
        assert not heat.map.any() and "no part" in heat.words


def trained(backbone: str) -> InferenceModule:
    """A tiny network that has learnt the colour of the spot, wherever it is."""
    torch.manual_seed(0)
    spec = Preprocessing(height=SIDE, width=SIDE)
    classifier = Classifier(create_backbone(backbone, input_size=(SIDE, SIDE)), "linear", 2)
    policy = DecisionPolicy.default(LabelSpace.flat("multiclass", ["red", "green"]))
    module = InferenceModule(classifier, spec, policy, "multiclass").train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for step in range(40):
        colours = [place % 2 for place in range(16)]
        images = [
            picture(CORNERS[(place + step) // 2 % 4], colour, 100 * step + place)
            for place, colour in enumerate(colours)
        ]
        loss = nn.functional.cross_entropy(
            module(torch.from_numpy(np.stack(images)))[1], torch.tensor(colours)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
    return module.eval()


class TestGradCam:
    @pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
    def test_hottest_where_the_class_is_decided(self, backbone: str) -> None:
        pytest.importorskip("pytorch_grad_cam")
        from taxon.evaluation.explain.cam import GradCam

        method = GradCam(trained(backbone), (SIDE, SIDE))
        for corner in CORNERS:
            for colour in (0, 1):
                heat = method.heat(picture(corner, colour, 7), colour)
                assert heat.map.shape == (SIDE, SIDE)
                assert corner_of(heat.map) == corner, (corner, colour)

    def test_network_without_places_is_refused(self) -> None:
        pytest.importorskip("pytorch_grad_cam")
        from taxon.evaluation.explain.cam import GradCam

        backbone = create_backbone("test_convnext")
        classifier = Classifier(backbone, "linear", 2)
        backbone.module.forward = lambda images: torch.zeros(len(images), backbone.features)  # type: ignore[method-assign]
        policy = DecisionPolicy.default(LabelSpace.flat("multiclass", ["a", "b"]))
        module = InferenceModule(classifier, Preprocessing(), policy, "multiclass")
        with pytest.raises(LookupError, match="no layer"):
            GradCam(module, (SIDE, SIDE))


class TestChoice:
    def test_by_what_is_installed_and_what_the_head_sees(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pytorch_grad_cam")
        bundle = read_bundle(run)
        assert choose_method(bundle, CornerModel())[0].name == "Grad-CAM"
        info = bundle.info.model_copy(update={"pooling": "blocks"})
        statistics = type(bundle)(bundle.path, info, bundle.spec)
        assert choose_method(statistics, CornerModel())[0].name == "occlusion"
        monkeypatch.setattr(choose, "has_grad_cam", lambda: False)
        method, note = choose_method(bundle, CornerModel())
        assert method.name == "occlusion" and note is None

    @pytest.mark.parametrize(
        "error",
        [
            MissingDependencyError("this needs ultralytics"),
            BundleError("the weights do not load"),
            RuntimeError("out of memory"),
        ],
    )
    def test_a_model_that_cannot_be_restored_is_explained_by_occlusion(
        self, error: Exception, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pytorch_grad_cam")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("taxon.evaluation.explain.cam.GradCam", fail)
        evaluation = taxon.evaluate(run, out=tmp_path / "out")
        (note,) = [note for note in evaluation.notes if "Grad-CAM failed" in note]
        assert "occlusion" in note and str(error) in note
        assert "by occlusion" in evaluation.report.read_text("utf-8")


class Broken:
    """Explains one picture, then no more."""

    name, words = "a broken method", "made up"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def heat(self, image: np.ndarray, column: int) -> Heat:
        self.asked += 1
        if self.asked > 1:
            raise self.error
        return Heat(np.eye(4, dtype=np.float32))


class TestExplainer:
    def test_unreadable_pictures_are_left_out(self) -> None:
        def load(name: str) -> np.ndarray:
            if name == "gone":
                raise ImageError(name, "gone", kind="missing")
            return picture("top right", 1)

        explainer = Explainer(Occlusion(CornerModel()), load)
        found = explainer([("here", 1), ("gone", 1)])
        assert list(found) == [("here", 1)] and explainer.notes == []
        assert found["here", 1].image.startswith("data:image/jpeg;base64,")

    def test_ends_after_its_time_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "SECONDS", -1.0)
        explainer = Explainer(Occlusion(CornerModel()), lambda _: picture("top left", 0))
        assert explainer([("a", 0), ("b", 0)]) == {}
        assert len(explainer.notes) == 1 and "0 of 2 pictures" in explainer.notes[0]

    @pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError("full")])
    def test_what_fails_gives_way_to_the_fallback(self, error: Exception) -> None:
        def load(_: str) -> np.ndarray:
            return picture("top right", 1)

        asked = [("a", 1), ("b", 1)]
        explainer = Explainer(Broken(error), load, Occlusion(CornerModel()))
        found = explainer(asked)
        assert list(found) == asked and all(each.words for each in found.values())
        assert explainer.method.name == "occlusion"
        (note,) = explainer.notes
        assert "a broken method failed" in note and str(error) in note
        alone = Explainer(Broken(error), load)
        assert alone(asked) == {}
        (note,) = alone.notes
        assert "not explained" in note and str(error) in note
        both = Explainer(Broken(error), load, Broken(error))
        assert both(asked) == {} and len(both.notes) == 2

    def test_overlay_is_grey_where_it_is_cold(self) -> None:
        heat = np.zeros((2, 2), np.float32)
        heat[0, 1] = 1.0
        drawn = np.asarray(overlay(picture("top right", 1), heat)).astype(int)
        cold, hot = drawn[-8:, :8], drawn[:8, -8:]
        assert (cold.max(axis=-1) - cold.min(axis=-1)).max() <= 2
        assert (hot.max(axis=-1) - hot.min(axis=-1)).min() > 20


class TestReport:
    @pytest.mark.parametrize("make", [multiclass, multilabel])
    def test_at_most_24_answers_of_all_galleries(self, make: Any, tmp_path: Path) -> None:
        asked: list[str] = []

        def load(name: str) -> np.ndarray:
            asked.append(name)
            return picture("top left", 0)

        class Model(CornerModel):
            def run(self, images: np.ndarray) -> Outputs:
                every = np.full((len(images), 6), 0.5, np.float32)
                return Outputs(logits=every, probabilities=every)

        text = make().report(tmp_path, explainer=Explainer(Occlusion(Model()), load))
        assert len(asked) == 24
        assert "Show what the model looked at" in text and "occlusion" in text
        assert text.count('class="heat" ') >= 24
        assert "Show what the model looked at" not in make().report(tmp_path)

    def test_the_method_that_was_used_is_named(self, tmp_path: Path) -> None:
        class Sound(Broken):
            name, words = "a sound method", "made as well"

            def heat(self, image: np.ndarray, column: int) -> Heat:
                return Heat(np.eye(4, dtype=np.float32))

        error = RuntimeError("no more")
        explainer = Explainer(Broken(error), lambda _: picture("top left", 0), Sound(error))
        text = multiclass().report(tmp_path, explainer=explainer)
        assert "a sound method" in text and "made as well" in text and "made up" not in text

    def test_evaluate_explains_unless_told_not_to(self, run: Path, tmp_path: Path) -> None:
        with_maps = taxon.evaluate(run, out=tmp_path / "a").report.read_text("utf-8")
        without = taxon.evaluate(run, out=tmp_path / "b", explain=False).report.read_text("utf-8")
        assert 'class="heat"' in with_maps and 'class="heat"' not in without
