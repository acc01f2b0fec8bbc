"""The loader: the same batches for the same seed, every picture once, one preprocessing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_classes, pattern, plain, write_folders
from PIL import Image

from taxon.config import AugmentConfig
from taxon.core.errors import ImageError
from taxon.data import Manifest, load_manifest
from taxon.data.augment import augment, describe
from taxon.data.loader import evaluation_batches, training_batches
from taxon.preprocessing import Preprocessing, prepare, resize

SPEC = Preprocessing(height=16, width=24)
OFF = AugmentConfig(crop_scale=1, crop_ratio=1, horizontal_flip=0, vertical_flip=0, colour=0)
ON = AugmentConfig()
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Ten different pictures of two classes."""
    return load_manifest(write_folders(tmp_path_factory.mktemp("loader"), {"a": 6, "b": 4}))


def _train(
    manifest: Manifest,
    config: AugmentConfig = ON,
    *,
    batch_size: int = 4,
    seed: int = 0,
    epoch: int = 0,
) -> Batches:
    loader = training_batches(manifest, SPEC, config, batch_size=batch_size, seed=seed, epoch=epoch)
    return [(images, targets) for images, targets in loader]


def _equal(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, y)
        for pair in zip(one, other, strict=True)
        for x, y in zip(*pair, strict=True)
    )


