"""Assign: a part for every picture of a manifest, and what is to be said about the parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taxon.data.manifest import Manifest
from taxon.data.splitting.split_checks import Part, require_enough, shortcomings
from taxon.data.splitting.stratify import stratify
from taxon.data.splitting.units import Contents, Link, Units, make_units, single_units


@dataclass
class Rules:
    """What holds whenever pictures are divided: what stays together, chance, and the notes."""

    alike: Sequence[Contents]
    seed: int
    notes: list[str]


def assign(
    manifest: Manifest,
    shares: Mapping[Part, float],
    old: Mapping[Link, Part],
    rules: Rules,
    folds: int | None = None,
) -> list[Part]:
    """Return a part for each record; the first part takes what the others leave."""
    units, _ = make_units(manifest, rules.alike, old)
    asked = [part for part, share in shares.items() if share > 0]
    require_enough(manifest, units, asked, folds)
    result = [asked[0]] * len(manifest)
    for unit, part in zip(units.members, _hand_out(units, shares, rules.seed), strict=True):
        for position in unit:
            result[position] = part

    def sizes(old: Mapping[Link, Part]) -> Callable[[], Counter[Part]]:
        return lambda: Counter(_hand_out(single_units(manifest, old), shares, rules.seed))

    causes = [("each part gets a picture of every class", sizes({}))]
    if old:
        why = "old pictures keep their part and what belongs to them goes with them"
        causes.append((why, sizes(old)))
    rules.notes.extend(shortcomings(manifest, result, shares, causes))
    return result


def _hand_out(units: Units, shares: Mapping[Part, float], seed: int) -> list[Part]:
    """Return a part for each unit."""
    parts = list(shares)
    place: dict[str | None, int] = {None: -1, **{part: row for row, part in enumerate(parts)}}
    fixed = np.array([place[side] for side in units.sides], np.int64)
    wanted = np.array(list(shares.values()))
    chosen = stratify(units, wanted / wanted.sum(), fixed, np.random.default_rng(seed))
    return [parts[row] for row in chosen]
