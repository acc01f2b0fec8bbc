"""Units: pictures that must stay in one part, since they are of one group or show the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from taxon.data.manifest import Manifest, Record

Key = TypeVar("Key", bound=Hashable)
Contents = tuple[str, ...]  # the sha256 of pictures that look the same


@dataclass(frozen=True)
class Units:
    """Units of a manifest, in an order that depends on the pictures' contents alone.

    Attributes:
        members: for each of U units the positions of its records.
        kinds: int64 [U], the row of `patterns` that a unit has.
        patterns: int64 [P, C + 2]; pictures of each class, pictures without any label (so that
            these are spread evenly too), all pictures. Few units differ in it, and a row a unit
            would not fit into memory where there are many pictures and classes.
        sides: the part that a unit must have, or None.
    """

    members: tuple[tuple[int, ...], ...]
    kinds: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.int64]
    sides: tuple[str | None, ...]

    def holding(self, free: bool = False) -> npt.NDArray[np.int64]:
        """int64 [C]: how many units hold a picture of each class; with `free`, only of the
        units whose part is open."""
        counted = np.array([side is None or not free for side in self.sides], bool)
        count = np.bincount(self.kinds[counted], minlength=len(self.patterns))
        return np.asarray(count @ (self.patterns[:, :-2] > 0), np.int64)

    def largest(self) -> npt.NDArray[np.int64]:
        """int64 [C]: of each class, how many pictures the unit with most of them holds."""
        return np.asarray(self.patterns[:, :-2].max(axis=0), np.int64)


def together(sets: Iterable[Iterable[Key]]) -> dict[Key, Key]:
    """Join sets that share an element; return for each element the one that stands for it."""
    parent: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for members in sets:
        first: Key | None = None
        for member in members:
            parent.setdefault(member, member)
            if first is None:
                first = root(member)
            else:
                parent[root(member)] = first
    return {key: root(key) for key in parent}


def make_units(
    manifest: Manifest, alike: Iterable[Contents], old: Mapping[str, str]
) -> tuple[Units, int]:
    """Join pictures of one group, of one content, and of contents that look alike.

    Args:
        alike: contents to keep together.
        old: for contents of an old manifest their part. They keep it, and what is joined with
            them gets it too.

    Returns:
        the units, and how many had old pictures in several parts. Such a unit is divided: what
        is old stays where it was, what is new goes where most of it is.
    """
    members: list[tuple[int, ...]] = []
    sides: list[str | None] = []
    torn = 0
    for positions in _joined(manifest.records, alike):
        pieces = _by_side(manifest.records, positions, old)
        torn += len(pieces) > 1
        sides.extend(pieces)
        members.extend(tuple(piece) for piece in pieces.values())
    kinds, patterns = _patterns(manifest, members)
    return Units(tuple(members), kinds, patterns, tuple(sides)), torn


def _joined(records: Sequence[Record], alike: Iterable[Contents]) -> list[list[int]]:
    def keys(record: Record) -> Iterable[tuple[str, str]]:
        yield "content", record.sha256
        if record.group is not None:
            yield "group", record.group

    known = {record.sha256 for record in records}
    chains = ([("content", name) for name in names if name in known] for names in alike)
    stands_for = together([*map(keys, records), *chains])
    joined: dict[tuple[str, str], list[int]] = defaultdict(list)
    # By content: the order of the rows and the files' names must not change a split.
    for position in sorted(range(len(records)), key=lambda row: records[row].sha256):
        joined[stands_for["content", records[position].sha256]].append(position)
    return list(joined.values())


def _by_side(
    records: Sequence[Record], positions: Sequence[int], old: Mapping[str, str]
) -> dict[str | None, list[int]]:
    found = Counter(old[name] for row in positions if (name := records[row].sha256) in old)
    if not found:
        return {None: list(positions)}
    most = min(found, key=lambda side: (-found[side], side))
    pieces: dict[str | None, list[int]] = defaultdict(list)
    for row in positions:
        pieces[old.get(records[row].sha256, most)].append(row)
    return dict(pieces)


def _patterns(
    manifest: Manifest, units: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    column = {name: position for position, name in enumerate(manifest.label_space.names)}
    untagged, pictures = len(column), len(column) + 1
    rows: dict[tuple[tuple[int, int], ...], int] = {}
    kinds = np.empty(len(units), np.int64)
    for position, unit in enumerate(units):
        counts: Counter[int] = Counter({pictures: len(unit)})
        for row in unit:
            labels = manifest.records[row].labels
            counts.update([column[label] for label in labels] or [untagged])
        kinds[position] = rows.setdefault(tuple(sorted(counts.items())), len(rows))
    patterns = np.zeros((len(rows), len(column) + 2), np.int64)
    for counted, row in rows.items():
        for place, count in counted:
            patterns[row, place] = count
    return kinds, patterns