def _contents(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[bytes]:
    return sorted(image.numpy().tobytes() for images, _ in batches for image in images)


def _inputs(manifest: Manifest) -> list[np.ndarray]:
    return [prepare(record.path.read_bytes(), SPEC) for record in manifest.records]


def test_training_batches_are_uint8_pictures_with_their_targets(manifest: Manifest) -> None:
    batches = _train(manifest)
    for images, targets in batches:
        assert images.dtype == torch.uint8
        assert images.shape == (len(targets), 3, 16, 24)
        assert targets.dtype == torch.int64
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == [0] * 6 + [1] * 4


def test_targets_belong_to_their_pictures(manifest: Manifest) -> None:
    known = dict(
        zip((image.tobytes() for image in _inputs(manifest)), manifest.targets(), strict=True)
    )
    for images, targets in _train(manifest, OFF):
        for image, target in zip(images, targets, strict=True):
            assert known[image.numpy().tobytes()] == target


def test_same_seed_and_epoch_give_the_same_batches(manifest: Manifest) -> None:
    assert _equal(_train(manifest, seed=3, epoch=2), _train(manifest, seed=3, epoch=2))


@pytest.mark.parametrize("config", [ON, OFF])
def test_other_epochs_and_seeds_give_other_batches(
    manifest: Manifest, config: AugmentConfig
) -> None:
    first = _train(manifest, config)
    assert not _equal(first, _train(manifest, config, epoch=1))
    assert not _equal(first, _train(manifest, config, seed=1))


def test_views_change_from_epoch_to_epoch(manifest: Manifest) -> None:
    first, second = _contents(_train(manifest)), _contents(_train(manifest, epoch=1))
    assert not set(first) & set(second)


@pytest.mark.parametrize("batch_size", [3, 4, 9, 10, 64])
def test_every_picture_is_shown_once_an_epoch(manifest: Manifest, batch_size: int) -> None:
    expected = sorted(image.tobytes() for image in _inputs(manifest))
    assert _contents(_train(manifest, OFF, batch_size=batch_size)) == expected


@pytest.mark.parametrize("batch_size", [3, 10])
def test_views_do_not_depend_on_the_batch_size(manifest: Manifest, batch_size: int) -> None:
    assert _contents(_train(manifest, batch_size=batch_size)) == _contents(_train(manifest))


@given(st.integers(2, 300), st.integers(3, 70))
@settings(max_examples=100, deadline=None)
def test_batches_are_of_nearly_equal_size_and_never_of_one(count: int, batch_size: int) -> None:
    records = make_classes({"a": count - count // 2, "b": count // 2})
    loader = training_batches(records, SPEC, OFF, batch_size=batch_size, seed=0, epoch=0)
    assert loader.batch_sampler is not None
    batches = list(loader.batch_sampler)
    sizes = [len(batch) for batch in batches]
    assert sorted(position for batch in batches for position in batch) == list(range(count))
    assert min(sizes) >= 2
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_multilabel_targets_are_rows_of_0_and_1(manifest: Manifest) -> None:
    space = manifest.label_space.model_copy(update={"task": "multilabel"})
    _, targets = _train(replace(manifest, label_space=space), batch_size=10)[0]
    assert targets.shape == (10, 2)
    assert targets.sum(dim=1).tolist() == [1] * 10


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_evaluation_batches_are_the_one_preprocessing_in_order(
    manifest: Manifest, mode: str, batch_size: int
) -> None:
    spec = SPEC.model_copy(update={"resize": mode})
    batches = list(evaluation_batches(manifest.records, spec, batch_size=batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    expected = [prepare(record.path.read_bytes(), spec) for record in manifest.records]
    np.testing.assert_array_equal(np.concatenate(batches), np.stack(expected))


def test_no_records_give_no_evaluation_batches() -> None:
    assert list(evaluation_batches((), SPEC, batch_size=4)) == []


def test_picture_that_vanished_is_named(manifest: Manifest) -> None:
    gone = replace(manifest.records[0], path=Path("gone.png"))
    with pytest.raises(ImageError, match=r"gone\.png"):
        list(evaluation_batches([gone], SPEC, batch_size=4))


# Augmentation


@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(40, 30), (13, 50), (24, 16)])
def test_augmentation_with_everything_off_is_the_plain_resize(
    mode: str, size: tuple[int, int]
) -> None:
    spec = SPEC.model_copy(update={"resize": mode})
    image = Image.fromarray(pattern(*size))
    view = augment(image, spec, OFF, np.random.default_rng(0))
    np.testing.assert_array_equal(np.asarray(view), np.asarray(resize(image, spec)))


@pytest.mark.parametrize(
    ("config", "flip"),
    [
        (OFF.model_copy(update={"horizontal_flip": 1.0}), Image.Transpose.FLIP_LEFT_RIGHT),
        (OFF.model_copy(update={"vertical_flip": 1.0}), Image.Transpose.FLIP_TOP_BOTTOM),
    ],
)
def test_flips_mirror_the_plain_view(config: AugmentConfig, flip: Image.Transpose) -> None:
    image = Image.fromarray(pattern(40, 30))
    view = augment(image, SPEC, config, np.random.default_rng(0))
    np.testing.assert_array_equal(np.asarray(view), np.asarray(resize(image, SPEC).transpose(flip)))


def test_colour_changes_the_brightness_within_its_strength() -> None:
    config = OFF.model_copy(update={"colour": 0.2})
    image = plain(30, 30, (100, 100, 100))
    levels = {
        int(np.asarray(augment(image, SPEC, config, np.random.default_rng(seed)))[0, 0, 0])
        for seed in range(30)
    }
    assert len(levels) > 5
    assert 79 <= min(levels) < 95 and 105 < max(levels) <= 121


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(8, 64),
    st.integers(8, 64),
    st.floats(0.05, 1),
    st.floats(1, 4),
    st.sampled_from(["crop", "squash", "pad"]),
    st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_random_crops_of_every_shape_end_in_the_size_of_the_spec(
    width: int,
    height: int,
    input_width: int,
    input_height: int,
    scale: float,
    ratio: float,
    mode: str,
    seed: int,
) -> None:
    spec = Preprocessing(width=input_width, height=input_height, resize=mode)  # type: ignore[arg-type]
    config = AugmentConfig(crop_scale=scale, crop_ratio=ratio)
    view = augment(plain(width, height, (9, 9, 9)), spec, config, np.random.default_rng(seed))
    assert view.size == (input_width, input_height)


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("size", [(7, 41), (5, 147), (3, 273), (11, 293)])
def test_crop_of_the_whole_picture_stays_inside_of_it(size: tuple[int, int], mode: str) -> None:
    # Stretched boxes of nearly the whole area do not fit, so the largest one of the picture's own
    # shape is taken: width / (width / height) * (width / height), here a little over the width.
    config = OFF.model_copy(update={"crop_scale": 0.999, "crop_ratio": 4.0})
    spec = SPEC.model_copy(update={"resize": mode})
    for seed in range(5):
        view = augment(plain(*size, (9, 9, 9)), spec, config, np.random.default_rng(seed))
        assert view.size == (24, 16)


def test_describe_says_whether_pictures_are_mirrored() -> None:
    assert describe(OFF) == "none"
    assert "left-right flips" in describe(ON)
    assert "flips" not in describe(ON.model_copy(update={"horizontal_flip": 0.0}))
    assert "up-down flips" in describe(OFF.model_copy(update={"vertical_flip": 0.1}))
