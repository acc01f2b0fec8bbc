"""The training as the report shows it: curves of losses and scores, stages, the epoch kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from taxon.evaluation.charts import Series, history_values, training_curve

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class TrainingView:
    """What is drawn and said of the training.

    Attributes:
        curves: (title, drawing, series), those that have values.
        stages: (first position, last position, name), positions from 0.
        kept: the position of the epoch with the best macro-F1; None where none was scored.
    """

    curves: tuple[tuple[str, Markup, tuple[Series, ...]], ...]
    stages: tuple[tuple[int, int, str], ...]
    kept: int | None


def training_view(history: Rows) -> TrainingView | None:
    """Return what to show, or None where there is nothing to draw.

    Args:
        history: one row an epoch.
    """
    stages, kept = _stages(history), _kept(history)
    borders = [start for start, *_ in stages[1:]]
    losses = [
        Series("training", "train", history_values(history, "train_loss")),
        Series("validation", "validation", history_values(history, "validation_loss")),
    ]
    scores = [
        Series("top-1", "second", history_values(history, "top1")),
        Series("mAP", "second", history_values(history, "mAP")),
        Series("macro-F1", "validation", history_values(history, "macro_f1")),
    ]
    drawn = []
    for title, series in (("Loss", losses), ("Score on validation", scores)):
        present = tuple(line for line in series if any(value is not None for value in line.values))
        if present:
            share = series is scores
            drawing = training_curve(f"{title} by epoch", present, borders, share=share, kept=kept)
            drawn.append((title, drawing, present))
    return TrainingView(tuple(drawn), tuple(stages), kept) if drawn else None


def _kept(history: Rows) -> int | None:
    """The position of the epoch with the best macro-F1, the first of equals; None without one."""
    scores = history_values(history, "macro_f1")
    known = [place for place, score in enumerate(scores) if score is not None]
    return max(known, key=lambda place: scores[place] or 0.0) if known else None


def _stages(history: Rows) -> list[tuple[int, int, str]]:
    """Return (first position, last position, name) of each stage, positions from 0."""
    stages: list[tuple[int, int, str]] = []
    for position, row in enumerate(history):
        name = str(row.get("stage", "training"))
        if stages and stages[-1][2] == name:
            stages[-1] = (stages[-1][0], position, name)
        else:
            stages.append((position, position, name))
    return stages
