"""Augmentation: random views of a training picture, ending in the same uint8 contract."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance

from taxon.config import AugmentConfig
from taxon.preprocessing import Preprocessing, resize
from taxon.preprocessing.transform import resize_region

_CROP_ATTEMPTS = 10
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def augment(
    image: Image.Image, spec: Preprocessing, config: AugmentConfig, rng: np.random.Generator
) -> Image.Image:
    """RGB image -> a random view of it at the spec's size.

    A random resized crop takes the place of resize and centre crop (Szegedy et al. 2015); then
    mirror images and colour.
    """
    view = _random_crop(image, spec, config, rng)
    if rng.random() < config.horizontal_flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < config.vertical_flip:
        view = view.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if config.colour:
        for enhancer in _ENHANCERS:
            view = enhancer(view).enhance(1 + config.colour * rng.uniform(-1, 1))
    return view


def describe(config: AugmentConfig) -> str:
    """Say in one line which changes are on; people must know whether pictures are mirrored."""
    parts = []
    if config.crop_scale < 1 or config.crop_ratio > 1:
        parts.append(f"random crops from {config.crop_scale:.0%} of the area")
    if config.horizontal_flip:
        parts.append("left-right flips")
    if config.vertical_flip:
        parts.append("up-down flips")
    if config.colour:
        parts.append(f"colour by up to {config.colour:.0%}")
    return ", ".join(parts) or "none"


def _random_crop(
    image: Image.Image, spec: Preprocessing, config: AugmentConfig, rng: np.random.Generator
) -> Image.Image:
    if config.crop_scale == 1 and config.crop_ratio == 1:
        return resize(image, spec)
    if spec.resize == "crop":
        base_width, base_height = spec.width / spec.height, 1.0
    else:
        # `squash` and `pad` show whole pictures: crops keep the picture's own shape.
        base_width, base_height = image.width / image.height, 1.0
    box = _crop_box(image.size, base_width / base_height, config, rng)
    if spec.resize == "pad":
        left, top, right, bottom = (round(side) for side in box)
        return resize(image.crop((left, top, max(right, left + 1), max(bottom, top + 1))), spec)
    return resize_region(image, spec, box)


def _crop_box(
    size: tuple[int, int], shape: float, config: AugmentConfig, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random box of the wanted area, `shape` (width / height) stretched by up to crop_ratio."""
    width, height = size
    stretch_limit = math.log(config.crop_ratio)
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(config.crop_scale, 1.0)
        aspect = shape * math.exp(rng.uniform(-stretch_limit, stretch_limit))
        box_width, box_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if box_width <= width and box_height <= height:
            break
    else:
        # No box of that area fits the picture's shape: the largest one that has the aspect.
        scale = min(width / shape, height)
        # Rounding may put the width just beyond the picture's.
        box_width, box_height = min(scale * shape, width), scale
    left = rng.uniform(0, width - box_width)
    top = rng.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
