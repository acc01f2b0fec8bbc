"""The confusion matrix as the report shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from taxon.core.labels import SEPARATOR
from taxon.evaluation.summary import Metrics

# More rows than this no longer fit a screen; the classes with most mistakes are shown.
LIMIT = 40


@dataclass(frozen=True)
class Cell:
    """One field of the matrix.

    Attributes:
        key: `ROW-COLUMN`, positions in the whole label space.
        true, predicted: class names.
        count: how many pictures.
        share: of the row's pictures, 0 to 1.
        pictures: how many of them the report can show.
    """

    key: str
    true: str
    predicted: str
    count: int
    share: float
    pictures: int

    @property
    def right(self) -> bool:
        """Whether this is on the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True)
class ConfusionView:
    """The rows and columns to show, in class order.

    Attributes:
        classes: full names.
        labels: their short forms.
        rows: cells, a row a true class.
        total: number of classes of the model.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int


def shown_classes(metrics: Metrics) -> list[int]:
    """Return the positions of the classes to show: the 40 with most mistakes, in class order."""
    if metrics.confusion is None:
        return []
    counts = np.array(metrics.confusion)
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return [int(place) for place in np.sort(np.argsort(-mistakes, kind="stable")[:LIMIT])]


def confusion_view(metrics: Metrics, pictures: Mapping[str, int]) -> ConfusionView | None:
    """Return the matrix, cut to the 40 classes with most mistakes; None for multilabel.

    Args:
        pictures: by the key of a cell, how many pictures the report has of it.
    """
    if metrics.confusion is None:
        return None
    shown, names = shown_classes(metrics), metrics.classes
    counts = np.array(metrics.confusion)
    supports = counts.sum(axis=1).clip(min=1)
    rows = tuple(
        tuple(
            Cell(
                key=f"{row}-{column}",
                true=names[row],
                predicted=names[column],
                count=int(counts[row, column]),
                share=float(counts[row, column] / supports[row]),
                pictures=pictures.get(f"{row}-{column}", 0),
            )
            for column in shown
        )
        for row in shown
    )
    classes = tuple(names[position] for position in shown)
    return ConfusionView(classes, short_names(classes), rows, len(names))


def short_names(names: Sequence[str], *, taxonomy: bool = True) -> tuple[str, ...]:
    """Return the last part of each taxonomy path, or the whole where that is ambiguous.

    Args:
        taxonomy: False for flat classes, whose names stay as they are: `black/white` is one tag.
    """
    if not taxonomy:
        return tuple(names)
    ends = [name.rsplit(SEPARATOR, 1)[-1] for name in names]
    times = Counter(ends)
    return tuple(end if times[end] == 1 else name for end, name in zip(ends, names, strict=True))
