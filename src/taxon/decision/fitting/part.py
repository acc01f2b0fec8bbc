"""The pictures that a policy is fitted on, and how they are divided for an honest look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray

FOLDS = 5

Targets = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CalibrationPart:
    """The pictures that a policy is fitted on.

    Attributes:
        name: of the part, for sentences: `calibration` or `validation`.
        logits: float32 [N, C], the head's own.
        targets: int64 [N] (multiclass), or [N, C] of 0, 1 and -1, which is unknown (multilabel).
        groups: int64 [N]; pictures of one group are never on two sides of a division.
    """

    name: str
    logits: FloatArray
    targets: Targets
    label_space: LabelSpace
    groups: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logits)

    def select(self, rows: Rows) -> CalibrationPart:
        """The part of these rows alone."""
        return replace(
            self,
            logits=self.logits[rows],
            targets=self.targets[rows],
            groups=self.groups[rows],
        )


def folds(groups: npt.NDArray[np.int64], *, count: int = FOLDS) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rest, held-out) rows, groups kept together; nothing with fewer than two groups.

    Args:
        groups: int64 [N].
    """
    from sklearn.model_selection import GroupKFold

    distinct = len(np.unique(groups))
    if distinct < 2:
        return
    # GroupKFold fills folds by the size of groups; equal ones would go by their number, and
    # numbers may follow the classes.
    _, numbers = np.unique(groups, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(distinct)[numbers]
    division = GroupKFold(min(count, distinct)).split(shuffled, groups=shuffled)
    yield from ((np.asarray(rest), np.asarray(held_out)) for rest, held_out in division)


def stratified_folds(
    truth: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], *, count: int = FOLDS
) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rest, held-out) rows with the positives spread over the folds, groups kept together.

    A group counts as positive where any of its pictures is. Where that leaves none of one kind,
    folds go by group alone, and one whose rest has a single kind is left out. (scikit-learn's
    StratifiedGroupKFold takes seconds for thousands of groups.)

    Args:
        truth: int64 [N] of 0 and 1.
        groups: int64 [N].
    """
    from sklearn.model_selection import StratifiedKFold

    distinct, numbers = np.unique(groups, return_inverse=True)
    positive = np.zeros(len(distinct), np.int64)
    np.maximum.at(positive, numbers, truth)
    parts = min(count, int(positive.sum()), int((1 - positive).sum()))
    if parts < 2:
        plain = folds(groups, count=count)
        yield from ((rest, held) for rest, held in plain if 0 < truth[rest].sum() < len(rest))
        return
    division = StratifiedKFold(parts, shuffle=True, random_state=0)
    for _, held_groups in division.split(distinct, positive):
        inside = np.isin(numbers, held_groups)
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def listed(names: Sequence[str]) -> str:
    """Name up to five classes in a sentence, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
