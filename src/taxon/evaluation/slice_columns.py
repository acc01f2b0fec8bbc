"""What slices there are: the values of a column of the user's table, or quarters of a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from taxon.core.text import counted, some

SMALLEST = 10  # pictures; of fewer nothing is said
MOST_VALUES = 20  # of a column; numbers become quarters, of other values the most frequent stay
EMPTY = "(empty)"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SliceColumn:
    """How one column cuts the pictures.

    Attributes:
        name: of the column.
        values: the slice of each of N pictures, in words; None: of none that is judged.
    """

    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Scale:
    """How the quarters of a number are called.

    Attributes:
        what: the number, `brightness`.
        unit: written after it, ` px`, or nothing.
        words: for the lowest, second lowest, second highest and highest quarter.
    """

    what: str
    unit: str = ""
    words: tuple[str, str, str, str] = ("lowest", "second lowest", "second highest", "highest")


def column_of_values(name: str, cells: Sequence[str]) -> tuple[SliceColumn, list[str]]:
    """Make the slices of a column of the user's table, and say what was left out.

    Up to 20 values each make a slice. Of more, numbers become quarters; of other values the 20 most
    frequent stay.

    Args:
        cells: of N pictures; an empty one is a value of its own.
    """
    counts = Counter(cell or EMPTY for cell in cells)
    if len(counts) <= MOST_VALUES:
        return SliceColumn(name, tuple(cell or EMPTY for cell in cells)), []
    numbers = np.array([_number(cell) for cell in cells])
    written = [cell for cell in cells if cell]
    if np.isfinite(numbers).sum() == len(written):
        return SliceColumn(name, quarters(Scale(name), numbers)), []
    kept = {value for value, _ in counts.most_common(MOST_VALUES)}
    note = (
        f"the column '{name}' has {len(counts):,} values: the {MOST_VALUES} most frequent are "
        "slices, the others are not"
    )
    values = tuple(value if value in kept else None for value in (cell or EMPTY for cell in cells))
    return SliceColumn(name, values), [note]


def quarters(scale: Scale, numbers: Floats) -> tuple[str | None, ...]:
    """Return the quarter of each picture in words: `darkest quarter: brightness below 0.31`.

    The limits are the quartiles, rounded to as few digits as keep the quarters between 20 and 30 %
    of the pictures. Where many pictures share a number, quarters run together, and no word is said
    of them; where all do, there is nothing to tell apart, and all are None.

    Args:
        numbers: [N]; NaN is the slice `(empty)`.
    """
    finite = np.isfinite(numbers)
    limits = _limits(numbers[finite])
    if not limits:
        return (None,) * len(numbers)
    texts = [_written(limit) + scale.unit for limit in limits]
    bands = [f"below {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts))]
    names = [f"{scale.what} {band}" for band in (*bands, f"from {texts[-1]}")]
    if _are_quarters(numbers[finite], limits):
        names = [f"{word} quarter: {name}" for word, name in zip(scale.words, names, strict=True)]
    places = np.searchsorted(limits, numbers, side="right")
    return tuple(
        names[place] if there else EMPTY
        for place, there in zip(places.tolist(), finite.tolist(), strict=True)
    )


def _limits(known: Floats) -> list[float]:
    """The rounded quartiles, but for those that part nothing."""
    limits: list[float] = []
    if not len(known):
        return limits
    quartiles = np.quantile(known, [0.25, 0.5, 0.75])
    for digits in range(2, 8):
        rounded = sorted({float(f"{quartile:.{digits}g}") for quartile in quartiles})
        occupied = np.unique(np.searchsorted(rounded, known, side="right")).tolist()
        limits = [rounded[band - 1] for band in occupied[1:]]
        if _are_quarters(known, limits):
            break
    return limits


def _are_quarters(known: Floats, limits: Sequence[float]) -> bool:
    shares = np.bincount(np.searchsorted(limits, known, side="right"), minlength=4) / len(known)
    return bool(((shares >= 0.2) & (shares <= 0.3)).all())


def _written(limit: float) -> str:
    return np.format_float_positional(limit, trim="-")


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def judged(columns: Sequence[SliceColumn]) -> tuple[list[SliceColumn], list[str]]:
    """Leave out slices of fewer than 10 pictures, and columns that part nothing; say so."""
    kept, small, whole = [], [], []
    for column in columns:
        counts = Counter(value for value in column.values if value is not None)
        if any(count == len(column.values) for count in counts.values()):
            whole.append(column.name)
            continue
        few = {value: count for value, count in counts.items() if count < SMALLEST}
        small += [f"{column.name} {value} ({few[value]})" for value in sorted(few)]
        values = tuple(None if value in few else value for value in column.values)
        if any(value is not None for value in values):
            kept.append(SliceColumn(column.name, values))
    notes = []
    if small:
        what = counted(len(small), "slice", "slices")
        notes.append(f"{what} of fewer than {SMALLEST} pictures not judged: {some(small, 3)}")
    if whole:
        notes.append(f"no slices by {some(whole)}: it is the same for all pictures")
    return kept, notes
