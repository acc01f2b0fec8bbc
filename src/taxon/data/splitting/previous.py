"""The old split: its manifest, and which pictures it has."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.text import agree, counted, some
from taxon.data.build import load_manifest
from taxon.data.manifest import SPLITS, Manifest, Split, is_manifest, read_manifest
from taxon.data.manifest_table import is_manifest_table
from taxon.data.splitting.units import CONTENT, GROUP, PICTURE, Link
from taxon.preprocessing import Preprocessing

_WANTED = (
    "--previous takes the manifest of an older split (`taxon split DATA --out manifest.parquet` "
    "writes one) or a model folder"
)


def read_previous(path: Path, spec: Preprocessing) -> Manifest:
    """Read an older manifest, Parquet or CSV.

    Args:
        spec: a table in CSV names no content, so that its pictures are looked into.

    Raises:
        DataError: absent, a folder, damaged, or not a manifest.
    """
    try:
        if path.is_dir():
            raise DataError(_what_a_folder_holds(path))
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no such file: {path}; {_WANTED}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if path.suffix.lower() == ".csv" and is_manifest_table(path):
        return _read_table(path, spec)
    if not is_manifest(path):
        raise DataError(f"{path} is not a manifest that taxon wrote; {_WANTED}")
    try:
        return read_manifest(path)
    except DataError:  # its words are the libraries'
        raise DataError(f"the manifest {path} is damaged and cannot be read; {_WANTED}") from None


def _read_table(path: Path, spec: Preprocessing) -> Manifest:
    try:
        return load_manifest(path, spec=spec)
    except DataError as error:
        raise DataError(
            f"the pictures of {path} cannot be looked into, and a CSV table alone does not tell "
            f"which they were ({error}); name a manifest in Parquet, or leave --previous out"
        ) from None


def _what_a_folder_holds(path: Path) -> str:
    found = sorted(path.glob("*.parquet"), key=lambda file: (len(file.name), file.name))
    names = [file.name for file in found if is_manifest(file)]
    if not names:
        return f"{path} is a folder, and not that of a model; {_WANTED}"
    first = shlex.quote(str(path / names[0]))
    return (
        f"{path} is a folder of manifests ({some(names)}), and one split alone can be kept; name "
        f"one of them, as --previous {first}"
    )


def old_parts(manifest: Manifest, previous: Manifest) -> dict[Link, Split]:
    """Return the part of each picture that the old manifest has, and of the groups and contents.

    A picture is known by its content, whatever its name is now. Of one content in several parts
    only the name tells which picture is which, and so it does where there are more copies now.

    Raises:
        DataError: the old manifest has no split, or none of these pictures.
    """
    named: dict[tuple[str, str], Split] = {}
    held: dict[Link, Counter[Split]] = defaultdict(Counter)
    for part in SPLITS:
        for record in previous.part(part).records:
            named[record.id, record.sha256] = part
            held[CONTENT, record.sha256][part] += 1
            if record.group is not None:
                held[GROUP, record.group][part] += 1
    if not named:
        raise DataError(
            "the old manifest (--previous) has no split that pictures could keep; leave it out"
        )
    own: dict[Link, Split] = {}
    now = Counter(record.sha256 for record in manifest.records)
    for record in manifest.records:
        parts = held.get((CONTENT, record.sha256), Counter())
        if (record.id, record.sha256) in named:
            own[PICTURE, record.id] = named[record.id, record.sha256]
        elif len(parts) == 1 and now[record.sha256] <= parts.total():
            own[PICTURE, record.id] = next(iter(parts))
    if not own:
        raise DataError(
            f"0 of {len(manifest)} pictures are in the old manifest (--previous), so that none "
            "could keep its part: a picture is known by its bytes, and one that was saved anew is "
            "another; name the manifest of these pictures, or leave --previous out"
        )
    there = {(CONTENT, record.sha256) for record in manifest.records}
    there |= {(GROUP, record.group) for record in manifest.records if record.group is not None}
    # Of parts that hold as many pictures the first is taken: train.
    most = {link: max(count, key=count.__getitem__) for link, count in held.items()}
    return {link: most[link] for link in most if link in there} | own


def on_known(manifest: Manifest, previous: Manifest, old: Mapping[Link, str]) -> str:
    """Return a note on how many pictures keep their part, are new, and are gone."""
    pictures = counted(len(manifest), "picture", "pictures")
    kept = sum(kind == PICTURE for kind, _ in old)
    new = len(manifest) - kept
    there = {record.sha256 for record in manifest.records}
    gone = sum(record.sha256 not in there for record in previous.records if record.split)
    note = (
        f"{kept} of {pictures} {agree(kept, 'keeps its', 'keep their')} part of the old split, "
        f"{new} {agree(new, 'is', 'are')} new"
    )
    return f"{note}; {gone} old {agree(gone, 'one is', 'ones are')} gone" if gone else note
