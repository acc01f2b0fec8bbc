"""By what an evaluation slices: columns of the user's table, groups, and what pictures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taxon.core.errors import DataError
from taxon.core.text import some
from taxon.data import Manifest, Record, with_looks
from taxon.data.look import Look
from taxon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from taxon.evaluation.slice_columns import SliceColumn

# What an evaluation slices by in any case: its unit, the words for its quarters, the number itself.
AUTOMATIC: dict[str, tuple[str, str, tuple[str, str, str, str], Callable[[Look], float]]] = {
    "brightness": (
        "brightness",
        "",
        ("darkest", "second darkest", "second brightest", "brightest"),
        lambda look: look.brightness,
    ),
    "sharpness": (
        "sharpness",
        "",
        ("most blurred", "second most blurred", "second sharpest", "sharpest"),
        lambda look: look.sharpness,
    ),
    "resolution": (
        "short side",
        " px",
        ("smallest", "second smallest", "second largest", "largest"),
        lambda look: min(look.width, look.height),
    ),
}
# What every manifest holds.
OF_RECORDS: dict[str, Callable[[Record], str]] = {
    "group": lambda record: record.group or "",
    "split": lambda record: record.split or "",
}


def extra_columns(slice_by: Sequence[str], run: Path, data: str | Path | None) -> tuple[str, ...]:
    """Return the columns that the user's table must have.

    Raises:
        DataError: there is no table that could have them.
    """
    extra = tuple(name for name in dict.fromkeys(slice_by) if name not in AUTOMATIC | OF_RECORDS)
    if extra and data is None:
        raise DataError(
            f"a run's own manifest has no column {some(extra)}; it can be sliced by "
            f"{', '.join(OF_RECORDS)} and, which is always done, {', '.join(AUTOMATIC)}. Name the "
            f"table that has the column: taxon evaluate {run} DATA --slice-by {extra[0]}"
        )
    return extra


def slice_columns(
    manifest: Manifest, slice_by: Sequence[str], extra: Sequence[str], spec: Preprocessing
) -> tuple[list[SliceColumn], list[str]]:
    """Return how the pictures are sliced, and what was left out.

    Args:
        slice_by: as the user named them.
        extra: those of them whose cells the records hold, in that order.
        spec: by which pictures are decoded.

    Raises:
        DataError: no picture has a group or a part, and that was asked for.
    """
    from taxon.evaluation.slice_columns import (
        Scale,
        SliceColumn,
        column_of_values,
        judged,
        quarters,
    )

    columns, notes = [], []
    for name in dict.fromkeys(slice_by):
        if name in AUTOMATIC:
            continue
        cells = [_cell(record, name, extra) for record in manifest.records]
        if not any(cells):
            raise DataError(f"the column '{name}' is empty for all pictures; leave it out")
        column, said = column_of_values(name, cells)
        columns.append(column)
        notes += said
    looks = [record.look for record in with_looks(manifest, spec).records]
    for name, (what, unit, words, number) in AUTOMATIC.items():
        numbers = np.array([np.nan if look is None else number(look) for look in looks])
        columns.append(SliceColumn(name, quarters(Scale(what, unit, words), numbers)))
    kept, left_out = judged(columns)
    return kept, [*notes, *left_out]


def _cell(record: Record, name: str, extra: Sequence[str]) -> str:
    return record.extra[extra.index(name)] if name in extra else OF_RECORDS[name](record)
