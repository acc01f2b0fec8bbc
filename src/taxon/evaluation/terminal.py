"""The summary that the command line shows: rows only, the CLI renders them."""

from __future__ import annotations

from taxon.evaluation.summary import Metrics, SliceFigures
from taxon.evaluation.wording import Row, all_rows, percent


def summary_rows(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Return (name, value, 95 % interval) of every figure that is defined.

    A taxonomy adds one row a level. Values look like `83.1 %`, intervals like `78.2 to 87.4`.
    """
    levels = [
        Row(f"Top-1 at level {level.level} ({level.classes} classes)", level.top1, "")
        for level in metrics.levels
    ]
    return [
        (row.name, row.value, row.interval)
        for row in (*all_rows(metrics), *levels)
        if row.figure.value is not None
    ]


def weak_slices(metrics: Metrics) -> list[SliceFigures]:
    """Return the slices that are worse than all other pictures beyond chance, the worst first."""
    return [entry for entry in metrics.slices if entry.is_weak]


def weak_slice_rows(metrics: Metrics) -> list[tuple[str, str, str, str, str, str]]:
    """Return (column, slice, pictures, figure, difference, its 95 % interval) of weak slices.

    Differences are in points: of 90 % and 70 % it is -20.0.
    """
    return [
        (
            entry.column,
            entry.value,
            f"{entry.n:,}",
            percent(next(iter(entry.figures.values())).value),
            f"{100 * (entry.difference.value or 0):+.1f}",
            Row("", entry.difference, "").interval,
        )
        for entry in weak_slices(metrics)
    ]


def weak_slice_title(metrics: Metrics) -> str:
    """Say what the table of weak slices compares."""
    figure = "top-1" if metrics.task == "multiclass" else "micro-F1"
    return (
        f"Weak slices: {figure} below that of all other pictures, beyond what chance makes of "
        f"{len(metrics.slices)} slices"
    )
