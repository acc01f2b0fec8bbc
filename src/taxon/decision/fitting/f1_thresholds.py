"""Thresholds by F1: from the probabilities themselves, or from the labels where that is better.

With few pictures the threshold of the highest F1 follows the noise of their labels. Where the
probabilities can be taken at their word, the labels are not needed: how many are right above a
threshold, and how many there are, follows from them, and so does its F1 (the ratio of what is
expected; Ye et al. 2012, "Optimizing F-measures: a tale of two approaches"). The best threshold is
half of the best F1 (Lipton et al. 2014, "Thresholding classifiers to maximize F1 score").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt
from scipy import sparse

from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.cuts import below_cut
from taxon.decision.fitting.part import CalibrationPart, Targets, folds, listed, stratified_folds
from taxon.decision.fitting.targets import Scores
from taxon.metrics import GroupBootstrap
from taxon.metrics.paired import swap_test

GRID = np.arange(1, 100) / 100
LEVEL = 0.05  # of the test that lets the labels decide
SMALLEST = 1e-6  # a probability of 0 names nothing
EXPECTED = ": the highest expected F1 of the probabilities"


@dataclass(frozen=True)
class F1Fit:
    """A threshold for each tag, and what was found, in sentences."""

    thresholds: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Tags:
    """What a fit looks at: int64 [N, C] of 0, 1 and -1, float32 [N, C], int64 [N].

    Attributes:
        rare: bool [C], tags with too few examples, or counter-examples, for a threshold of their
            own; they take the one that is chosen on all tags.
    """

    targets: Targets
    probabilities: FloatArray
    groups: Targets
    rare: npt.NDArray[np.bool_]

    def select(self, rows: npt.NDArray[np.intp]) -> _Tags:
        return _Tags(self.targets[rows], self.probabilities[rows], self.groups[rows], self.rare)

    def known(self, column: int) -> tuple[Targets, FloatArray, Targets]:
        """The truth, scores and groups of one tag where it is known."""
        rows = self.targets[:, column] != UNKNOWN
        return self.targets[rows, column], self.probabilities[rows, column], self.groups[rows]

    @property
    def columns(self) -> range:
        return range(self.targets.shape[1])


def fit_f1_thresholds(
    part: CalibrationPart, probabilities: FloatArray, support: int, *, besides: str | None = None
) -> F1Fit:
    """Choose a threshold for every tag, by the expected F1 or by the labels.

    Both ways are tried on held-out folds, groups together. Where the macro-F1 of thresholds by the
    labels is higher by more than chance (a swap test over groups), the probabilities are not what
    they say, and the labels decide. (The calibration, a scale and a bias a tag, has seen the held
    out labels.)

    Args:
        probabilities: float32 [N, C], calibrated.
        support: a tag with fewer examples, or counter-examples, has no threshold of its own.
        besides: a tag that has a target of its own; the sentences are on the others.
    """
    positives, negatives = ((part.targets == value).sum(axis=0) for value in (1, 0))
    rare = np.minimum(positives, negatives) < support
    tags = _Tags(part.targets, probabilities, part.groups, rare)
    verdict = _compare(tags)
    chosen = _by_labels(tags) if verdict.by_labels else _by_expectation(tags)
    others = np.array([name != besides for name in part.label_space.names])
    of = "" if besides is None else " of the other tags"
    notes = [f"thresholds{of} by F1 on {part.name}{verdict.words}"]
    reasons = {
        f"fewer than {support} examples or counter-examples": rare,
        "own thresholds are not better on held-out folds": chosen.pooled,
    }
    for reason, which in reasons.items():
        if (which & others).any():
            names = listed(list(compress(part.label_space.names, which & others)))
            notes.append(f"{names}: {reason}: the shared threshold {chosen.shared:.2f}")
    return F1Fit(chosen.each, tuple(notes))


@dataclass(frozen=True)
class _Way:
    """Thresholds of every tag; that of all tags; bool [C], tags that take it though not rare."""

    each: tuple[float, ...]
    shared: float
    pooled: npt.NDArray[np.bool_]


def _by_expectation(tags: _Tags) -> _Way:
    """The threshold of the highest expected F1: every picture counts as much as is probable."""
    scores = [tags.known(column)[1] for column in tags.columns]
    shared = _shared([(each, each) for each in scores if len(each)])
    # A fold's rest may know nothing of a tag, all of whose pictures are of one group.
    each = tuple(
        expected_f1_threshold(scores[column])
        if len(scores[column]) and not tags.rare[column]
        else shared
        for column in tags.columns
    )
    return _Way(each, shared, np.zeros(len(each), np.bool_))


def _by_labels(tags: _Tags) -> _Way:
    """One threshold for all tags, and an own one where it is better on held-out folds."""
    known = [tags.known(column) for column in tags.columns]
    shared = _shared([(truth, scores) for truth, scores, _ in known if truth.any()])
    own = [
        None if tags.rare[column] else own_f1_threshold(*known[column], shared)
        for column in tags.columns
    ]
    pooled = np.array([value is None for value in own]) & ~tags.rare
    return _Way(tuple(shared if value is None else value for value in own), shared, pooled)


def _shared(pairs: list[tuple[Scores | Targets, Scores]]) -> float:
    """The threshold with the highest macro-F1, from (truth, scores) of each tag."""
    if not pairs:
        return 0.5
    means = np.mean([_f1_at(truth, scores) for truth, scores in pairs], axis=0)
    # Of equally good ones the middle: the ends lie next to a mistake.
    best = np.flatnonzero(means >= means.max() - 1e-12)
    return float(GRID[best[len(best) // 2]])


@dataclass(frozen=True)
class _Verdict:
    """Which way is taken, and why."""

    by_labels: bool
    words: str


def _compare(tags: _Tags) -> _Verdict:
    """Try both ways on held-out folds; the labels must be surely better."""
    divisions = list(folds(tags.groups))
    if not divisions or not (tags.targets == 1).any():
        return _Verdict(False, f"{EXPECTED} (nothing to compare with the labels on)")
    all_held = np.concatenate([held for _, held in divisions])
    by_expectation, by_labels = (
        np.concatenate(
            [
                tags.probabilities[held] >= np.array(way(tags.select(rest)).each, np.float32)
                for rest, held in divisions
            ]
        )
        for way in (_by_expectation, _by_labels)
    )
    expected, labels, p_value = _macro_f1_of_both(tags.select(all_held), by_expectation, by_labels)
    if labels > expected and p_value < LEVEL:
        reason = f"macro-F1 {100 * labels:.1f} %, by the expected F1 {100 * expected:.1f} %"
        return _Verdict(True, f" by the labels, surely better on held-out folds ({reason})")
    reason = f"macro-F1 on held-out folds {100 * expected:.1f} %, by the labels {100 * labels:.1f}"
    return _Verdict(False, f"{EXPECTED} ({reason} %)")


def _macro_f1_of_both(
    tags: _Tags, expected: npt.NDArray[np.bool_], labels: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Macro-F1 of what each way names, bool [N, C], and the p-value of their difference."""
    is_known, is_true = tags.targets != UNKNOWN, tags.targets == 1
    positives = is_true.sum(axis=0).reshape(-1, 1)
    occurs = positives[:, 0] > 0

    def macro_f1(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        hits, named = np.split(sums.reshape(2 * len(positives), -1), 2)
        return np.asarray((2 * hits / np.maximum(1, named + positives))[occurs].mean(axis=0))

    ours, theirs = (
        sparse.csr_matrix(np.concatenate([named & is_true, named & is_known], axis=1))
        for named in (expected, labels)
    )
    bootstrap = GroupBootstrap(len(tags.targets), tags.groups)
    p_value = swap_test(bootstrap, ours, theirs, macro_f1)
    scores = [macro_f1(np.asarray(each.sum(axis=0), np.float64)).item() for each in (ours, theirs)]
    return scores[0], scores[1], p_value


def own_f1_threshold(
    truth: Targets, scores: Scores, groups: Targets, shared: float
) -> float | None:
    """Return a tag's own threshold by its labels, or None where the shared one is as good.

    Args:
        truth: int64 [N] of 0 and 1.
        scores: [N].
        groups: int64 [N].
    """
    found: list[float] = []
    named_own, named_shared, held_truth = [], [], []
    for rest, held in stratified_folds(truth, groups):
        found.append(best_f1_threshold(truth[rest], scores[rest]))
        named_own.append(scores[held] >= np.float32(found[-1]))
        named_shared.append(scores[held] >= np.float32(shared))
        held_truth.append(truth[held])
    if not found:
        return None
    held = np.concatenate(held_truth)
    own, other = (_f1(held, np.concatenate(named)) for named in (named_own, named_shared))
    return float(np.median(found)) if own > other else None


def expected_f1_threshold(probabilities: Scores) -> float:
    """Return the threshold with the highest expected F1: half of it.

    Args:
        probabilities: [N], at least one.
    """
    hits = np.cumsum(-np.sort(-probabilities.astype(np.float64)))
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    return max(float(f1.max() / 2), SMALLEST)


def best_f1_threshold(truth: Targets, scores: Scores) -> float:
    """Return the threshold with the highest F1, midway between two neighbouring scores.

    Args:
        truth: int64 [N] of 0 and 1, with at least one 1.
        scores: [N].
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    # A cut between two equal scores cannot be made by any threshold.
    possible = np.append(ranked[:-1] > ranked[1:], True)
    return below_cut(ranked, int(np.argmax(np.where(possible, f1, -1.0))))


def _f1_at(truth: Scores | Targets, scores: Scores) -> Scores:
    """F1 at every threshold of the grid."""
    named = scores[None, :] >= GRID.astype(np.float32)[:, None]
    hits = named @ truth.astype(np.float64)
    return np.asarray(2 * hits / np.maximum(1, named.sum(axis=1) + truth.sum()))


def _f1(truth: Targets, named: npt.NDArray[np.bool_]) -> float:
    hits = int((named & (truth == 1)).sum())
    return 2 * hits / max(1, int(named.sum()) + int(truth.sum()))
