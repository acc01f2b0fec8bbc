"""Augmentation: views of the spec's size, by the given chance alone, mirrored only on request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures import pattern, plain
from PIL import Image, ImageOps

from taxon.config import AugmentConfig
from taxon.data.loading.augment import augment, describe, reduced_size, side_needed
from taxon.data.loading.random_policies import rand_augment, trivial_augment
from taxon.preprocessing import Preprocessing, resize
from taxon.preprocessing.transform import shrink

SPEC = Preprocessing(height=16, width=24)
OFF = AugmentConfig(crop_scale=1, crop_ratio=1, horizontal_flip=0, vertical_flip=0, colour=0)
ON = AugmentConfig()
MODES = ["crop", "squash", "pad"]
sizes = st.one_of(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([(1, 1), (1, 5000), (5000, 1), (2, 700), (300, 300)]),
)


def _view(
    image: Image.Image, config: AugmentConfig, seed: int = 0, spec: Preprocessing = SPEC
) -> npt.NDArray[np.uint8]:
    return np.asarray(augment(image, spec, config, np.random.default_rng(seed)))


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
    sizes,
    st.tuples(st.integers(8, 64), st.integers(8, 64)),
    st.builds(
        AugmentConfig,
        crop_scale=st.floats(0.05, 1),
        crop_ratio=st.floats(1, 4),
        colour=st.floats(0, 1),
        policy=st.sampled_from(["none", "trivial", "rand"]),
        operations=st.integers(1, 4),
        magnitude=st.floats(0, 10),
        erasing=st.floats(0, 1),
    ),
    st.sampled_from(MODES),
    st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_views_of_any_picture_are_uint8_of_the_size_of_the_spec(
    size: tuple[int, int],
    wanted: tuple[int, int],
    config: AugmentConfig,
    mode: str,
    seed: int,
) -> None:
    spec = Preprocessing(width=wanted[0], height=wanted[1], resize=mode)  # type: ignore[arg-type]
    image = Image.fromarray(pattern(*size))
    view = _view(image, config, seed, spec)
    assert view.shape == (wanted[1], wanted[0], 3)
    assert view.dtype == np.uint8
    np.testing.assert_array_equal(view, _view(image, config, seed, spec))
    np.testing.assert_array_equal(np.asarray(image), pattern(*size))


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


def test_describe_names_all_that_is_on() -> None:
    config = ON.model_copy(
        update={"policy": "rand", "operations": 3, "erasing": 0.25, "mixup": 0.2, "cutmix": 1.0}
    )
    text = describe(config)
    for words in ("RandAugment (3 ", "magnitude 9", "erased in 25%", "mixup (alpha 0.2)", "cutmix"):
        assert words in text
    assert "TrivialAugment" in describe(OFF.model_copy(update={"policy": "trivial"}))


def test_rare_augmentation_comes_after_the_flips() -> None:
    image = Image.fromarray(pattern(24, 16))
    config = OFF.model_copy(update={"horizontal_flip": 1.0})
    seen: list[Image.Image] = []

    def rare(view: Image.Image, rng: np.random.Generator) -> Image.Image:
        seen.append(view)
        return plain(24, 16, (1, 2, 3))

    spec = SPEC.model_copy(update={"resize": "squash"})
    view = augment(image, spec, config, np.random.default_rng(0), rare)
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_array_equal(np.asarray(seen[0]), np.asarray(flipped))
    assert view.getpixel((0, 0)) == (1, 2, 3)


# Policies


def _corners() -> Image.Image:
    """A red, a green and a blue square, clockwise: in a mirror they go the other way round."""
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    for channel, (top, left) in enumerate([(14, 14), (14, 36), (36, 36)]):
        pixels[top : top + 10, left : left + 10, channel] = 255
    return Image.fromarray(pixels)


def _turning(pixels: npt.NDArray[np.uint8]) -> float | None:
    """Twice the signed area of the triangle red, green, blue; None where a square is lost."""
    centres = []
    for channel in range(3):
        others = np.delete(pixels, channel, axis=2).max(axis=2).astype(int)
        rows, columns = np.nonzero(pixels[..., channel] > others + 40)
        if len(rows) < 20:
            return None
        centres.append((columns.mean(), rows.mean()))
    (x1, y1), (x2, y2), (x3, y3) = centres
    return float((x2 - x1) * (y3 - y1) - (x3 - x1) * (y2 - y1))


def _policy(name: str, image: Image.Image, seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    if name == "trivial":
        return np.asarray(trivial_augment(image, (0, 0, 0), rng))
    changed = rand_augment(image, (0, 0, 0), rng, operations=2, magnitude=9)
    return np.asarray(changed)


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_policies_change_most_pictures_each_in_another_way(name: str) -> None:
    image = Image.fromarray(pattern(40, 40))
    views = {_policy(name, image, seed).tobytes() for seed in range(60)}
    assert len(views) > 30


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_policies_never_mirror(name: str) -> None:
    image = _corners()
    straight, mirrored = (_turning(np.asarray(one)) for one in (image, ImageOps.mirror(image)))
    assert straight is not None and straight > 0
    assert mirrored is not None and mirrored < 0
    found = [_turning(_policy(name, image, seed)) for seed in range(400)]
    turned = [turning for turning in found if turning is not None]
    assert len(turned) > 200
    assert min(turned) > 0


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_rand_augment_of_magnitude_0_moves_nothing(seed: int) -> None:
    image = Image.fromarray(pattern(20, 20)[:, :, :1].repeat(3, axis=2))
    rng = np.random.default_rng(seed)
    view = np.asarray(rand_augment(image, (9, 9, 9), rng, operations=1, magnitude=0))
    # Equalize and autocontrast have no magnitude, but keep the order of the levels.
    before, after = np.asarray(image)[..., 0].ravel(), view[..., 0].ravel()
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order].astype(int)) >= 0).all()


# Random erasing


def test_erasing_puts_noise_over_one_box() -> None:
    config = OFF.model_copy(update={"erasing": 1.0})
    spec = Preprocessing(height=64, width=64, resize="squash")
    image = plain(64, 64, (7, 7, 7))
    for seed in range(20):
        changed = (_view(image, config, seed, spec) != 7).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.99
        assert 0.01 < changed.mean() < 0.36
    assert image.getcolors() == [(64 * 64, (7, 7, 7))]


def test_erasing_happens_with_its_probability() -> None:
    config = OFF.model_copy(update={"erasing": 0.25})
    image = plain(24, 16, (7, 7, 7))
    hits = sum((_view(image, config, seed) != 7).any() for seed in range(400))
    assert 70 < hits < 130


# The size that views need


@given(
    st.tuples(st.integers(1, 6000), st.integers(1, 6000)),
    st.tuples(st.integers(8, 400), st.integers(8, 400)),
    st.floats(0.05, 1),
    st.floats(1, 4),
    st.sampled_from(MODES),
)
@settings(max_examples=300, deadline=None)
def test_reduced_pictures_are_never_larger_and_still_large_enough(
    size: tuple[int, int],
    wanted: tuple[int, int],
    scale: float,
    ratio: float,
    mode: str,
) -> None:
    spec = Preprocessing(width=wanted[0], height=wanted[1], resize=mode)  # type: ignore[arg-type]
    config = AugmentConfig(crop_scale=scale, crop_ratio=ratio)
    width, height = reduced_size(size, spec, config)
    assert 1 <= width <= size[0] and 1 <= height <= size[1]
    assert side_needed(size, spec, config) <= min(size)
    # How much a crop of a quarter (or of the smallest area allowed) would have to be enlarged.
    share = np.sqrt(max(scale, 0.25))
    if mode == "crop":
        assume(not (scale == 1 and ratio == 1))
        shape = wanted[0] / wanted[1]
        largest = min(size[0] / shape, size[1])
        crop = min(share * np.sqrt(size[0] * size[1] / shape), largest)
        assert crop * height / size[1] >= min(wanted[1], crop) - 1
    elif mode == "squash":
        assert width >= min(size[0], wanted[0] / share) - 1
        assert height >= min(size[1], wanted[1] / share) - 1
    else:
        fitting = min(wanted[0] / size[0], wanted[1] / size[1])
        assert width >= min(size[0], size[0] * fitting / share) - 1
        assert height >= min(size[1], size[1] * fitting / share) - 1


def test_large_pictures_are_reduced_to_just_above_the_size_of_the_input() -> None:
    spec = Preprocessing(height=224, width=224)
    assert reduced_size((4000, 3000), spec, ON) == (438, 328)
    assert side_needed((4000, 3000), spec, ON) == 329
    assert reduced_size((400, 300), spec, ON) == (400, 300)
    strip = spec.model_copy(update={"resize": "squash"})
    assert reduced_size((9000, 300), strip, ON) == (379, 300)


@pytest.mark.parametrize("mode", MODES)
def test_without_crops_a_reduced_picture_gives_nearly_the_view_of_evaluation(mode: str) -> None:
    spec = Preprocessing(height=32, width=32, resize=mode)  # type: ignore[arg-type]
    small = Image.fromarray(pattern(8, 6))
    image = small.resize((400, 300), Image.Resampling.BICUBIC)
    reduced = shrink(image, reduced_size(image.size, spec, OFF), spec)
    assert reduced.size != image.size
    view, expected = _view(reduced, OFF, spec=spec), np.asarray(resize(image, spec))
    assert np.abs(view.astype(int) - expected).mean() < 2
