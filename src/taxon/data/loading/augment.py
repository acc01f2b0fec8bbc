"""Augmentation: random views of a training picture, ending in the same uint8 contract."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from taxon.config import AugmentConfig
from taxon.data.loading.random_policies import Colour, rand_augment, trivial_augment
from taxon.data.loading.rare_augmentation import RareAugmentation
from taxon.preprocessing import Preprocessing, resize
from taxon.preprocessing.transform import resize_region

_CROP_ATTEMPTS = 10
# Pictures are kept large enough for crops of a quarter of the area. Smaller crops, where
# crop_scale allows them, are rare, and enlarged by less than two.
_SMALLEST_SHARP_CROP = 0.25
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), 3.3  # Zhong et al. 2020
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow's


def augment(
    image: Image.Image,
    spec: Preprocessing,
    config: AugmentConfig,
    rng: np.random.Generator,
    rare: RareAugmentation | None = None,
) -> Image.Image:
    """RGB image -> a random view of it at the spec's size.

    A random resized crop takes the place of resize and centre crop (Szegedy et al. 2015); then
    mirror images, colour, the policy, and random erasing.

    Args:
        image: the picture, or what `reduced_size` leaves of it.
        rng: all chance comes from it.
        rare: what else is done to a view that was added for a rare class, after mirroring.
    """
    view = _random_crop(image, spec, config, rng)
    if rng.random() < config.horizontal_flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < config.vertical_flip:
        view = view.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if rare is not None:
        view = rare(view, rng)
    if config.colour:
        view = _random_colour(view, config.colour, rng)
    fill: Colour = tuple(round(255 * level) for level in spec.mean)  # type: ignore[assignment]
    if config.policy == "trivial":
        view = trivial_augment(view, fill, rng)
    elif config.policy == "rand":
        view = rand_augment(
            view, fill, rng, operations=config.operations, magnitude=config.magnitude
        )
    if rng.random() < config.erasing:
        view = _erase(view, rng)
    return view


def describe(config: AugmentConfig) -> str:
    """Say in one line which changes are on; people must know whether pictures are mirrored."""
    parts = {
        (
            f"random crops from {config.crop_scale:.0%} of the area"
            if config.crop_scale < 1
            else f"crops stretched by up to {config.crop_ratio:g}"
        ): not _whole(config),
        "left-right flips": config.horizontal_flip,
        "up-down flips": config.vertical_flip,
        f"colour by up to {config.colour:.0%}": config.colour,
        "TrivialAugment (one change of colour, rotation, shear or shift)": (
            config.policy == "trivial"
        ),
        f"RandAugment ({config.operations} such changes as rotation, shear, shift or colour, "
        f"magnitude {config.magnitude:g})": config.policy == "rand",
        f"a random box erased in {config.erasing:.0%} of views": config.erasing,
        f"mixup (alpha {config.mixup:g})": config.mixup,
        f"cutmix (alpha {config.cutmix:g})": config.cutmix,
    }
    return ", ".join(part for part, on in parts.items() if on) or "none"


def reduced_size(
    size: tuple[int, int], spec: Preprocessing, config: AugmentConfig
) -> tuple[int, int]:
    """The (width, height) to which a picture may be reduced before random views are made of it.

    It is just large enough that a crop of the smallest area (or of a quarter, where `crop_scale`
    is less) and of the input's shape is not enlarged; never more than the picture has.
    """
    width, height = size
    wide, high = spec.width / width, spec.height / height
    side_share = math.sqrt(max(config.crop_scale, _SMALLEST_SHARP_CROP))
    if spec.resize == "squash":
        scales = (wide / side_share, high / side_share)
    elif spec.resize == "pad":
        scales = (min(wide, high) / side_share,) * 2
    elif _whole(config):
        scales = (max(wide, high) / spec.crop_fraction,) * 2
    else:
        # Of a long strip the largest box of the input's shape is cut out.
        scales = (max(wide, high, math.sqrt(wide * high) / side_share),) * 2
    return (
        max(1, min(width, math.ceil(width * scales[0]))),
        max(1, min(height, math.ceil(height * scales[1]))),
    )


def side_needed(size: tuple[int, int], spec: Preprocessing, config: AugmentConfig) -> int:
    """The shorter side in pixels that a decoder must keep of a picture of (width, height)."""
    width, height = size
    reduced = reduced_size(size, spec, config)
    return math.ceil(max(reduced[0] / width, reduced[1] / height) * min(size))


def _whole(config: AugmentConfig) -> bool:
    """Whether no crops are made: the view is what evaluation sees."""
    return config.crop_scale == 1 and config.crop_ratio == 1


def _random_crop(
    image: Image.Image, spec: Preprocessing, config: AugmentConfig, rng: np.random.Generator
) -> Image.Image:
    if _whole(config):
        return resize(image, spec)
    # `squash` and `pad` show whole pictures: crops keep the picture's own shape.
    shape = (spec.width / spec.height) if spec.resize == "crop" else image.width / image.height
    return resize_region(image, spec, _crop_box(image.size, shape, config, rng))


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


def _random_colour(view: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation, each by a factor of 1 +- strength.

    All three are linear in RGB, so that one pass over the pixels does them.
    """
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, size=3)
    mean = np.array(view.reduce(view.size).getpixel((0, 0)), dtype=np.float64)
    grey = brightness * float(mean @ _LUMA)  # contrast is stretched about it
    colours = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    offset = np.full((3, 1), grey * (1 - contrast))
    matrix = np.hstack([brightness * contrast * colours, offset])
    return view.convert("RGB", tuple(matrix.ravel().tolist()))


def _erase(view: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put noise over a box of 2 % to a third of the area (Zhong et al. 2020)."""
    area = view.width * view.height * rng.uniform(*_ERASED_AREA)
    aspect = math.exp(rng.uniform(-1, 1) * math.log(_ERASED_ASPECT))
    width = min(view.width, max(1, round(math.sqrt(area * aspect))))
    height = min(view.height, max(1, round(math.sqrt(area / aspect))))
    left = int(rng.integers(view.width - width + 1))
    top = int(rng.integers(view.height - height + 1))
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    erased = view.copy()  # the view may be the caller's own picture
    erased.paste(Image.fromarray(noise), (left, top))
    return erased
