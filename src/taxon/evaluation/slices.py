"""Slices: the figures of pictures that have something in common, so that weak spots show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.labels import Task
from taxon.evaluation.case import Case, Samples
from taxon.evaluation.slice_columns import SliceColumn
from taxon.evaluation.summary import SliceFigures
from taxon.metrics import Figure, f1_averages, undefined
from taxon.metrics.bootstrap import FloatArray
from taxon.metrics.membership import membership_test
from taxon.metrics.paired import holm

NOTHING = "no class occurs and none is predicted"


@dataclass(frozen=True)
class _Counts:
    """Right and possible answers of slices; their ratio is micro-F1, of one class a picture top-1.

    Attributes:
        right: float64 [S], true positives.
        answers: float64 [S], the mean of how many labels are true and how many are named.
        samples: float64 [S, R], their ratio in each resample; NaN where there are no answers.
    """

    right: npt.NDArray[np.float64]
    answers: npt.NDArray[np.float64]
    samples: Samples

    def figure(self, slice_: int) -> Figure:
        """The ratio itself."""
        if not self.answers[slice_]:
            return undefined(NOTHING)
        return Figure.of(self.right[slice_] / self.answers[slice_])


def slice_figures(
    case: Case, task: Task, columns: Sequence[SliceColumn]
) -> tuple[SliceFigures, ...]:
    """Score every slice, the worst first.

    The first figure is top-1 (multilabel: micro-F1); its difference is the slice's less that of all
    other pictures, both in the same resamples. Where it lies below 0, a permutation test says
    whether chance would make it, given how many slices there are. Macro-F1 has no interval here.
    """
    slices = [
        (column, value)
        for column in columns
        for value in dict.fromkeys(column.values)
        if value is not None
    ]
    if not slices:
        return ()
    members = np.array([[of == value for of in column.values] for column, value in slices])
    right, answers = _right_and_possible(case)
    inside = _counts(case, members, right, answers)
    outside = _counts(case, ~members, right, answers)
    differences = [_difference(case, inside, outside, place) for place in range(len(slices))]
    p_values = _p_values(case, members, right, answers, differences)
    first = "top1" if task == "multiclass" else "micro_f1"
    found = []
    for place, (column, value) in enumerate(slices):
        rows = members[place]
        figure = inside.figure(place)
        macro = f1_averages(case.truth[rows], case.named[rows]).macro
        concerned = case.bootstrap.concerned(rows)
        found.append(
            SliceFigures(
                column=column.name,
                value=value,
                n=int(rows.sum()),
                figures={
                    first: case.share(figure, inside.samples[place], concerned),
                    "macro_f1": macro,
                },
                difference=differences[place],
                p_value=p_values[place],
            )
        )
    return tuple(sorted(found, key=lambda entry: _order(entry.figures[first])))


def _right_and_possible(case: Case) -> tuple[FloatArray, FloatArray]:
    """True positives of each picture, and the mean of its true and its named labels, both [N]."""
    right = np.asarray(case.truth.multiply(case.named).sum(axis=1), np.float64).ravel()
    answers = np.asarray(case.truth.sum(axis=1) + case.named.sum(axis=1), np.float64).ravel() / 2
    return right, answers


def _counts(
    case: Case, members: npt.NDArray[np.bool_], right: FloatArray, answers: FloatArray
) -> _Counts:
    """Count within each slice and resample.

    Args:
        members: bool [S, N].
    """
    sums = case.bootstrap.sums(np.concatenate([members * right, members * answers]).T)
    right_sums, answer_sums = np.split(sums, 2)
    empty = np.full(right_sums.shape, np.nan)
    return _Counts(
        right=members @ right,
        answers=members @ answers,
        samples=np.divide(right_sums, answer_sums, out=empty, where=answer_sums > 0),
    )


def _difference(case: Case, inside: _Counts, outside: _Counts, place: int) -> Figure:
    """The slice's first figure less that of all other pictures."""
    ours, theirs = inside.figure(place), outside.figure(place)
    if ours.value is None or theirs.value is None:
        return undefined(f"in the slice or outside of it {NOTHING}")
    samples = inside.samples[place] - outside.samples[place]
    return case.figure(Figure.of(ours.value - theirs.value), samples)


def _p_values(
    case: Case,
    members: npt.NDArray[np.bool_],
    right: FloatArray,
    answers: FloatArray,
    differences: Sequence[Figure],
) -> list[float | None]:
    """Test the slices that lie below 0, corrected for the number of all slices."""
    below = [_is_below(difference) for difference in differences]
    p_values = holm(
        [
            membership_test(case.bootstrap, right, answers, rows) if tested else 1.0
            for rows, tested in zip(members, below, strict=True)
        ]
    )
    return [float(value) if tested else None for value, tested in zip(p_values, below, strict=True)]


def _is_below(difference: Figure) -> bool:
    """Whether the whole interval lies below 0; where every resample says the same, the value."""
    if difference.value is None:
        return False
    return (difference.ci95[1] if difference.ci95 is not None else difference.value) < 0


def _order(figure: Figure) -> float:
    """The worst first, what is undefined last."""
    return np.inf if figure.value is None else figure.value
