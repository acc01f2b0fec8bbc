"""Decode: the bytes of a picture -> an RGB image, the same way everywhere."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from taxon.core.errors import ImageError, ImageProblem
from taxon.preprocessing.deep_grey import grey_to_rgb, is_deep_grey
from taxon.preprocessing.spec import Preprocessing

# A camera's MPO is a JPEG with more pictures after the first.
JPEG_FORMATS = ("JPEG", "MPO")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "MPO", "PPM")  # those read at all
_MODULES = {"WEBP": "WebP"}  # of Pillow, where its name is not the format's
# Suffix -> the formats that it may stand for.
SUFFIX_FORMATS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), JPEG_FORMATS),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".bmp": ("BMP",),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".gif": ("GIF",),
    ".avif": ("AVIF",),
    **dict.fromkeys((".heic", ".heif"), ("HEIF",)),
    **dict.fromkeys((".ppm", ".pgm"), ("PPM",)),
}
SUFFIXES = frozenset(SUFFIX_FORMATS)
_ORIENTATION_TAG, _MAKE_TAG, _MODEL_TAG = 0x0112, 0x010F, 0x0110
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
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_JPEG_END = b"\xff\xd9"
MAXIMUM_FILE_BYTES = 1 << 30  # a picture within the limit of pixels is far smaller
_BOMB_PIXELS = re.compile(r"\((\d+) pixels\)")
# The limit of the spec is checked below, before decoding; Pillow's own warning would come
# on top of it, once for every picture.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged EXIF does not spoil a picture, and the warning would not name the file.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, and what its file said of it.

    Attributes:
        image: 8-bit RGB, upright.
        format: Pillow's name of the file format.
        mode: Pillow's name of the pixels' kind as stored (`L`, `RGB`, `CMYK`, `I;16`, ...).
        camera: maker and model from EXIF, or None.
        truncated: the file ends early, and what was missing was filled.
    """

    image: Image.Image
    format: str
    mode: str
    camera: str | None
    truncated: bool


def decode(
    data: bytes, spec: Preprocessing, source: str, *, at_least: int | None = None
) -> Image.Image:
    """Decode a picture to 8-bit RGB, upright, over the spec's background.

    16-bit grey is scaled to 8 bits, CMYK and palettes are converted, and of an animation the
    first frame counts.

    Args:
        data: the content of the file.
        source: the name that an error gives.
        at_least: where the spec allows JPEG DCT scaling, the shorter side in pixels that the
            picture must keep; None takes what evaluation needs.

    Raises:
        ImageError: empty, of an unknown format, truncated, damaged or over `max_pixels`.
    """
    return decode_details(data, spec, source, at_least=at_least).image


def decode_details(
    data: bytes, spec: Preprocessing, source: str, *, at_least: int | None = None
) -> Decoded:
    """Like `decode`, with what the file says of itself."""
    if not data:
        raise ImageError(source, "the file is empty", kind="empty")
    image = _open(data, spec, source)
    side = at_least if at_least is not None else _side_needed(spec)
    truncated = False
    try:
        stored = _orientation(image)
        mode = image.mode
        try:
            _load(image, spec, side)
        except OSError:
            if spec.truncated == "refuse" or image.format not in JPEG_FORMATS:
                raise
            # With an end of image put after what there is, libjpeg fills the rest with grey.
            image = _open(data + _JPEG_END, spec, source)
            _load(image, spec, side)
            truncated = True
        left = _orientation(image)
        rgb = _to_rgb(image, spec.background, source)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged content
        kind: ImageProblem = "truncated" if "truncated" in str(error) else "damaged"
        raise ImageError(source, f"truncated or damaged ({error})", kind=kind) from error
    if spec.exif_orientation:
        transpose = _TRANSPOSES.get(left)
    else:
        # Pillow turns a TIFF while it loads, and drops the tag: turn it back.
        transpose = _TRANSPOSES.get(_INVERSE.get(stored, stored)) if left != stored else None
    upright = rgb.transpose(transpose) if transpose is not None else rgb
    return Decoded(upright, image.format or "", mode, _camera(image), truncated)


