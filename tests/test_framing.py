"""Frozen features, the probe on them, and the framing that is chosen by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_classes, pattern
from PIL import Image

from taxon.core.predictions import FloatArray
from taxon.data import Columns, Manifest, load_manifest
from taxon.data.loading import loader
from taxon.models.backbones import create_backbone, preprocessing_of
from taxon.models.features import extract_features
from taxon.models.probe import out_of_fold_probabilities
from taxon.models.weights import load_pretrained
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.transform import kept_area
from taxon.training.candidates import Probes
from taxon.training.framing import Framing, choose_framing, framing_by_shape, suits_dct_scaling


def test_features_are_the_same_in_any_batch_size_and_counted(
    defects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(defects)
    backbone = create_backbone("test_convnext")
    spec = preprocessing_of(backbone.settings).model_copy(update={"height": 64, "width": 64})
    told: list[tuple[int, int]] = []
    some = manifest.records[:10]
    together = extract_features(backbone, some, spec)
    monkeypatch.setattr(loader, "_MOST", 4)
    features = extract_features(
        backbone, some, spec, progress=lambda done, total: told.append((done, total))
    )
    assert features.shape == (10, backbone.features) and features.dtype == np.float32
    assert np.allclose(features, together, atol=1e-5)
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert extract_features(backbone, [], spec).shape == (0, backbone.features)


def test_probe_tells_what_features_tell_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 40)
    groups = np.arange(120)
    noise = rng.normal(size=(120, 8)).astype(np.float32)
    telling = noise.copy()
    telling[:, :2] += 6 * np.eye(3, 2)[targets]
    found = out_of_fold_probabilities(telling, targets, groups, classes=3, seed=0)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(1) == targets).mean() > 0.9
    blind = out_of_fold_probabilities(noise, targets, groups, classes=3, seed=0)
    assert (blind.argmax(1) == targets).mean() < 0.55


def test_probe_never_sees_a_picture_of_the_group() -> None:
    # Each group has a signature of its own and one label: only a leak could tell the label.
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 6)
    labels = rng.integers(0, 2, 30)
    features = (rng.normal(size=(30, 16)) * 5)[groups] + rng.normal(size=(180, 16)) * 0.01
    arguments = (features.astype(np.float32), labels[groups])
    kept = out_of_fold_probabilities(*arguments, groups, classes=2, seed=0)
    leaking = out_of_fold_probabilities(*arguments, np.arange(180), classes=2, seed=0)
    right = [float((found.argmax(1) == labels[groups]).mean()) for found in (kept, leaking)]
    assert right[0] < 0.75 < 0.85 < right[1]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_probe_takes_any_targets(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    classes = data.draw(st.integers(2, 4))
    multilabel = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (count, classes) if multilabel else (count,)
    targets = rng.integers(0, 2 if multilabel else classes, shape)
    groups = np.append(rng.integers(0, 3, count - 2), [3, 4])
    features = rng.normal(size=(count, 3)).astype(np.float32)
    found = out_of_fold_probabilities(features, targets, groups, classes=classes, seed=0)
    assert found.shape == (count, classes)
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()


def _strips(folder: Path, *, at_the_end: bool) -> Manifest:
    """Strips of 240x40; the classes differ at an end, where no centre crop looks, or nowhere."""
    rng = np.random.default_rng(0)
    for position in range(120):
        label = "marked" if position % 2 else "plain"
        pixels = rng.integers(90, 160, (40, 240, 3), dtype=np.uint8)
        if label == "marked" and at_the_end:
            pixels[:, :30] = pattern(30, 40, 5)
        path = folder / label / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return load_manifest(folder)


def test_framing_follows_the_evidence(tmp_path: Path) -> None:
    manifest = _strips(tmp_path / "ends", at_the_end=True)
    backbone = create_backbone("test_convnext")
    spec = Preprocessing(height=64, width=64)
    chosen = choose_framing(Probes(backbone, manifest, seed=0, device="cpu"), spec, "last")
    assert chosen.mode in ("squash", "pad")
    assert "macro-F1" in chosen.reason and "crop 0." in chosen.reason


def test_a_better_framing_by_chance_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _strips(tmp_path / "same", at_the_end=False)
    targets = manifest.targets()
    monkeypatch.setattr(
        "taxon.training.candidates.extract_features",
        lambda *_, **__: np.zeros((120, 1), np.float32),
    )

    def choose(right: dict[str, int]) -> Framing:
        """The choice where the probe names so many of the 120 pictures of each framing right."""
        counts = iter([right[mode] for mode in ("crop", "squash", "pad")])

        def probabilities(*_: object, **__: object) -> FloatArray:
            named = np.where(np.arange(120) < next(counts), targets, 1 - targets)
            return (0.1 + 0.8 * np.eye(2)[named]).astype(np.float32)

        monkeypatch.setattr("taxon.training.candidates.out_of_fold_probabilities", probabilities)
        backbone = create_backbone("test_convnext")
        spec = Preprocessing(height=64, width=64, resize="crop")
        return choose_framing(Probes(backbone, manifest, seed=0, device="cpu"), spec, "last")

    chance = choose({"crop": 80, "squash": 81, "pad": 79})
    assert chance.mode == "crop" and "not surely worse" in chance.reason
    better = choose({"crop": 80, "squash": 110, "pad": 79})
    assert better.mode == "squash" and "squash is better in 100% of resamples" in better.reason


def test_without_a_probe_the_shape_decides() -> None:
    manifest = make_classes({"a": 40, "b": 40})

    def mode(width: int, height: int) -> str:
        shaped = [replace(record, width=width, height=height) for record in manifest.records]
        chosen = framing_by_shape(shaped, Preprocessing(), "few pictures")
        assert "few pictures" in chosen.reason
        return chosen.mode

    assert mode(400, 400) == "crop"
    assert mode(400, 100) == "squash"


def test_kept_area() -> None:
    spec = Preprocessing(crop_fraction=1.0)
    assert kept_area((300, 300), spec) == pytest.approx(1)
    assert kept_area((400, 100), spec) == pytest.approx(0.25)


def test_dct_scaling_suits_large_jpegs_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pattern(400, 300, len(name))).save(tmp_path / name / "x.jpg")
    records = load_manifest(tmp_path).records
    assert suits_dct_scaling(records, Preprocessing(height=64, width=64))
    assert not suits_dct_scaling(records, Preprocessing(height=224, width=224))


@pytest.mark.slow
def test_strips_of_real_tiles_are_not_cropped(shared: Path) -> None:
    name = "tf_mobilenetv3_small_100"
    weights = shared / "weights" / name / "model.safetensors"
    backbone, _ = load_pretrained(create_backbone(name), weights)
    table = shared / "data" / "magnetic_tile" / "labels.csv"
    train = load_manifest(table, Columns(group="tile_group")).part("train")
    # Whole tiles, every third: enough to tell.
    groups = sorted({record.group or "" for record in train.records})[::3]
    train = train.where(lambda record: record.group in groups)
    spec = preprocessing_of(backbone.settings)
    chosen = choose_framing(Probes(backbone, train, seed=0, device="cpu"), spec, "last")
    assert chosen.mode in ("squash", "pad"), chosen.reason
