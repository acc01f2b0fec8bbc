"""Transform: an RGB image -> uint8 [3, H, W]. The host half of the one preprocessing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.preprocessing.decode import decode
from taxon.preprocessing.spec import Preprocessing

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REDUCING_GAP = 3.0  # Pillow: "almost indistinguishable from fair resampling"
Box = tuple[float, float, float, float]


def prepare(data: bytes, spec: Preprocessing, source: str = "picture") -> npt.NDArray[np.uint8]:
    """Bytes of a picture -> the model's input. Evaluation, prediction and serving all call this.

    Returns:
        uint8 [3, height, width], RGB, 0 to 255.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    return to_chw(resize(decode(data, spec, source), spec))


def resize(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """Bring an RGB image to the spec's size; Pillow's filters, with antialiasing."""
    size = (spec.width, spec.height)
    method = _FILTERS[spec.interpolation]
    if spec.resize == "squash":
        return image.resize(size, method)
    if spec.resize == "pad":
        return _pad(image, spec, method)
    # One resize of the cropped region does the work of "resize, then crop" on fewer pixels.
    return image.resize(size, method, box=crop_box(image.size, spec))


def resize_region(image: Image.Image, spec: Preprocessing, box: Box) -> Image.Image:
    """Resize a region (left, top, right, bottom, in pixels) to the spec's size; for training.

    With `pad` the region keeps its shape, on a border. Much larger regions are first halved by
    averaging: several times faster, and on average within two of 255 levels of the exact resize.
    """
    method = _FILTERS[spec.interpolation]
    if spec.resize == "pad":
        return _pad(image, spec, method, box, _REDUCING_GAP)
    size = (spec.width, spec.height)
    return image.resize(size, method, box=box, reducing_gap=_REDUCING_GAP)


def shrink(image: Image.Image, size: tuple[int, int], spec: Preprocessing) -> Image.Image:
    """Reduce an RGB image to (width, height) by the spec's filter; for training."""
    return image.resize(size, _FILTERS[spec.interpolation], reducing_gap=_REDUCING_GAP)


def kept_area(size: tuple[int, int], spec: Preprocessing) -> float:
    """The share of a picture of (width, height) that a centre crop of the spec would show."""
    left, top, right, bottom = crop_box(size, spec)
    return (right - left) * (bottom - top) / (size[0] * size[1])


def to_chw(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGB image -> uint8 [3, H, W], contiguous."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def crop_box(image_size: tuple[int, int], spec: Preprocessing) -> tuple[float, float, float, float]:
    """The centred region, of the input's aspect, of which one side is `crop_fraction` long."""
    width, height = image_size
    scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
    # Rounding may put a side that fills the picture just beyond it, which Pillow refuses.
    crop_width, crop_height = min(spec.width * scale, width), min(spec.height * scale, height)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height


def seen_box(image_size: tuple[int, int], spec: Preprocessing) -> Box:
    """What the model sees of a picture of (width, height): left, top, right and bottom as shares.

    Within 0 to 1; beyond where the picture is padded to the input's shape.
    """
    width, height = image_size
    if spec.resize == "squash":
        return 0.0, 0.0, 1.0, 1.0
    if spec.resize == "crop":
        left, top, right, bottom = crop_box(image_size, spec)
        return left / width, top / height, right / width, bottom / height
    inner_width, inner_height = padded_size(image_size, spec)
    beside = ((spec.width - inner_width) // 2) / inner_width
    above = ((spec.height - inner_height) // 2) / inner_height
    return (
        -beside,
        -above,
        spec.width / inner_width - beside,
        spec.height / inner_height - above,
    )


def padded_size(region: tuple[float, float], spec: Preprocessing) -> tuple[int, int]:
    """The (width, height) in pixels that a region of (width, height) has within the border."""
    width, height = region
    scale = min(spec.width / width, spec.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _pad(
    image: Image.Image,
    spec: Preprocessing,
    method: Image.Resampling,
    box: Box | None = None,
    reducing_gap: float | None = None,
) -> Image.Image:
    left, top, right, bottom = box or (0, 0, *image.size)
    size = padded_size((right - left, bottom - top), spec)
    canvas = Image.new("RGB", (spec.width, spec.height), (spec.background,) * 3)
    canvas.paste(
        image.resize(size, method, box=box, reducing_gap=reducing_gap),
        ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2),
    )
    return canvas
