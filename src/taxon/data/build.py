"""Build a manifest: look into every file once, name what cannot be read, keep the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from taxon.core.cores import available_cores
from taxon.core.errors import DataError, ImageError
from taxon.core.labels import LabelSpace
from taxon.data.annotations import annotation_notes, within
from taxon.data.look import Look, look_into
from taxon.data.look_cache import LookCache, Stamp, stamp_of
from taxon.data.manifest import Manifest, Record, Skipped
from taxon.data.sources import Columns, Listing, Row, read_source
from taxon.data.sources.words import is_encodable, readable
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import read_picture

Progress = Callable[[int, int], None]
# Looks into files elsewhere: yields their positions and looks, in any order; None for one that
# cannot be read there.
Looker = Callable[[Sequence[Path], Preprocessing], Iterator[tuple[int, Look | None]]]


def load_manifest(
    path: str | Path,
    columns: Columns | None = None,
    *,
    label_space: LabelSpace | None = None,
    spec: Preprocessing | None = None,
    progress: Progress | None = None,
    looker: Looker | None = None,
) -> Manifest:
    """Read a data set and look into every picture, on all cores; see `build_manifest`.

    Raises:
        DataError: nothing usable there, or classes that `label_space` does not have.
    """
    listing = read_source(path, columns)
    return build_manifest(
        listing, label_space=label_space, spec=spec, progress=progress, looker=looker
    )


def build_manifest(
    listing: Listing,
    *,
    label_space: LabelSpace | None = None,
    spec: Preprocessing | None = None,
    progress: Progress | None = None,
    looker: Looker | None = None,
) -> Manifest:
    """Make the manifest of a listing; pictures that cannot be read are listed as skipped.

    What a look finds is cached by the file's path, size and time of change, so that the next
    look at the same data takes no decoding.

    Args:
        label_space: the classes of a trained model; None makes them from the data.
        spec: its decoding (pixel limit, truncated files) decides what can be read.
        progress: called with (done, total).
        looker: looks into what the cache does not know, on other machines say; None: this
            machine's cores do. The manifest is the same.

    Raises:
        DataError: nothing usable there, or classes that `label_space` does not have.
    """
    space = label_space or listing.label_space()
    space.targets([row.labels for row in listing.rows])  # names a class that the space lacks
    rows, unannotated = within(listing, space)
    spec = spec or Preprocessing()
    with LookCache(listing.root, spec) as cache:
        results = _inspect_all(rows, spec, cache, progress, looker)
    notes = listing.notes
    if cache.problem is not None:
        notes += (f"the next run looks into every picture again: {cache.problem}",)
    records = tuple(result for result in results if isinstance(result, Record))
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    before = (*listing.skipped, *unannotated)
    # Links are kept: what they lead to may have a name that is not UTF-8.
    root = Path(os.path.abspath(listing.root))
    if not records:
        raise DataError(_nothing_left(root, skipped, before))
    manifest = Manifest(records, space, root, (*before, *skipped), notes)
    return replace(manifest, notes=(*notes, *annotation_notes(manifest)))


def with_looks(manifest: Manifest, spec: Preprocessing | None = None) -> Manifest:
    """Look into the pictures of a manifest that was read from a file, on all cores.

    What earlier looks found is taken from the cache. A record that has its look keeps it; one whose
    picture cannot be read, or has changed since, stays without.

    Args:
        spec: its decoding decides what can be read.
    """
    spec = spec or Preprocessing()
    unseen = [record for record in manifest.records if record.look is None]
    if not unseen:
        return manifest
    rows = [Row(record.id, record.path, record.labels, sha256=record.sha256) for record in unseen]
    with LookCache(manifest.root, spec, part=True) as cache:
        results = _inspect_all(rows, spec, cache, None)
    looks = {result.id: result.look for result in results if isinstance(result, Record)}
    records = tuple(
        replace(record, look=record.look or looks.get(record.id)) for record in manifest.records
    )
    return replace(manifest, records=records)


def _inspect_all(
    rows: Sequence[Row],
    spec: Preprocessing,
    cache: LookCache,
    progress: Progress | None,
    looker: Looker | None = None,
) -> list[Record | Skipped]:
    """What is known from before first, then the rest on all cores; in the order of the rows."""
    results = [_inspect(row, cache, None) for row in rows]
    unknown = [position for position, result in enumerate(results) if result is None]
    if looker is not None and unknown:
        _look_elsewhere(
            [rows[position].path for position in unknown], spec, cache, progress, looker
        )
    with ThreadPoolExecutor(available_cores()) as pool:
        looked = pool.map(lambda position: _inspect(rows[position], cache, spec), unknown)
        for done, (position, result) in enumerate(zip(unknown, looked, strict=True), start=1):
            results[position] = result
            if progress is not None:
                progress(len(rows) - len(unknown) + done, len(rows))
    return [result for result in results if result is not None]


def _look_elsewhere(
    paths: Sequence[Path],
    spec: Preprocessing,
    cache: LookCache,
    progress: Progress | None,
    looker: Looker,
) -> None:
    """Put into the cache what a looker finds; what it could not read is left to this machine."""
    stamps: list[Stamp] = []
    for path in dict.fromkeys(os.path.abspath(path) for path in paths):
        with suppress(ImageError):  # gone meanwhile: it is named later
            # Before any look: a file that changes after this is another one.
            stamps.append(stamp_of(Path(path)))
    for done, (position, look) in enumerate(looker([Path(s.path) for s in stamps], spec), start=1):
        # One of another size is another file, which only has the same name there.
        if look is not None and look.file_size == stamps[position].size:
            cache.put(stamps[position], look)
        if progress is not None:
            progress(done, len(stamps))


def _inspect(row: Row, cache: LookCache, spec: Preprocessing | None) -> Record | Skipped | None:
    """A row's record, or why there is none; without a spec only what the cache knows."""
    if not is_encodable(row.id):
        # Bytes that are no UTF-8 come as lone surrogates; no table or report could hold them.
        return Skipped(readable(row.id), "the file's name is not UTF-8; rename it", "name")
    path = Path(os.path.abspath(row.path))
    try:
        stamp = stamp_of(path)
        look = cache.get(stamp)
        if look is None and spec is not None:
            look = _look(path, row.id, spec, cache, stamp)
        if look is None:
            return None
        if row.sha256 is not None and row.sha256 != look.sha256:
            raise ImageError(row.id, "it changed since the manifest was written", kind="changed")
    except ImageError as error:
        return Skipped(row.id, error.reason, error.kind)
    return _record(row, path, look)


