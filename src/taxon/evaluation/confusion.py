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


def shown_classes(metrics: Metrics, most: int = LIMIT) -> list[int]:
    """Return the positions of the classes to show, in class order: those with most mistakes.

    Args:
        most: how many, at most; never more than 40.
    """
    if metrics.confusion is None:
        return []
    counts = np.array(metrics.confusion)
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return [
        int(place) for place in np.sort(np.argsort(-mistakes, kind="stable")[: min(most, LIMIT)])
    ]


def confusion_view(
    metrics: Metrics, shown: Sequence[int], pictures: Mapping[str, int]
) -> ConfusionView | None:
    """Return the matrix of some classes; None for multilabel.

    Args:
        shown: their positions, of `shown_classes`.
        pictures: by the key of a cell, how many pictures the report has of it.
    """
    if metrics.confusion is None:
        return None
    names = metrics.classes
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
    labels = short_names(classes, taxonomy=metrics.taxonomy is not None)
    return ConfusionView(classes, labels, rows, len(names))


def short_names(names: Sequence[str], *, taxonomy: bool) -> tuple[str, ...]:
    """Return the last part of each path of a taxonomy, or the whole where that is ambiguous.

    Args:
        taxonomy: whether the names are paths; elsewhere `/` is a character as any other.
    """
    if not taxonomy:
        return tuple(names)
    ends = [name.rsplit(SEPARATOR, 1)[-1] for name in names]
    times = Counter(ends)
    return tuple(end if times[end] == 1 else name for end, name in zip(ends, names, strict=True))
