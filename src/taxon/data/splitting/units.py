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
Side = TypeVar("Side", bound=str)
Contents = tuple[str, ...]  # the sha256 of pictures that look the same
Link = tuple[str, str]  # what pictures share: its kind, and which one

PICTURE = "picture"  # itself, by its id
# What joins pictures, the strongest first: what a person declared, the same bytes, a likeness.
FORCE = GROUP, CONTENT, ALIKE = "group", "content", "alike"


@dataclass(frozen=True)
class Units:
    """Units of a manifest, in an order that depends on the pictures' contents alone.

    Attributes:
        members: for each of U units the positions of its records.
        kinds: int64 [U], the row of `patterns` that a unit has.
        patterns: int64 [P, C + K + 2]; pictures of each class, those for which each of K classes
            is unknown and pictures without any label (so that these are spread evenly too), all
            pictures. Few units differ in it, and a row a unit would not fit into memory where
            there are many pictures and classes.
        classes: C.
        sides: the part that a unit must have, or None.
    """

    members: tuple[tuple[int, ...], ...]
    kinds: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.int64]
    classes: int
    sides: tuple[str | None, ...]

    @property
    def of_classes(self) -> npt.NDArray[np.int64]:
        """int64 [P, C]: the columns of the patterns that count pictures of a class."""
        return self.patterns[:, : self.classes]

    def holding(self, free: bool = False) -> npt.NDArray[np.int64]:
        """int64 [C]: how many units hold a picture of each class; with `free`, only of the
        units whose part is open."""
        counted = np.array([side is None or not free for side in self.sides], bool)
        count = np.bincount(self.kinds[counted], minlength=len(self.patterns))
        return np.asarray(count @ (self.of_classes > 0), np.int64)

    def largest(self) -> npt.NDArray[np.int64]:
        """int64 [C]: of each class, how many pictures the unit with most of them holds."""
        return np.asarray(self.of_classes.max(axis=0), np.int64)


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
    manifest: Manifest, alike: Iterable[Contents], old: Mapping[Link, Side]
) -> tuple[Units, dict[Link, Side]]:
    """Join pictures of one group, of one content, and of contents that look alike.

    Args:
        alike: contents to keep together.
        old: the part of old pictures, and of the groups and contents of an old manifest.

    Returns:
        the units, and the part of every picture that the old ones decide: theirs, and of those
        that go with them. A unit that they have in several parts is divided.
    """
    records = manifest.records
    links = links_of(records, alike)
    sides = _sides(records, links, old)
    # By content: the order of the rows and the files' names must not change a split.
    order = sorted(range(len(records)), key=lambda row: records[row].sha256)
    pieces: list[tuple[str | None, tuple[int, ...]]] = []
    for positions in _joined({row: links[row] for row in order}):
        found: dict[str | None, list[int]] = defaultdict(list)
        for row in positions:
            found[sides[row]].append(row)
        pieces.extend((side, tuple(rows)) for side, rows in found.items())
    units = _units(manifest, pieces)
    decided = {
        (PICTURE, record.id): side
        for record, side in zip(records, sides, strict=True)
        if side is not None
    }
    return units, decided


def single_units(manifest: Manifest, old: Mapping[Link, str]) -> Units:
    """Return units of one picture each, as if nothing had to stay together.

    Args:
        old: the part of old pictures.
    """
    records = manifest.records
    order = sorted(range(len(records)), key=lambda row: records[row].sha256)
    return _units(manifest, [(old.get((PICTURE, records[row].id)), (row,)) for row in order])


def links_of(records: Sequence[Record], alike: Iterable[Contents]) -> list[list[Link]]:
    """Return what each record shares with others; look-alikes by their place in `alike`."""
    likeness: dict[str, list[Link]] = defaultdict(list)
    for number, contents in enumerate(alike):
        for content in contents:
            likeness[content].append((ALIKE, str(number)))
    return [
        [
            *([(GROUP, record.group)] if record.group is not None else []),
            (CONTENT, record.sha256),
            *likeness.get(record.sha256, []),
        ]
        for record in records
    ]


def _joined(links: Mapping[int, Sequence[Link]]) -> list[list[int]]:
    """Rows that share a link, directly or by way of others; in the order of their first ones."""
    keys = {row: own or [(PICTURE, str(row))] for row, own in links.items()}
    stands_for = together(keys.values())
    joined: dict[Link, list[int]] = defaultdict(list)
    for row, own in keys.items():
        joined[stands_for[own[0]]].append(row)
    return list(joined.values())


def _sides(
    records: Sequence[Record], links: Sequence[Sequence[Link]], old: Mapping[Link, Side]
) -> list[Side | None]:
    """The part of each record that the old ones decide, or None.

    An old picture keeps its own. A new one goes where most of its group is; failing that, where
    most of its equal files are; failing that, most look-alikes. New pictures of one group go
    together: no group is torn for the sake of an equal file, no equal files for a look-alike.
    """
    sides = [old.get((PICTURE, record.id)) for record in records]
    for rank, kind in enumerate(FORCE if old else (), start=1):
        votes = _votes(kind, links, sides, old)
        free = {
            row: [link for link in links[row] if link[0] in FORCE[:rank]]
            for row, side in enumerate(sides)
            if side is None
        }
        for rows in _joined(free):
            found: Counter[Side] = Counter()
            for link in {link for row in rows for link in free[row]}:
                found.update(votes.get(link, {}))
            if found:
                most = min(found, key=lambda side: (-found[side], side))
                for row in rows:
                    sides[row] = most
    return sides


def _votes(
    kind: str,
    links: Sequence[Sequence[Link]],
    sides: Sequence[Side | None],
    old: Mapping[Link, Side],
) -> dict[Link, Counter[Side]]:
    """How many pictures each link of a kind has in each part; a group of which no old picture is
    left has its old part all the same."""
    votes: dict[Link, Counter[Side]] = defaultdict(Counter)
    for own, side in zip(links, sides, strict=True):
        for link in own:
            if side is not None and link[0] == kind:
                votes[link][side] += 1
    for link, side in old.items():
        if link[0] == kind and link not in votes:
            votes[link][side] = 1
    return votes


def _units(manifest: Manifest, pieces: Sequence[tuple[str | None, tuple[int, ...]]]) -> Units:
    members = tuple(rows for _, rows in pieces)
    kinds, patterns = _patterns(manifest, members)
    classes = len(manifest.label_space.names)
    return Units(members, kinds, patterns, classes, tuple(side for side, _ in pieces))


def _patterns(
    manifest: Manifest, units: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    column = {name: position for position, name in enumerate(manifest.label_space.names)}
    names = sorted({name for record in manifest.records for name in record.unknown})
    unknown = {name: position for position, name in enumerate(names, start=len(column))}
    untagged = len(column) + len(unknown)
    pictures = untagged + 1
    rows: dict[tuple[tuple[int, int], ...], int] = {}
    kinds = np.empty(len(units), np.int64)
    for position, unit in enumerate(units):
        counts: Counter[int] = Counter({pictures: len(unit)})
        for row in unit:
            record = manifest.records[row]
            counts.update([column[label] for label in record.labels] or [untagged])
            counts.update(unknown[name] for name in record.unknown)
        kinds[position] = rows.setdefault(tuple(sorted(counts.items())), len(rows))
    patterns = np.zeros((len(rows), pictures + 1), np.int64)
    for counted, row in rows.items():
        for place, count in counted:
            patterns[row, place] = count
    return kinds, patterns
