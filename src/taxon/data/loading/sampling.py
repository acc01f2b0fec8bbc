"""Sampling: which training pictures an epoch shows, in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxon.data.imbalance import ImbalancePlan

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EpochPlan:
    """The views of one epoch.

    Attributes:
        positions: int64 [M]: the picture of each view, as a position in the manifest, in the
            order in which they are shown; a picture may come several times or not at all.
        extra: bool [M]: a view that was added for a rare class, augmented more strongly.
        views: int64 [M]: the number of the view, where each picture has a bounded number of them
            (the same number is the same view in every epoch); None where all views are new.
    """

    positions: npt.NDArray[np.int64]
    extra: npt.NDArray[np.bool_]
    views: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.positions)


def plan_epoch(targets: IntArray, plan: ImbalancePlan, *, seed: int, epoch: int) -> EpochPlan:
    """Return the views of an epoch; the same for the same seed and epoch.

    All epochs of a run have the same length: that of the data, or longer where rare classes
    are repeated.

    Args:
        targets: int64 [N] (multi-class) or [N, C] of 0, 1 and -1, unknown (multi-label).
    """
    rng = np.random.default_rng([seed, epoch])
    if plan.uses("weighted-sampler"):
        positions = _weighted(targets, plan, rng)
        return EpochPlan(positions, np.zeros(len(positions), np.bool_))
    positions = rng.permutation(len(targets))
    if not plan.uses("oversample"):
        return EpochPlan(positions, np.zeros(len(positions), np.bool_))
    repeats = _repeats(targets, plan, rng)
    order = rng.permutation(len(positions) + len(repeats))
    extra = np.arange(len(order)) >= len(positions)
    return EpochPlan(np.concatenate([positions, repeats])[order], extra[order])


def with_bounded_views(plan: EpochPlan, count: int, epoch: int) -> EpochPlan:
    """The plan with `count` views of each picture, among which the epochs take turns.

    A picture that comes several times in an epoch shows another view each time. The views that
    were added for rare classes have numbers of their own, from `count` on.

    Args:
        epoch: from 1.
    """
    views = np.zeros(len(plan), np.int64)
    for extra in (False, True):
        places = np.flatnonzero(plan.extra == extra)
        views[places] = (epoch - 1 + _occurrence(plan.positions[places])) % count + extra * count
    return replace(plan, views=views)


def may_repeat(targets: IntArray, plan: ImbalancePlan) -> npt.NDArray[np.bool_]:
    """Bool [N]: the pictures of which `plan_epoch` may add views for rare classes."""
    if not plan.uses("oversample"):
        return np.zeros(len(targets), np.bool_)
    wanted = plan.settings.oversample_share * plan.counts.max()
    lifted = np.append(np.round(wanted - plan.counts) >= 1, False)
    return np.asarray(lifted[_rarest_label(targets, plan)])


def _occurrence(values: IntArray) -> IntArray:
    """For each value how often it came before: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    new = np.append(True, np.diff(values[order]) != 0)[: len(values)]
    start = np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - start
    return result


def _weighted(targets: IntArray, plan: ImbalancePlan, rng: np.random.Generator) -> IntArray:
    """As many pictures as there are, each as often as the size of its class asks for.

    Systematic resampling (Kitagawa 1996): a picture that is due 2.3 times comes 2 or 3 times.
    Independent draws would have the same mean, but leave out a third of the pictures by chance.
    """
    counts = _with_unlabelled(targets, plan)
    chances = counts[_rarest_label(targets, plan)] ** -plan.settings.sampler_power
    order = rng.permutation(len(chances))
    due = np.cumsum(chances[order]) * (len(order) / chances.sum())
    chosen = np.searchsorted(due, rng.uniform(0.01, 0.99) + np.arange(len(order)))
    # The sum's last digits must not lead beyond the end.
    positions = order[np.minimum(chosen, len(order) - 1)]
    return rng.permutation(positions)


def _repeats(targets: IntArray, plan: ImbalancePlan, rng: np.random.Generator) -> IntArray:
    """The pictures that lift every class to the wanted share of the largest, as evenly as can be.

    Labels are lifted from the rarest on, each by the pictures of which it is the rarest label;
    the labels that come along with these count as lifted too.
    """
    classes = len(plan.counts)
    held = np.eye(classes)[targets] if targets.ndim == 1 else (targets == 1).astype(np.float64)
    rarest = _rarest_label(targets, plan)
    wanted = plan.settings.oversample_share * plan.counts.max()
    lifted = plan.counts.astype(np.float64)
    repeats: list[IntArray] = []
    for label in np.argsort(plan.counts, kind="stable"):
        members = np.flatnonzero(rarest == label)
        missing = round(wanted - lifted[label])
        if missing < 1 or not len(members):
            continue
        rounds = [rng.permutation(members) for _ in range(-(-missing // len(members)))]
        repeats.append(np.concatenate(rounds)[:missing])
        # By the mean, not by what was drawn: every epoch must have the same length.
        lifted += missing * held[members].mean(axis=0)
    return np.concatenate(repeats) if repeats else np.zeros(0, np.int64)


def _rarest_label(targets: IntArray, plan: ImbalancePlan) -> IntArray:
    """The position of each picture's rarest label, int64 [N]; C where it has none."""
    if targets.ndim == 1:
        return targets
    has = targets == 1
    counts = np.where(has, plan.counts, np.iinfo(np.int64).max)
    rarest: IntArray = np.where(has.any(axis=1), counts.argmin(axis=1), targets.shape[1])
    return rarest


def _with_unlabelled(targets: IntArray, plan: ImbalancePlan) -> npt.NDArray[np.float64]:
    """Pictures of each class and, last, of none: float64 [C + 1], at least 1 each.

    Pictures without a label are no rare class, however few they are.
    """
    none = 0 if targets.ndim == 1 else int((~(targets == 1).any(axis=1)).sum())
    counts: npt.NDArray[np.int64] = np.append(plan.counts, max(none, plan.counts.max()))
    return np.maximum(counts, 1).astype(np.float64)
