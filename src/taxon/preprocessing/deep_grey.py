"""Grey pictures of more than 8 bits: scaled to 8, where Pillow's own conversion would clip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.core.errors import ImageError

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
_ADVICE = "save it with 8 or 16 unsigned bits a channel"


def is_deep_grey(image: Image.Image) -> bool:
    """Whether a picture is grey with more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode == "I"


def grey_to_rgb(image: Image.Image, background: int, source: str) -> Image.Image:
    """Scale the whole range to 0..255, rounded; white where a TIFF says that zero is white.

    Args:
        background: what replaces the level that a PNG names as clear, 0 to 255.

    Raises:
        ImageError: more than 16 bits, or negative levels, of which the range is not known.
    """
    bits, inverted = _stored(image, source)
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(source, f"32-bit pixels; {_ADVICE}", kind="format")
    table = _table(bits, inverted)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and 0 <= clear <= 65535:
        table[clear] = background
    # A table needs no wider copy of the whole picture.
    return Image.fromarray(table[levels]).convert("RGB")


def _stored(image: Image.Image, source: str) -> tuple[int, bool]:
    """The bits of a level, and whether zero is white; of other formats Pillow scales itself."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return 16, False
    bits = _first(tags.get(_BITS, 16))
    if bits > 16:
        raise ImageError(source, f"{bits}-bit pixels; {_ADVICE}", kind="format")
    if _first(tags.get(_SAMPLE_FORMAT, _UNSIGNED)) != _UNSIGNED:
        raise ImageError(source, f"signed pixels; {_ADVICE}", kind="format")
    return bits, _first(tags.get(_PHOTOMETRIC, 1)) == _WHITE_IS_ZERO


def _first(value: object) -> int:
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else 0


def _table(bits: int, inverted: bool) -> npt.NDArray[np.uint8]:
    """Level 0..65535 -> 0..255."""
    top = (1 << bits) - 1
    levels = np.minimum(np.arange(65536), top)
    scaled = (levels * 255 + top // 2) // top
    return (255 - scaled if inverted else scaled).astype(np.uint8)
