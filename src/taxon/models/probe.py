"""The probe: a linear classifier on frozen features, scored out of fold.

It answers in seconds what a training run answers in an hour, nearly as well: which framing,
which label looks wrong, how far two parts differ.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray

REGULARISATION = 0.1  # scikit-learn's C, on standardised features
FOLDS = 5
_TURNED = 2500  # of more pictures, turning takes longer than it saves
_REMEMBERED = 5000  # folds of more pictures would fill the memory

IntArray = npt.NDArray[np.int64]
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # what teaches, what is held out


def out_of_fold_probabilities(
    features: FloatArray, targets: IntArray, groups: IntArray, *, classes: int, seed: int
) -> FloatArray:
    """Probabilities of a logistic regression that never saw the picture, nor its group.

    Args:
        features: float32 [N, F].
        targets: int64 [N] class positions, or [N, C] of 0, 1 and -1: pictures of which a class is
            unknown teach nothing about it, but get a probability too.
        groups: int64 [N]; pictures of one group are always in the same fold.
        classes: C.

    Returns:
        float32 [N, C]. A class that the other folds do not have gets probability 0.

    Raises:
        ValueError: fewer than two groups.
    """
    features = compact(features)
    # A BLAS of several threads makes problems of this size slower, not faster.
    with threadpool_limits(1):
        if targets.ndim == 2:
            columns = [_binary(features, column, groups, seed) for column in targets.T]
            return np.stack(columns, axis=1).astype(np.float32)
        result = np.zeros((len(targets), classes), np.float32)
        for train, held_out in folds(targets, groups, seed):
            result[held_out] = fit_predict(features, targets, train, held_out, classes)
        return result


def compact(features: FloatArray) -> FloatArray:
    """Features of mean 0 and deviation 1, in as few dimensions as hold all that a probe sees.

    A regularised linear model lies in the span of the pictures: turned into N dimensions, [N, F]
    with F > N teach the same, several times faster.

    Args:
        features: float32 [N, F].

    Returns:
        float32 [N, F], or [N, N or fewer].
    """
    centred = features - features.mean(axis=0)
    deviation = centred.std(axis=0)
    scaled = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-6)
    if len(scaled) >= min(scaled.shape[1], _TURNED):
        return np.asarray(scaled, np.float32)
    return np.asarray(scaled @ span(scaled), np.float32)


def span(rows: FloatArray) -> npt.NDArray[np.float64]:
    """Orthonormal directions, [F, N or fewer], that span the rows: from the products of N < F rows.

    A linear model with a squared penalty has no other components; `rows @ span(rows)` teach it
    the same as `rows`.

    Args:
        rows: float32 [N, F].
    """
    exact = rows.astype(np.float64)
    values, directions = np.linalg.eigh(exact @ exact.T)
    kept = values > 1e-9 * max(values[-1], 1e-12)
    kept[-1] = True  # of rows that are all zero too
    scales = np.sqrt(np.maximum(values[kept], 1e-12))
    return np.asarray(exact.T @ (directions[:, kept] / scales))


def _binary(
    features: FloatArray, targets: IntArray, groups: IntArray, seed: int
) -> npt.NDArray[np.float32]:
    result = np.zeros(len(targets), np.float32)
    for train, held_out in folds(targets, groups, seed):
        result[held_out] = fit_predict(features, targets[:, None], train, held_out, 1)[:, 0]
    return result


def fit_predict(
    features: FloatArray,
    targets: IntArray,
    train: npt.NDArray[np.intp],
    held_out: npt.NDArray[np.intp],
    classes: int,
) -> FloatArray:
    """Fit the probe on some pictures and return its probabilities for others, float32 [M, C].

    Args:
        features: float32 [N, F], from `compact`.
        targets, classes: as for `out_of_fold_probabilities`.
        train: positions of the pictures that teach.
        held_out: M positions.
    """
    if targets.ndim == 2:
        columns = [
            fit_predict(features, column, train[column[train] != UNKNOWN], held_out, 2)[:, 1]
            for column in targets.T
        ]
        return np.stack(columns, axis=1)
    result = np.zeros((len(held_out), classes), np.float32)
    known = np.unique(targets[train])
    if len(known) < 2:
        result[:, known] = 1.0
        return result
    model = LogisticRegression(C=REGULARISATION, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a probe
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(features[train], targets[train])
    result[:, known] = model.predict_proba(features[held_out])
    return result


def folds(targets: IntArray, groups: IntArray, seed: int, most: int = FOLDS) -> list[Fold]:
    """Folds as (training, held-out) positions: stratified, groups never divided.

    Args:
        targets: int64 [N].
        groups: int64 [N], of two or more different values.
        seed: the same seed gives the same folds.
        most: how many, where there are as many groups.
    """
    rows, units = (np.ascontiguousarray(column, np.int64) for column in (targets, groups))
    if len(rows) > _REMEMBERED:
        return list(_divided(rows, units, seed, most))
    return list(_remembered(rows.tobytes(), units.tobytes(), seed, most))


@lru_cache(maxsize=128)
def _remembered(targets: bytes, groups: bytes, seed: int, most: int) -> tuple[Fold, ...]:
    """A choice probes one sample many times, and scikit-learn weighs every group anew, which for
    500 pictures takes longer than a probe."""
    return _divided(np.frombuffer(targets, np.int64), np.frombuffer(groups, np.int64), seed, most)


def _divided(targets: IntArray, groups: IntArray, seed: int, most: int) -> tuple[Fold, ...]:
    count = min(most, len(np.unique(groups)))
    with warnings.catch_warnings():
        # A class with fewer pictures than folds is simply absent from some of them.
        warnings.simplefilter("ignore", UserWarning)
        try:
            splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
            return tuple(splitter.split(_stand_in(targets), targets, groups))
        except ValueError:  # every class has fewer pictures than there are folds
            return tuple(GroupKFold(count).split(_stand_in(targets), targets, groups))


def kinds(targets: IntArray) -> IntArray:
    """int64 [N]: what folds should hold equal shares of; for several labels, each combination."""
    if targets.ndim == 1:
        return targets
    return np.asarray(np.unique(targets, axis=0, return_inverse=True)[1].ravel())


def _stand_in(targets: IntArray) -> IntArray:
    """A stand-in for features: scikit-learn's splitters look at nothing but its length."""
    return targets.reshape(-1, 1)
