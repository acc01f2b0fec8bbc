"""The learning curve: what a probe scores with growing shares of the pictures.

It answers "how many pictures do I need" from the user's own data: measured as far as the pictures
go, and beyond them, a little, by the power law that such errors follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from taxon.core.labels import Task
from taxon.core.predictions import FloatArray
from taxon.metrics import GroupBootstrap, headline, indicator, interval, top_k_hits
from taxon.metrics.indicator import known_entries
from taxon.metrics.resampled import mean_over_classes, ranking_samples
from taxon.models.probe import compact, fit_predict, folds
from taxon.training.power_law import Array, PowerLaw, fit_power_laws

SHARES = 4
LEAST_SHARE = 0.125
REPEATS = 2
RESAMPLES = 200
MINIMUM_PICTURES = 60
PICTURES = 2000
WORK = 3e7  # pictures times features times classes, for some ten seconds of one core
REACH = 4  # times as many (or as few) pictures as were seen
LEAST_SPREAD = 0.005  # no point is surer than this, however its resamples agree
# Of scores, 0 to 1: what more pictures must promise to be worth a word, and what is too vague.
HARDLY, CLEARLY, VAGUE = 0.01, 0.02, 0.15

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CurvePoint:
    """A measured point.

    Attributes:
        pictures: how many taught the probe, the mean over folds.
        score: top-1 or mAP on pictures that it never saw, 0 to 1, the mean over repeats.
        spread: the standard deviation of `score` over the bootstrap.
    """

    pictures: int
    score: float
    spread: float


@dataclass(frozen=True)
class LearningCurve:
    """What a probe scores with so many pictures: measured points, and a law through them.

    Attributes:
        task: `multiclass` is scored by top-1, `multilabel` by mAP.
        available: how many pictures there are: those of the largest point and those that it was
            scored on, and, of a large set, those that were left out.
        even_classes: how many classes, where all have about as many pictures; else None.
        points: three or more, by rising number of pictures.
        law: of the error, 1 - score.
        resampled: the laws of the bootstrap.
    """

    task: Task
    available: int
    even_classes: int | None
    points: tuple[CurvePoint, ...]
    law: PowerLaw
    resampled: tuple[PowerLaw, ...] = field(repr=False)

    def expected(self, pictures: float) -> tuple[float, float, float]:
        """The score expected with so many pictures, and its 95 % interval: (score, low, high).

        Raises:
            ValueError: more than 4 times the largest point, or less than a quarter of the
                smallest: nothing measured speaks for it.
        """
        least, most = self.points[0].pictures / REACH, self.points[-1].pictures * REACH
        if not least <= pictures <= most:
            raise ValueError(
                f"{pictures:,} pictures are out of reach: the curve was measured with "
                f"{self.points[0].pictures:,} to {self.points[-1].pictures:,} and tells of "
                f"{least:,.0f} to {most:,}"
            )
        score = 1 - self.law.error(pictures)
        found = interval(score, np.array([1 - law.error(pictures) for law in self.resampled]))
        assert found is not None  # there are always resamples
        return score, *found

    def sentence(self) -> str:
        """The curve for a user: what was measured, and what twice as many pictures would give."""
        first, *rest = self.points[-3:]
        listed = [
            f"{100 * first.score:.0f} % with {first.pictures:,} pictures",
            *(f"{100 * point.score:.0f} % with {point.pictures:,}" for point in rest),
        ]
        if self.even_classes:
            listed[-1] += f" ({rest[-1].pictures / self.even_classes:.0f} a class)"
        figure = "top-1" if self.task == "multiclass" else "mAP"
        return f"{figure} of a probe: {', '.join(listed)}; {self._outlook()}"

    def _outlook(self) -> str:
        twice, most = 2 * self.available, REACH * self.points[-1].pictures
        if most <= self.available:
            return "what more pictures than yours would give is out of its reach"
        target = min(twice, most)
        more = f"twice as many as now ({twice:,})" if twice <= most else f"{most:,}"
        score, low, high = self.expected(target)
        gains = [law.error(target / 2) - law.error(target) for law in (self.law, *self.resampled)]
        at_best = float(np.percentile(gains, 97.5))
        about = (
            f"{more} would give about {100 * score:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"
        )
        if at_best < CLEARLY:
            return f"more pictures of the same kind would hardly help: {about}"
        if gains[0] < HARDLY or high - low > VAGUE:
            return (
                "what more pictures would give cannot be told from these: "
                f"{more} might give {100 * low:.0f} to {100 * high:.0f} %"
            )
        return about


def learning_curve(
    features: FloatArray, targets: IntArray, groups: IntArray, *, task: Task, seed: int
) -> LearningCurve | None:
    """Train a probe on growing shares of the pictures, score it out of fold, and fit a power law.

    Shares are of whole groups, hold their share of every class, and each holds the smaller ones.
    The law is error(n) = a + b * n^-c (Hestness et al. 2017), see `fit_power_laws`; points count
    by their certainty. Its interval comes from a bootstrap that draws the groups that are
    scored, the same ones for every share, and the repeats (other folds, other shares).

    At most some 2,000 pictures take part, fewer with many features and classes: a seeded sample
    of whole groups, with its share of every class.

    Args:
        features: float32 [N, F].
        targets: int64 [N] class positions, or [N, C] of 0, 1 and -1 (unknown: neither taught nor
            scored).
        groups: int64 [N]; pictures of one group are never divided.
        task: `multiclass` with targets [N], `multilabel` with [N, C].
        seed: the same seed gives the same curve.

    Returns:
        None where there is no curve to tell: fewer than 60 pictures, 2 groups or 2 classes (or
        no label that is known both present and absent); groups so large, or classes so many, that
        the pictures cannot be divided into three different shares or into a sample.
    """
    kinds = _kinds(targets)
    rows = _sample(features, targets, groups, kinds, seed)
    if not _suffice(targets[rows], groups[rows], kinds[rows]):
        return None
    data = (compact(features[rows]), targets[rows], groups[rows], kinds[rows])
    # A BLAS of several threads makes problems of this size slower, not faster.
    with threadpool_limits(1):
        counts, scores, noise = (
            np.stack(parts)
            for parts in zip(
                *(_measure(*data, task, seed + repeat) for repeat in range(REPEATS)), strict=True
            )
        )
    pictures, kept = np.unique(counts.mean(axis=0).round().astype(int), return_index=True)
    if len(pictures) < 3:
        return None
    drawn = np.random.default_rng(seed).integers(0, REPEATS, (RESAMPLES, REPEATS))
    resamples = (scores[..., None] + noise)[:, kept]  # [repeats, P, R]
    own = np.arange(RESAMPLES)[:, None]
    resampled = resamples[drawn, :, own].mean(axis=1).clip(0, 1)  # [R, P]
    mean, spread = scores[:, kept].mean(axis=0), resampled.std(axis=0)
    weights = np.maximum(spread, LEAST_SPREAD) ** -2
    law, *laws = fit_power_laws(
        pictures.astype(np.float64), 1 - np.concatenate([mean[None], resampled]), weights
    )
    points = map(CurvePoint, pictures.tolist(), mean.tolist(), spread.tolist())
    return LearningCurve(
        task, len(targets), _even_classes(targets), tuple(points), law, tuple(laws)
    )


def _measure(
    features: FloatArray,
    targets: IntArray,
    groups: IntArray,
    kinds: IntArray,
    task: Task,
    seed: int,
) -> tuple[Array, Array, Array]:
    """Of each share: pictures [S], score [S], and how resampling moves the score [S, R]."""
    rng = np.random.default_rng(seed)
    classes = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
    probabilities = np.zeros((SHARES, len(targets), classes), np.float32)
    counts = np.zeros(SHARES)
    parts = folds(kinds, groups, seed)
    for train, held_out in parts:
        places = _places(kinds[train], groups[train], rng)
        for position, share in enumerate(_shares(kinds)):
            rows = train[places < share]
            counts[position] += len(rows) / len(parts)
            probabilities[position, held_out] = fit_predict(
                features, targets, rows, held_out, classes
            )
    bootstrap = GroupBootstrap(len(targets), groups, resamples=RESAMPLES, seed=seed)
    scored = [_score(task, targets, own, bootstrap) for own in probabilities]
    return counts, np.array([score for score, _ in scored]), np.stack([own for _, own in scored])


def _score(
    task: Task, targets: IntArray, probabilities: FloatArray, bootstrap: GroupBootstrap
) -> tuple[float, Array]:
    """Top-1 or mAP, and how each resample differs from their mean, which may be biased."""
    figures = headline(task, targets, probabilities)
    if task == "multiclass":
        score = figures["top1"]
        samples = bootstrap.means(top_k_hits(targets, probabilities, 1))
    else:
        score = figures["mAP"]
        truth = indicator(targets, targets.shape[1])
        by_class = ranking_samples(bootstrap, truth, probabilities, known_entries(targets))[1]
        samples = mean_over_classes(by_class)
    noise = samples - np.nanmean(samples)
    return score, np.nan_to_num(noise)


def _shares(kinds: IntArray) -> Array:
    """Rising to 1 by a constant factor, from 1/8, or from where a kind has some two pictures: with
    fewer, rounding would change what share each kind has."""
    least = 2 * len(np.unique(kinds)) / len(kinds)
    return np.geomspace(np.clip(least, LEAST_SHARE, 0.5), 1.0, SHARES)


def _kinds(targets: IntArray) -> IntArray:
    """int64 [N]: what shares and folds hold their part of: the class; of several labels the rarest
    that a picture has, or C for none."""
    if targets.ndim == 1:
        return targets
    present = targets == 1
    rarity = np.where(present, present.sum(axis=0), len(targets) + 1)
    return np.asarray(np.where(present.any(axis=1), rarity.argmin(axis=1), targets.shape[1]))


def _places(kinds: IntArray, groups: IntArray, rng: np.random.Generator) -> Array:
    """Where each picture comes in a seeded order, float64 [N], 0 to 1: those below a share are it.

    A group goes with its rarest kind; of each kind, the groups of the first half of its pictures
    lie below one half, and the first group lies at 0: no kind is ever absent.
    """
    _, kinds, size_of_kind = np.unique(kinds, return_inverse=True, return_counts=True)
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(size_of_kind, kind="stable"))[kinds]
    stratum = np.full(len(sizes), len(size_of_kind))
    np.minimum.at(stratum, members, rank)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(stratum[order], kind="stable")]
    _, first, of = np.unique(stratum[order], return_index=True, return_inverse=True)
    ends = np.cumsum(sizes[order])
    begin = (ends - sizes[order])[first]
    whole = np.diff(np.append(begin, ends[-1]))
    place = np.empty(len(sizes))
    place[order] = (ends - sizes[order] / 2 - begin[of]) / whole[of]
    place[order[first]] = 0.0
    return np.asarray(place[members])


def _sample(
    features: FloatArray, targets: IntArray, groups: IntArray, kinds: IntArray, seed: int
) -> npt.NDArray[np.intp]:
    """Positions of the pictures that take part; none where groups are too large for a sample."""
    classes = targets.shape[1] if targets.ndim == 2 else len(np.unique(targets))
    affordable = WORK / max(features.shape[1] * classes, 1)
    limit = int(np.clip(affordable, 4 * MINIMUM_PICTURES, PICTURES))
    if len(targets) <= limit:
        return np.arange(len(targets))
    places = _places(kinds, groups, np.random.default_rng(seed))
    rows = np.flatnonzero(places < limit / len(targets))
    return rows if len(rows) < 1.5 * limit else rows[:0]


def _suffice(targets: IntArray, groups: IntArray, kinds: IntArray) -> bool:
    """Whether there is enough to tell anything."""
    if len(targets) < MINIMUM_PICTURES or len(np.unique(groups)) < 2:
        return False
    if targets.ndim == 1:
        return len(np.unique(targets)) > 1
    return bool(((targets == 0).any(axis=0) & (targets == 1).any(axis=0)).any())


def _even_classes(targets: IntArray) -> int | None:
    """The number of classes, where the largest has at most half as many more than the smallest."""
    if targets.ndim == 2:
        return None
    sizes = np.unique(targets, return_counts=True)[1]
    return len(sizes) if sizes.max() <= 1.5 * sizes.min() else None
