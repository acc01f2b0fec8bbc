"""Golden examples: a few pictures with the exact input and the outputs that they must give."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.bundle.layout import GOLDEN_FILE, GOLDEN_FOLDER
from taxon.core.errors import BundleError
from taxon.core.files import atomic_file
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.preprocessing import Preprocessing, prepare

MAXIMUM_SIDE = 512
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class GoldenSet:
    """K pictures as PNG bytes, their inputs and their outputs.

    Attributes:
        pictures: PNG bytes.
        images: uint8 [K, 3, H, W], what preprocessing must give, exactly.
        logits, probabilities: float32 [K, C], what the model must give, within tolerance.
        scope: float32 [K], the same; None where the model has no such score.
    """

    pictures: tuple[bytes, ...]
    images: ImageBatch
    logits: FloatArray
    probabilities: FloatArray
    scope: FloatArray | None = None


def write_golden_pictures(folder: Path, pictures: Sequence[Image.Image]) -> tuple[bytes, ...]:
    """Write RGB pictures as golden/00.png, ...; large ones are shrunk first. Return the bytes."""
    (folder / GOLDEN_FOLDER).mkdir(parents=True, exist_ok=True)
    for position, picture in enumerate(pictures):
        small = picture.copy()
        small.thumbnail((MAXIMUM_SIDE, MAXIMUM_SIDE))
        small.save(_picture_file(folder, position))
    return tuple(_picture_file(folder, position).read_bytes() for position in range(len(pictures)))


def write_golden_outputs(
    folder: Path,
    images: ImageBatch,
    logits: FloatArray,
    probabilities: FloatArray,
    scope: FloatArray | None = None,
) -> None:
    """Write what the pictures must give."""
    arrays: dict[str, npt.NDArray[Any]]
    arrays = {"images": images, "logits": logits, "probabilities": probabilities}
    if scope is not None:
        arrays["scope"] = scope
    with (
        atomic_file(folder / GOLDEN_FILE) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name, array in arrays.items():
            # As numpy's `savez_compressed`, but without the time: the same again is the same file.
            entry = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read_golden(folder: Path) -> GoldenSet:
    """Read the golden examples of a bundle.

    Raises:
        BundleError: a file is absent or damaged.
    """
    try:
        with np.load(folder / GOLDEN_FILE, allow_pickle=False) as arrays:
            images, logits = arrays["images"], arrays["logits"]
            probabilities = arrays["probabilities"]
            scope = arrays.get("scope")
        pictures = tuple(
            _picture_file(folder, position).read_bytes() for position in range(len(images))
        )
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"the golden examples of {folder} cannot be read: {error}") from error
    return GoldenSet(pictures, images, logits, probabilities, scope)


def differing_inputs(golden: GoldenSet, spec: Preprocessing) -> list[int]:
    """Return the positions of golden pictures whose preprocessing is not exact here."""
    return [
        position
        for position, picture in enumerate(golden.pictures)
        if not np.array_equal(prepare(picture, spec), golden.images[position])
    ]


def _picture_file(folder: Path, position: int) -> Path:
    return folder / GOLDEN_FOLDER / f"{position:02d}.png"
