"""Build a manifest: look into every file once, name what cannot be read, keep the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taxon.core.cores import available_cores
from taxon.core.errors import DataError, ImageError
from taxon.core.fingerprint import sha256_bytes
from taxon.core.labels import LabelSpace
from taxon.data.manifest import Manifest, Record, Skipped
from taxon.data.sources import Columns, Listing, Row, read_source
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.decode import read_picture

Progress = Callable[[int, int], None]


def load_manifest(
    path: Path,
    columns: Columns | None = None,
    *,
    label_space: LabelSpace | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Read a data set and look into every picture, on all cores.

    Args:
        label_space: the classes of a trained model; None makes them from the data.
        progress: called with (done, total).

    Raises:
        DataError: nothing usable there, or classes that `label_space` does not have.
    """
    return build_manifest(read_source(path, columns), label_space=label_space, progress=progress)


def build_manifest(
    listing: Listing,
    *,
    label_space: LabelSpace | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make the manifest of a listing; pictures that cannot be read are listed as skipped."""
    space = label_space or listing.label_space()
    space.targets([row.labels for row in listing.rows])  # names a class that the space lacks
    spec = Preprocessing()
    results: list[Record | Skipped] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for result in pool.map(lambda row: _inspect(row, spec), listing.rows):
            results.append(result)
            if progress is not None:
                progress(len(results), len(listing.rows))
    records = tuple(result for result in results if isinstance(result, Record))
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    if not records:
        raise DataError(
            f"none of the {len(skipped)} pictures of {listing.root} can be read; "
            f"the first: {skipped[0].id}: {skipped[0].reason}"
        )
    return Manifest(records, space, listing.root.resolve(), skipped, listing.notes)


def _inspect(row: Row, spec: Preprocessing) -> Record | Skipped:
    name = row.id.encode("utf-8", "backslashreplace").decode()
    if name != row.id:
        # Bytes that are no UTF-8 come as lone surrogates; no table or report could hold them.
        return Skipped(name, "the file's name is not UTF-8; rename it")
    try:
        data = read_picture(row.path)
        image = decode(data, spec, row.id)
    except ImageError as error:
        return Skipped(row.id, error.reason)
    return Record(
        id=row.id,
        path=Path(os.path.abspath(row.path)),
        sha256=sha256_bytes(data),
        labels=row.labels,
        group=row.group,
        split=row.split,
        width=image.width,
        height=image.height,
    )
