"""The summary that the command line shows: rows only, the CLI renders them."""

from __future__ import annotations

from taxon.evaluation.summary import Metrics
from taxon.evaluation.wording import all_rows


def summary_rows(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Return (name, value, 95 % interval) of every figure that is defined.

    A taxonomy adds one row a level. Values look like `83.1 %`, intervals like `78.2 to 87.4`.
    """
    rows = [
        (row.name, row.value, row.interval)
        for row in all_rows(metrics)
        if row.figure.value is not None
    ]
    for level in metrics.levels:
        if level.top1.value is not None:
            name = f"Top-1 at level {level.level} ({level.classes} classes)"
            low_high = level.top1.ci95
            text = "" if low_high is None else f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}"
            rows.append((name, f"{100 * level.top1.value:.1f} %", text))
    return rows
