"""Which pictures to label next: those that the model is unsure of, and that differ."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from taxon.core.errors import ConfigError
from taxon.core.predictions import FloatArray
from taxon.similarity.neighbours import Rows, unit_rows

Method = Literal["clusters", "weighted", "badge", "margin", "k-center", "typical", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
_SHARE = 10  # of `clusters`: so many times what is wanted are clustered
_TYPICAL_NEIGHBOURS = 20
_TYPICAL_ROWS = 5_000  # every row may be compared with every other one: 100 MB


def select(
    features: FloatArray,
    probabilities: FloatArray,
    uncertainty: FloatArray,
    count: int,
    *,
    method: Method,
    seed: int = 0,
) -> Rows:
    """Choose rows, in the order in which they are worth labelling.

    Methods:
        clusters: the most uncertain, ten times as many as are wanted, are clustered by k-means
            weighed by uncertainty, and of each cluster the row nearest to its centre is taken
            (Zhdanov 2019, Diverse mini-batch active learning); the most uncertain of them first.
        badge: k-means++ on the gradients that the head's last layer would get if the model were
            right: long where it is unsure, in another direction where the picture is another one
            (Ash et al. 2020, BADGE). The gradients, [N, C * F], are never written down.
        weighted: k-means++ on the features' directions, each weighed by its uncertainty.
        margin: the most uncertain alone.
        k-center: the farthest from all chosen so far, whatever the model says (Sener & Savarese
            2018), beginning with the most uncertain.
        typical: of each of `count` clusters the row with the nearest neighbours (Hacohen et al.
            2022, TypiClust), for a start without a useful model.
        random: by chance.

    Args:
        features: float32 [N, F].
        probabilities: float32 [N, C]; of classes or tags.
        uncertainty: float32 [N], 0 to 1.
        count: how many; all N where there are fewer.
        seed: of what is drawn.

    Returns:
        int64 [K], rows without repetition.

    Raises:
        ConfigError: no such method, or a count below 1.
        DataError: features that are no numbers.
    """
    if count < 1:
        raise ConfigError(f"the number of pictures to choose is 1 or more, not {count}")
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}'; allowed: {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    count = min(count, len(features))
    if method == "random":
        return rng.permutation(len(features))[:count].astype(np.int64)
    if method == "margin":
        return np.argsort(-uncertainty, kind="stable")[:count].astype(np.int64)
    unit = unit_rows(features)
    if method == "badge":
        return _plus_plus(_Gradients(unit, probabilities), np.ones(len(unit)), count, rng)
    if method == "weighted":
        return _plus_plus(_Directions(unit), uncertainty.astype(np.float64), count, rng)
    if method == "k-center":
        return _farthest(_Directions(unit), int(np.argmax(uncertainty)), count)
    if method == "clusters":
        return _clustered(unit, uncertainty, count, seed)
    return _typical(unit, count, rng, seed)


class _Directions:
    """Squared distances of rows of length 1."""

    def __init__(self, unit: FloatArray) -> None:
        self._unit = unit
        self.sizes = np.ones(len(unit))

    def to(self, row: int) -> npt.NDArray[np.float64]:
        """float64 [N], 0 to 4."""
        cosines = (self._unit @ self._unit[row]).astype(np.float64)
        return np.asarray(np.clip(2 - 2 * cosines, 0, None))


class _Gradients:
    """Squared distances of outer products (probabilities - answer) x features, by their parts."""

    def __init__(self, unit: FloatArray, probabilities: FloatArray) -> None:
        self._unit = unit
        wrong = probabilities.astype(np.float64)
        if _are_tags(probabilities):
            wrong -= probabilities >= 0.5
        else:
            wrong[np.arange(len(wrong)), probabilities.argmax(axis=1)] -= 1
        self._wrong = wrong
        self.sizes = (wrong**2).sum(axis=1) * (unit.astype(np.float64) ** 2).sum(axis=1)

    def to(self, row: int) -> npt.NDArray[np.float64]:
        """float64 [N]."""
        same = (self._wrong @ self._wrong[row]) * (self._unit @ self._unit[row])
        return np.asarray(np.clip(self.sizes + self.sizes[row] - 2 * same, 0, None))


def _are_tags(probabilities: FloatArray) -> bool:
    """Whether rows do not sum to 1: the gradient of a sigmoid is that of each tag by itself."""
    return not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)


def _plus_plus(
    distances: _Directions | _Gradients,
    weights: npt.NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """k-means++ (Arthur & Vassilvitskii 2007): the next by its distance to the nearest chosen one.

    It begins with the row that counts most; where all that is left lies on what was chosen, the
    rest follows by weight.
    """
    first = int(np.argmax(weights * distances.sizes))
    chosen, left = [first], np.ones(len(weights), bool)
    left[first] = False
    nearest = distances.to(first)
    while len(chosen) < count:
        chances = np.where(left, nearest * weights, 0.0)
        total = chances.sum()
        if total > 0:
            row = int(rng.choice(len(chances), p=chances / total))
        else:
            row = int(np.argmax(np.where(left, weights, -1.0)))
        chosen.append(row)
        left[row] = False
        nearest = np.minimum(nearest, distances.to(row))
    return np.array(chosen, np.int64)


def _farthest(distances: _Directions, first: int, count: int) -> Rows:
    chosen, nearest = [first], distances.to(first)
    nearest[first] = -1
    while len(chosen) < count:
        row = int(np.argmax(nearest))
        chosen.append(row)
        nearest = np.minimum(nearest, distances.to(row))
        nearest[row] = -1
    return np.array(chosen, np.int64)


def _clustered(unit: FloatArray, uncertainty: FloatArray, count: int, seed: int) -> Rows:
    from sklearn.cluster import KMeans

    pool = np.argsort(-uncertainty, kind="stable")[: _SHARE * count]
    weights = np.maximum(uncertainty[pool], 1e-6)
    means = KMeans(count, n_init=1, random_state=seed)
    distances = means.fit(unit[pool], sample_weight=weights).transform(unit[pool])
    chosen = [pool[int(row)] for row in np.unique(distances.argmin(axis=0))]
    rest = [row for row in pool if row not in set(chosen)]
    order = sorted(chosen, key=lambda row: -float(uncertainty[row]))
    return np.array([*order, *rest][:count], np.int64)


def _typical(unit: FloatArray, count: int, rng: np.random.Generator, seed: int) -> Rows:
    from sklearn.cluster import KMeans

    pool = np.arange(len(unit))
    if len(pool) > _TYPICAL_ROWS:
        pool = np.sort(rng.permutation(len(unit))[:_TYPICAL_ROWS])
    rows = unit[pool]
    labels = KMeans(count, n_init=1, random_state=seed).fit_predict(rows)
    sizes = np.bincount(labels, minlength=count)
    chosen = []
    for cluster in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(labels == cluster)
        if not len(members):
            continue
        near = min(_TYPICAL_NEIGHBOURS, len(members))
        cosines = np.sort(rows[members] @ rows[members].T, axis=1)[:, -near:]
        chosen.append(int(pool[members[int(np.argmax(cosines.mean(axis=1)))]]))
    rest = np.setdiff1d(pool, chosen)
    return np.array([*chosen, *rest][:count], np.int64)