def read_picture(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: it does not exist, is no file, cannot be read or is over
            `MAXIMUM_FILE_BYTES`.
    """
    try:
        # Looked at first: a pipe or a device could be read for ever.
        _require_plain(path.stat(), path)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), error.strerror or str(error), kind="missing") from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(str(path), str(error), kind="missing") from error


def _require_plain(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(str(path), "it is a folder, not a file", kind="missing")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(str(path), "it is a device or a pipe, not a file", kind="missing")
    if status.st_size > MAXIMUM_FILE_BYTES:
        raise ImageError(
            str(path),
            f"the file has {status.st_size:,} bytes, over the limit of {MAXIMUM_FILE_BYTES:,}",
            kind="too-large",
        )


def _open(data: bytes, spec: Preprocessing, source: str) -> Image.Image:
    """Read the header, and refuse what must not be decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats_for(data, source))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            source, "not a picture in a format that can be read", kind="format"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(source, _bomb_words(error, spec), kind="too-large") from None
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        raise ImageError(source, f"damaged header ({error})", kind="damaged") from error
    pixels = image.width * image.height
    if pixels > spec.max_pixels:
        raise ImageError(
            source,
            f"{image.width}x{image.height} is over the limit of {spec.max_pixels} pixels",
            kind="too-large",
        )
    return image


def _bomb_words(error: Image.DecompressionBombError, spec: Preprocessing) -> str:
    """Pillow refuses the largest pictures itself, and says only how many pixels they have."""
    found = _BOMB_PIXELS.search(str(error))
    size = f"{found[1]} pixels, " if found else ""
    # Its own limit is twice the one that it warns at.
    limit = min(spec.max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or spec.max_pixels))
    return f"{size}over the limit of {limit} pixels: a decompression bomb"


def _load(image: Image.Image, spec: Preprocessing, side: int) -> None:
    if spec.jpeg_dct_scaling and image.format in JPEG_FORMATS:
        image.draft("RGB", (side, side))
    image.load()


def _formats_for(data: bytes, source: str) -> tuple[str, ...]:
    if _is_heif(data):
        if not _register_heif():
            raise ImageError(
                source,
                "HEIC needs a package that is not installed; type: "
                "pip install 'taxon-vision[heic]'",
                kind="format",
            )
        return (*_known_formats(), "HEIF")
    return _known_formats()


def _is_heif(data: bytes) -> bool:
    """HEIC and AVIF share a container, whose first box lists the brands (ISO/IEC 14496-12)."""
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
        return False
    end = min(int.from_bytes(data[:4], "big"), 256)
    return not any(data[at : at + 4] in _AVIF_BRANDS for at in range(16, end, 4))


@cache
def _known_formats() -> tuple[str, ...]:
    """The formats among ours that this build of Pillow can read (AVIF is optional in it)."""
    # Not `Image.init()`: forty more modules, of formats that are not read, in every process.
    for name in FORMATS:
        with suppress(ImportError):  # as Pillow does
            import_module(f"PIL.{_MODULES.get(name, name.capitalize())}ImagePlugin")
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def _register_heif() -> bool:
    """Make Pillow read HEIC, where the extra is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _side_needed(spec: Preprocessing) -> int:
    """The shorter side that the resize still only shrinks, either way up."""
    side = max(spec.height, spec.width)
    return round(side / spec.crop_fraction) if spec.resize == "crop" else side


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; a picture with unreadable EXIF counts as upright."""
    value = _exif(image).get(_ORIENTATION_TAG, 1)
    return value if isinstance(value, int) else 1


def _camera(image: Image.Image) -> str | None:
    """Maker and model from EXIF, printable."""
    exif = _exif(image)
    words = [str(exif.get(tag) or "") for tag in (_MAKE_TAG, _MODEL_TAG)]
    text = " ".join("".join(c for c in word if c.isprintable()).strip() for word in words)
    return text.strip()[:100] or None


def _exif(image: Image.Image) -> dict[int, object]:
    try:
        return dict(image.getexif())
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return {}


def _to_rgb(image: Image.Image, background: int, source: str) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:  # a PNG may name a clear colour
        return image
    if is_deep_grey(image):
        return grey_to_rgb(image, background, source)
    if image.mode == "F":
        raise ImageError(
            source, "floating-point pixels; save it with 8 or 16 bits a channel", kind="format"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (background, background, background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")