def _record(row: Row, path: Path, look: Look) -> Record:
    return Record(
        id=row.id,
        path=path,
        sha256=look.sha256,
        labels=row.labels,
        unknown=row.unknown,
        group=row.group,
        split=row.split,
        width=look.width,
        height=look.height,
        weight=row.weight,
        mode=look.mode,
        file_size=look.file_size,
        hash=look.hash,
        look=look,
        extra=row.extra,
    )


def _look(path: Path, source: str, spec: Preprocessing, cache: LookCache, stamp: Stamp) -> Look:
    try:
        look = look_into(read_picture(path), spec, source)
    except ImageError as error:
        cache.put_failure(stamp, error)
        raise
    cache.put(stamp, look)
    return look


def _nothing_left(root: Path, looked: Sequence[Skipped], before: Sequence[Skipped]) -> str:
    """Say that no picture can be used, and why the first cannot.

    Args:
        looked: those that were to be looked into.
        before: rows that name no picture.
    """
    first, *others = (*looked, *before)
    if not others:
        return f"the only picture of {root} cannot be used: {first.id}: {first.reason}"
    words = f"none of the {len(others) + 1} pictures of {root} can be used; the first: "
    words += f"{first.id}: {first.reason}"
    if looked and all(row.kind == "missing" for row in looked):
        words += ". If they have moved, name the folder that they are in: --image-root FOLDER"
    return words
