"""Splits: train, validation, calibration and test, stratified, with groups kept together.

One algorithm serves one class a picture and several: iterative stratification (Sechidis et al.
2011), which hands out the rarest label first, applied to groups of pictures instead of single
ones. Files with the same content count as one group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.errors import DataError
from taxon.data.manifest import Manifest, Split

MINIMUM_CALIBRATION_PER_CLASS = 20


@dataclass(frozen=True)
class SplitPlan:
    """The manifest with a part for every record, and what was decided on the way."""

    manifest: Manifest
    notes: tuple[str, ...]


def ensure_split(manifest: Manifest, *, validation: float, test: float, seed: int) -> SplitPlan:
    """Give every record a part.

    Data that bring their own split keep it; where they have no validation part, one is taken
    from the training part. A calibration part is taken out of validation once that leaves
    each class enough pictures; else validation serves for both.

    Args:
        validation, test: shares of the data, 0 to 1.
        seed: the same seed and data give the same split.

    Raises:
        DataError: a class is too small to be in every part, or there is no training part.
    """
    notes: list[str] = []
    if any(record.split is not None for record in manifest.records):
        manifest = _complete(manifest, validation, seed, notes)
    else:
        shares: dict[Split, float] = {"train": 1 - validation - test}
        if validation:
            shares["validation"] = validation
        if test:
            shares["test"] = test
        manifest = manifest.with_splits(_assign(manifest, shares, seed))
        notes.append(f"split by seed {seed}, groups and equal files kept together")
    manifest = _take_calibration(manifest, seed, notes)
    if not manifest.part("validation"):
        notes.append("no validation part: the last epoch is kept and nothing is calibrated")
    _require_training_classes(manifest)
    return SplitPlan(manifest, tuple(notes))


def _complete(manifest: Manifest, validation: float, seed: int, notes: list[str]) -> Manifest:
    notes.append("split as the data give it")
    train = manifest.part("train")
    if not len(train):
        found = ", ".join(manifest.split_counts())
        raise DataError(f"the data have no part 'train' (only: {found}); training needs one")
    if len(manifest.part("validation")) or not validation:
        return manifest
    shares: dict[Split, float] = {"train": 1 - validation, "validation": validation}
    chosen = dict(
        zip((record.id for record in train.records), _assign(train, shares, seed), strict=True)
    )
    notes.append(f"no validation part in the data: {validation:.0%} of train taken for it")
    return manifest.with_splits(
        [chosen.get(record.id, record.split or "train") for record in manifest.records]
    )


def _take_calibration(manifest: Manifest, seed: int, notes: list[str]) -> Manifest:
    pool = manifest.part("validation")
    if len(manifest.part("calibration")) or not len(pool):
        return manifest
    # 40 pictures of a class that are all of one group cannot be divided.
    units = _unit_labels(pool, _units(pool))[:, :-1]
    smallest = min(pool.counts().values())
    if smallest < 2 * MINIMUM_CALIBRATION_PER_CLASS or (units > 0).sum(axis=0).min() < 2:
        notes.append("few pictures: validation serves for calibration too")
        return manifest
    shares: dict[Split, float] = {"validation": 0.5, "calibration": 0.5}
    chosen = dict(
        zip((record.id for record in pool.records), _assign(pool, shares, seed), strict=True)
    )
    return manifest.with_splits(
        [chosen.get(record.id, record.split or "train") for record in manifest.records]
    )


def _require_training_classes(manifest: Manifest) -> None:
    empty = [name for name, count in manifest.part("train").counts().items() if not count]
    if empty:
        raise DataError(
            f"no training pictures of {', '.join(repr(name) for name in empty[:5])}; every "
            "class that occurs anywhere needs some in the training part"
        )


def _assign(manifest: Manifest, shares: dict[Split, float], seed: int) -> list[Split]:
    """Return a part for each record."""
    units = _units(manifest)
    labels = _unit_labels(manifest, units)
    _require_enough(manifest, labels, shares)
    parts = list(shares)
    wanted = np.array([shares[part] for part in parts])
    chosen = _stratify(labels, wanted / wanted.sum(), np.random.default_rng(seed))
    result: list[Split] = ["train"] * len(manifest)
    for unit, part in zip(units, chosen, strict=True):
        for position in unit:
            result[position] = parts[part]
    return result


def _units(manifest: Manifest) -> list[list[int]]:
    """Positions of records that must stay together: same group, or same file content."""
    parent = list(range(len(manifest)))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    first: dict[tuple[str, str], int] = {}
    for position, record in enumerate(manifest.records):
        keys = [("sha256", record.sha256)]
        if record.group is not None:
            keys.append(("group", record.group))
        for key in keys:
            parent[root(position)] = root(first.setdefault(key, position))
    members: dict[int, list[int]] = defaultdict(list)
    for position in range(len(manifest)):
        members[root(position)].append(position)
    return list(members.values())


def _unit_labels(manifest: Manifest, units: list[list[int]]) -> npt.NDArray[np.int64]:
    """int64 [units, C + 1]: pictures of each class in each unit; the last column counts
    pictures without any label, so that these are spread evenly too."""
    names = {name: column for column, name in enumerate(manifest.label_space.names)}
    matrix = np.zeros((len(units), len(names) + 1), np.int64)
    for row, unit in enumerate(units):
        for position in unit:
            columns = [names[label] for label in manifest.records[position].labels]
            matrix[row, columns or [len(names)]] += 1
    return matrix


def _require_enough(
    manifest: Manifest, labels: npt.NDArray[np.int64], shares: dict[Split, float]
) -> None:
    holding = Counter(
        {
            name: int(np.count_nonzero(labels[:, column]))
            for column, name in enumerate(manifest.label_space.names)
        }
    )
    small = {name: count for name, count in holding.items() if count < len(shares)}
    if small:
        name, count = min(small.items(), key=lambda item: (item[1], item[0]))
        raise DataError(
            f"'{name}' has {count} picture{'s' if count != 1 else ''} (or groups of them) and "
            f"cannot be split into {', '.join(shares)}; at least {len(shares)} are needed. Add "
            "pictures, merge or remove the class, or ask for fewer parts (--test-share 0, "
            "--validation-share 0)"
        )


def _stratify(
    labels: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], rng: np.random.Generator
) -> list[int]:
    """Return the part of each unit: the rarest remaining label is handed out first, each unit
    to the part that still wants that label most. Its last units go to the parts that have none
    of it, however large the first ones were."""
    # The first part (train) is the largest; the others get at least one of every label.
    totals = labels.sum(axis=0)
    wanted = np.maximum(totals[None, :] * shares[:, None], np.minimum(totals, 1)[None, :])
    wanted[0] = totals - wanted[1:].sum(axis=0)
    wanted_total = labels.sum() * shares
    lacking = np.ones(wanted.shape, bool)  # parts x labels
    chosen = np.full(len(labels), -1)
    order = rng.permutation(len(labels))
    remaining = totals.astype(np.float64)
    while (chosen < 0).any():
        rarest = int(np.argmin(np.where(remaining > 0, remaining, np.inf)))
        # Large groups first: a part that is nearly full cannot take them any more.
        holders = sorted(
            order[(chosen[order] < 0) & (labels[order, rarest] > 0)],
            key=lambda unit: -labels[unit, rarest],
        )
        for done, unit in enumerate(holders):
            without = lacking[:, rarest]
            allowed = without if without.sum() >= len(holders) - done else True
            wants = np.where(allowed, wanted[:, rarest], -np.inf)
            best = np.flatnonzero(wants >= wants.max() - 1e-9)
            part = int(best[np.argmax(wanted_total[best])])
            chosen[unit] = part
            lacking[part] &= labels[unit] == 0
            wanted[part] -= labels[unit]
            wanted_total[part] -= labels[unit].sum()
            remaining -= labels[unit]
        remaining[rarest] = 0
    return [int(part) for part in chosen]
