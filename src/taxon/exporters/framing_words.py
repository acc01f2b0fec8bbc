"""How a host brings a picture to the model's size, in words."""

from __future__ import annotations

from taxon.preprocessing import Preprocessing
from taxon.preprocessing.spec import ResizeMode

# The case of Apple's VNImageCropAndScaleOption that keeps the same part of a picture.
VISION_OPTION: dict[ResizeMode, str] = {
    "crop": "centerCrop",
    "squash": "scaleFill",
    "pad": "scaleFit",
}


def framing_in_words(spec: Preprocessing) -> str:
    """Say which part of a picture the model expects, and how it is brought to its size."""
    size = f"{spec.width}x{spec.height} pixels"
    filtered = f"({spec.interpolation}, with antialiasing)"
    if spec.resize == "squash":
        return f"The host scales the whole picture to {size} {filtered}, whatever its shape."
    if spec.resize == "pad":
        return (
            f"The host scales the whole picture {filtered}, its shape kept, until it fits into "
            f"{size}, in the middle of a border of grey level {spec.background}."
        )
    shape = "square" if spec.width == spec.height else f"{spec.width}:{spec.height}"
    return (
        f"The host cuts out the largest centred region of the shape {shape}, of which it keeps "
        f"{spec.crop_fraction:.1%} of each side in the middle, and scales it to {size} {filtered}."
    )
