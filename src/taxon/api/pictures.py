"""The pictures that are scored: those still there, their groups, and small copies to show."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.bundle.layout import MANIFEST_FILE
from taxon.core.errors import DataError, ImageError
from taxon.data import Manifest, Record, read_manifest
from taxon.data.presence import is_unchanged
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.decode import read_picture

SEEN = "pictures that a run has seen are scored: they flatter it"
THUMBNAIL_SIDE = 128
UNKNOWN = (
    "it is not known on which pictures the model was trained, as it has no manifest: it may have "
    "seen those that are scored"
)
# Large JPEGs are decoded at a fraction of their size, and damaged ones shown as far as they go.
_SMALL = Preprocessing(jpeg_dct_scaling=True, truncated="fill")


def own_manifest(run: Path) -> Manifest | None:
    """The pictures that a run was trained and tested on; None where it was published without.

    Raises:
        DataError: damaged.
    """
    file = run / MANIFEST_FILE
    return read_manifest(file) if file.is_file() else None


def still_there(manifest: Manifest, *, hint: str) -> tuple[Manifest, list[str]]:
    """Leave out pictures that were moved, removed or changed since the manifest was made.

    Args:
        hint: the command that names a data set.

    Returns:
        What is left, and a note on what is not.

    Raises:
        DataError: nothing is left.
    """
    gone = {record.id for record in manifest.records if not is_unchanged(record)}
    if not gone:
        return manifest, []
    if len(gone) == len(manifest):
        raise DataError(
            f"none of the {len(gone)} pictures is where it was (say "
            f"{manifest.records[0].path}); name the data set: {hint}"
        )
    kept = manifest.where(lambda record: record.id not in gone)
    return kept, [f"{len(gone)} pictures are gone or have changed since training: left out"]


def group_numbers(records: Sequence[Record]) -> npt.NDArray[np.int64] | None:
    """A number a group, for intervals over groups; None where no picture has one."""
    if all(record.group is None for record in records):
        return None
    names = [record.group or f"picture {record.id}" for record in records]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def count_groups(records: Sequence[Record]) -> int | None:
    """How many groups the pictures are of, one without a group being one; None without any."""
    numbers = group_numbers(records)
    return None if numbers is None else len(np.unique(numbers))


def thumbnails_of(records: Sequence[Record]) -> Callable[[str], bytes | None]:
    """A function from a picture's id to a small JPEG of it, or None where it cannot be read."""
    paths = {record.id: record.path for record in records}
    return lambda picture: thumbnail_of(paths[picture])


def thumbnail_of(path: str | Path) -> bytes | None:
    """A small JPEG of a picture, or None where it cannot be read."""
    try:
        data = read_picture(Path(path))
        image = decode(data, _SMALL, str(path), at_least=THUMBNAIL_SIDE)
    except ImageError:
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
