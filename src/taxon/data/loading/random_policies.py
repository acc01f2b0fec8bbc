"""Random policies: TrivialAugment and RandAugment on Pillow pictures; no operation mirrors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Ranges:
    """The strongest change of each kind.

    Attributes:
        shear: as the tangent of the angle.
        shift: as a share of the side.
        rotation: in degrees.
        enhancement: of brightness, contrast, saturation and sharpness, as a factor 1 +- this.
        bits: kept by posterize, of 8.
    """

    shear: float
    shift: float
    rotation: float
    enhancement: float
    bits: int


# As published: Mueller and Hutter 2021, table 6 ("wide"; 32 pixels of 224), and Cubuk et al. 2020.
_WIDE = _Ranges(shear=0.99, shift=32 / 224, rotation=135, enhancement=0.99, bits=2)
_STANDARD = _Ranges(shear=0.3, shift=150 / 331, rotation=30, enhancement=0.9, bits=4)

# (picture, strength -1 to 1, ranges, colour of what comes in from outside) -> picture
_Operation = Callable[[Image.Image, float, _Ranges, Colour], Image.Image]


def trivial_augment(image: Image.Image, fill: Colour, rng: np.random.Generator) -> Image.Image:
    """One operation of one strength, both by chance (Mueller and Hutter 2021, "wide").

    Args:
        image: RGB; the result has its size.
        fill: colour of what a rotation, shear or shift brings in from outside.
    """
    return _random_operation(rng)(image, rng.uniform(-1, 1), _WIDE, fill)


def rand_augment(
    image: Image.Image,
    fill: Colour,
    rng: np.random.Generator,
    *,
    operations: int,
    magnitude: float,
) -> Image.Image:
    """`operations` by chance, one after the other, of strength `magnitude` (Cubuk et al. 2020).

    Args:
        image: RGB; the result has its size.
        fill: colour of what a rotation, shear or shift brings in from outside.
        magnitude: 0 (next to nothing) to 10.
    """
    for _ in range(operations):
        operation = _random_operation(rng)
        sign = 1 if rng.random() < 0.5 else -1
        image = operation(image, sign * magnitude / 10, _STANDARD, fill)
    return image


def _random_operation(rng: np.random.Generator) -> _Operation:
    return _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]


def _identity(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return image


def _shear_x(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    slope = strength * ranges.shear
    return _affine(image, (1, slope, -slope * image.height / 2, 0, 1, 0), fill)


def _shear_y(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    slope = strength * ranges.shear
    return _affine(image, (1, 0, 0, slope, 1, -slope * image.width / 2), fill)


def _shift_x(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, strength * ranges.shift * image.width, 0, 1, 0), fill)


def _shift_y(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, strength * ranges.shift * image.height), fill)


def _rotate(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return image.rotate(
        strength * ranges.rotation, resample=Image.Resampling.BILINEAR, fillcolor=fill
    )


def _affine(
    image: Image.Image, inverse: tuple[float, float, float, float, float, float], fill: Colour
) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        inverse,
        resample=Image.Resampling.BILINEAR,
        fillcolor=fill,
    )


def _brightness(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + strength * ranges.enhancement)


def _contrast(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + strength * ranges.enhancement)


def _saturation(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + strength * ranges.enhancement)


def _sharpness(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + strength * ranges.enhancement)


def _posterize(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageOps.posterize(image, round(8 - (8 - ranges.bits) * abs(strength)))


def _solarize(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    # A threshold of 256 inverts nothing; one of 255 would make white backgrounds black.
    return ImageOps.solarize(image, math.ceil(256 * (1 - abs(strength))))


def _autocontrast(
    image: Image.Image, strength: float, ranges: _Ranges, fill: Colour
) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, strength: float, ranges: _Ranges, fill: Colour) -> Image.Image:
    return ImageOps.equalize(image)


_OPERATIONS: tuple[_Operation, ...] = (
    _identity,
    _shear_x,
    _shear_y,
    _shift_x,
    _shift_y,
    _rotate,
    _brightness,
    _contrast,
    _saturation,
    _sharpness,
    _posterize,
    _solarize,
    _autocontrast,
    _equalize,
)
