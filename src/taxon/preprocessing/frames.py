"""Whole pictures of one size, for artefacts that have the resize in their graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from taxon.core.errors import ImageError
from taxon.preprocessing.decode import decode
from taxon.preprocessing.spec import Preprocessing
from taxon.preprocessing.transform import to_chw

Size = tuple[int, int]


def prepare_frame(
    data: bytes, spec: Preprocessing, frame: Size, source: str = "picture"
) -> npt.NDArray[np.uint8]:
    """Bytes of a picture -> uint8 [3, height, width], not resized.

    Args:
        frame: the (width, height) that the picture must have.

    Raises:
        ImageError: it cannot be decoded, or has another size.
    """
    image = decode(data, spec, source)
    if image.size != frame:
        raise ImageError(
            source,
            f"is {image.width}x{image.height} pixels; this artefact has the resize in its graph "
            f"and takes {frame[0]}x{frame[1]} alone",
            "format",
        )
    return to_chw(image)


def fit_frame(image: Image.Image, frame: Size) -> Image.Image:
    """Bring a picture to a frame as a camera would see it: filled, what is too much cut off."""
    return ImageOps.fit(image, frame, Image.Resampling.BICUBIC)
