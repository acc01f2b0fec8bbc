"""Decode: the bytes of a picture -> an RGB image, the same way everywhere."""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from taxon.core.errors import ImageError
from taxon.preprocessing.spec import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "MPO", "PPM")  # those read at all
SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".avif",
        ".ppm",
        ".pgm",
    }
)
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_INVERSE = {6: 8, 8: 6}  # every other orientation is its own inverse
# The limit of the spec is checked below, before decoding; Pillow's own warning would come
# on top of it, once for every picture.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged EXIF does not spoil a picture, and the warning would not name the file.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def decode(data: bytes, spec: Preprocessing, source: str) -> Image.Image:
    """Decode a picture to 8-bit RGB, upright, over the spec's background.

    16-bit grey is scaled to 8 bits, CMYK and palettes are converted, and of an animation the
    first frame counts.

    Args:
        data: the content of the file.
        source: the name that an error gives.

    Raises:
        ImageError: empty, of an unknown format, truncated, damaged or over `max_pixels`.
    """
    if not data:
        raise ImageError(source, "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_known_formats())
    except UnidentifiedImageError:
        raise ImageError(source, "not a picture in a format that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(source, "over the limit of pixels: a decompression bomb") from None
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        raise ImageError(source, f"damaged header ({error})") from error
    pixels = image.width * image.height
    if pixels > spec.max_pixels:
        raise ImageError(
            source, f"{image.width}x{image.height} is over the limit of {spec.max_pixels} pixels"
        )
    try:
        stored = _orientation(image)
        if spec.jpeg_dct_scaling and image.format == "JPEG":
            image.draft("RGB", _draft_size(spec))
        image.load()
        left = _orientation(image)
        rgb = _to_rgb(image, spec.background, source)
    except ImageError:
        raise
    except Exception as error:  # ditto on damaged content: OSError, SyntaxError, ValueError, ...
        raise ImageError(source, f"truncated or damaged ({error})") from error
    if spec.exif_orientation:
        transpose = _TRANSPOSES.get(left)
    else:
        # Pillow turns a TIFF while it loads, and drops the tag: turn it back.
        transpose = _TRANSPOSES.get(_INVERSE.get(stored, stored)) if left != stored else None
    return rgb.transpose(transpose) if transpose is not None else rgb


def read_picture(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: it does not exist or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), error.strerror or str(error)) from error


@cache
def _known_formats() -> tuple[str, ...]:
    """The formats among ours that this build of Pillow can read (AVIF is optional in it)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _draft_size(spec: Preprocessing) -> tuple[int, int]:
    """The smallest picture that the resize still only shrinks, either way up."""
    side = max(spec.height, spec.width)
    if spec.resize == "crop":
        side = round(side / spec.crop_fraction)
    return side, side


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; a picture with unreadable EXIF counts as upright."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, background: int, source: str) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:  # a PNG may name a clear colour
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_16_bit(image, source)
    if image.mode == "F":
        raise ImageError(source, "floating-point pixels; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (background, background, background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image, source: str) -> Image.Image:
    """Scale 0..65535 to 0..255, rounded; Pillow's own conversion would clip at 255."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(source, "32-bit pixels; save it with 8 or 16 bits a channel")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
