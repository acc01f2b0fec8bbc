"""Look-alikes: near-duplicates that a split keeps together, and how far it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from taxon.core.text import counted, some
from taxon.data.duplicates.near_duplicates import near_duplicate_groups
from taxon.data.manifest import Manifest
from taxon.data.splitting.units import Contents, Link, Units, make_units


def look_alikes(manifest: Manifest, notes: list[str]) -> tuple[Contents, ...]:
    """Find near-duplicates; pictures that nobody has looked into take no part.

    Args:
        notes: gets what the search gave up.

    Returns:
        groups of contents, the same whatever the order of the records.
    """
    seen = {
        record.sha256: (record.hash, record.look.thumbnail)
        for record in manifest.records
        if record.hash is not None and record.look is not None
    }
    contents = sorted(seen)
    if len(contents) < 2:
        return ()
    hashes = np.array([seen[content][0] for content in contents], np.uint64)
    thumbnails = np.frombuffer(b"".join(seen[content][1] for content in contents), np.uint8)
    found = near_duplicate_groups(hashes, thumbnails.reshape(len(contents), -1))
    notes.extend(found.notes)
    return tuple(tuple(contents[position] for position in group) for group in found.groups)


def loosen(
    manifest: Manifest,
    alike: Sequence[Contents],
    shares: Sequence[float],
    old: Mapping[Link, str],
) -> tuple[list[Contents], list[str]]:
    """Let groups of look-alikes go until every class can be split that could be without them.

    A class is stuck if it has fewer units than there are parts, or if the unit with most of its
    pictures leaves less than half of what the smaller parts should get. Of each stuck class
    the largest group goes, and so on; the small ones, true copies more often than not, stay.

    Args:
        shares: of the parts that get pictures.
        old: what is known of an old split, as for `make_units`.

    Returns:
        the groups that stay, and a note on those that do not.
    """
    present = {record.sha256 for record in manifest.records}
    kept = [group for group in alike if len(present.intersection(group)) > 1]
    alone, _ = make_units(manifest, (), old)
    hopeless = _stuck(alone, shares)
    home = {
        manifest.records[position].sha256: alone.patterns[kind]
        for positions, kind in zip(alone.members, alone.kinds, strict=True)
        for position in positions
    }
    let_go: set[str] = set()
    while kept:
        units, _ = make_units(manifest, kept, old)
        stuck = np.flatnonzero(_stuck(units, shares) & ~hopeless)
        if not len(stuck):
            break
        let_go |= {manifest.label_space.names[column] for column in stuck}
        largest = {_largest(kept, home, int(column)) for column in stuck}
        kept = [group for position, group in enumerate(kept) if position not in largest]
    if not let_go:
        return kept, []
    return kept, [
        f"so many pictures of {some(sorted(let_go))} look the same that the class could not be "
        "split: the largest groups of its near-duplicates are not kept together"
    ]


def kept_together(manifest: Manifest, alike: Sequence[Contents]) -> list[str]:
    """Return a note on look-alikes that a split of these pictures keeps together."""
    contents = {content for group in alike for content in group}
    count = sum(record.sha256 in contents for record in manifest.records)
    if not count:
        return []
    groups = counted(len(alike), "group", "groups")
    return [f"{groups} of near-duplicates ({count} pictures) kept together"]


def _largest(
    groups: Sequence[Contents], home: Mapping[str, npt.NDArray[np.int64]], column: int
) -> int:
    """The position of the group whose units hold most pictures of a class."""
    sizes = [
        int(sum(home[content][column] for content in group if content in home)) for group in groups
    ]
    return int(np.argmax(sizes))


def _stuck(units: Units, shares: Sequence[float]) -> npt.NDArray[np.bool_]:
    """bool [C]: the classes that cannot be split; those with old pictures stay as they were."""
    holding = units.holding()
    total = np.bincount(units.kinds, minlength=len(units.patterns)) @ units.of_classes
    too_few = holding < len(shares)
    too_large = total - units.largest() < (1 - max(shares) / sum(shares)) * total / 2
    return np.asarray((too_few | too_large) & (holding == units.holding(free=True)))
