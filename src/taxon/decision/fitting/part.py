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

    A division whose rest has no positive or no negative is left out.

    Args:
        truth: int64 [N] of 0 and 1.
        groups: int64 [N].
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    parts = min(count, len(np.unique(groups)))
    if parts < 2:
        return
    division = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # "The least populated class has only ... members": those folds are left out below.
        warnings.simplefilter("ignore", UserWarning)
        for rest, held_out in division.split(truth, truth, groups):
            if 0 < truth[rest].sum() < len(rest):
                yield np.asarray(rest), np.asarray(held_out)


def listed(names: Sequence[str]) -> str:
    """Name up to five classes in a sentence, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
