"""The logistic stage: the head solved for on frozen features, its regularisation chosen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from taxon.core.predictions import FloatArray
from taxon.core.text import counted
from taxon.models.probe import folds, kinds, span

# scikit-learn's C, on standardised features.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
ITERATIONS = 300
FOLDS = 3
LEAST_DEVIATION = 1e-3  # of the median over features
UNSEEN = -20.0  # the logit of a class without pictures
IntArray = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Features with their targets.

    Attributes:
        features: float32 [N, F].
        targets: int64 [N] class positions, or [N, C] of 0 and 1.
        weights: float64 [N], how much each row counts.
        groups: int64 [N]; rows of one group (the views of a picture, the pictures of a patient)
            are never divided between fitting and scoring.
    """

    features: FloatArray
    targets: IntArray
    weights: Weights
    groups: IntArray

    def at(self, rows: npt.NDArray[np.intp]) -> Examples:
        """Some of the rows."""
        return Examples(
            self.features[rows], self.targets[rows], self.weights[rows], self.groups[rows]
        )


@dataclass(frozen=True)
class LinearHead:
    """Logits = ((features - mean) * factor) @ weight.T + bias.

    Attributes:
        mean, factor: float32 [F].
        weight: float32 [C, F].
        bias: float32 [C].
        loss: the mean log loss on the rows that it was fitted on.
        strength: scikit-learn's C that was chosen.
        reason: how it was chosen, in words.
    """

    mean: FloatArray
    factor: FloatArray
    weight: FloatArray
    bias: FloatArray
    loss: float
    strength: float
    reason: str


def solve(train: Examples, validation: Examples | None, *, classes: int, seed: int) -> LinearHead:
    """Fit a logistic regression for each strength of regularisation, and keep the best.

    The best is the strongest one whose log loss is not surely larger than the smallest, on
    validation or, without one, out of fold on the training part, each at its own best temperature
    (Guo et al. 2017): a strongly regularised head is too modest, which says nothing about how
    well it tells classes apart. The head is scaled by that temperature. Multi-label fits one
    regression for each label.

    Args:
        validation: what chooses; None cross-validates.
        classes: C.
    """
    mean = train.features.mean(axis=0)
    deviation = train.features.std(axis=0)
    # What hardly varies is rounding: made as large as the rest, it would differ between runtimes.
    least = max(LEAST_DEVIATION * float(np.median(deviation)), 1e-6)
    factor = np.where(deviation > least, 1 / np.maximum(deviation, least), 0.0).astype(np.float32)

    directions = None  # where there are fewer rows than features
    if len(train.targets) < len(mean):
        directions = span((train.features - mean) * factor).astype(np.float32)

    def turned(examples: Examples) -> Examples:
        features = (examples.features - mean) * factor
        if directions is not None:
            features = features @ directions
        return Examples(features, examples.targets, examples.weights, examples.groups)

    inner = turned(train)
    # A BLAS of several threads makes problems of this size slower, not faster.
    with threadpool_limits(1):
        if validation is not None:
            held_out = turned(validation)
            logits = _Fit(inner, classes).all_logits(held_out)
            count = len(held_out.targets)
            reason = f"on {counted(count, 'validation picture', 'validation pictures')}"
        else:
            held_out, parts = inner, folds(kinds(train.targets), train.groups, seed, FOLDS)
            logits = np.zeros((len(STRENGTHS), len(train.targets), classes))
            for fit, rest in parts:
                logits[:, rest] = _Fit(inner.at(fit), classes).all_logits(inner.at(rest))
            reason = f"by cross-validation in {len(parts)} folds of the training part"
        fitted = [_best_temperature(own, held_out) for own in logits]
        scaled = [own / temperature for own, (_, temperature) in zip(logits, fitted, strict=True)]
        best = _simplest(np.stack([_row_losses(own, held_out) for own in scaled]))
        weight, bias = _Fit(inner, classes).parameters(STRENGTHS[best])
    temperature = fitted[best][1]
    weight, bias = weight / temperature, np.where(bias == UNSEEN, UNSEEN, bias / temperature)
    loss = _log_loss(inner.features @ weight.T + bias, inner)
    if directions is not None:
        weight = weight @ directions.T
    return LinearHead(
        mean=mean,
        factor=factor,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        loss=loss,
        strength=STRENGTHS[best],
        reason=reason,
    )


def _best_temperature(logits: npt.NDArray[np.float64], examples: Examples) -> tuple[float, float]:
    """The smallest log loss over temperatures, and the temperature that gives it."""
    found = minimize_scalar(
        lambda logarithm: _log_loss(logits / np.exp(logarithm), examples),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    return float(found.fun), float(np.exp(found.x))


def _simplest(losses: npt.NDArray[np.float64]) -> int:
    """The strongest regularisation that loses no more than a standard error to the best one.

    The rule of one standard error (Breiman et al. 1984), on differences picture by picture: the
    smallest loss alone follows chance where the curve is flat.

    Args:
        losses: [S, N], by falling regularisation; how much each row adds to the mean.
    """
    best = losses[int(np.argmin(losses.sum(axis=1)))]
    differences = losses - best
    error = differences.std(axis=1) * np.sqrt(losses.shape[1])
    return int(np.argmax(differences.sum(axis=1) <= error))


def _log_loss(logits: npt.NDArray[np.float64], examples: Examples) -> float:
    """The weighted mean; of several labels over those that are known."""
    return float(_row_losses(logits, examples).sum())


def _row_losses(logits: npt.NDArray[np.float64], examples: Examples) -> npt.NDArray[np.float64]:
    """float64 [N]: what each row adds to the weighted mean."""
    targets, weights = examples.targets, examples.weights
    if targets.ndim == 1:
        own = -log_softmax(logits, axis=1)[np.arange(len(targets)), targets]
        return np.asarray(own * weights / weights.sum())
    known = (targets >= 0) * weights[:, None]
    losses = np.logaddexp(0.0, np.where(targets == 1, -logits, logits))
    return np.asarray((losses * known).sum(axis=1) / known.sum())


class _Fit:
    """Logistic regressions on the same rows, each starting from the one before."""

    def __init__(self, train: Examples, classes: int) -> None:
        self._train, self._classes = train, classes
        several = train.targets.ndim == 2
        columns = list(train.targets.T) if several else [train.targets]
        self._models = [(column, _model()) for column in columns]

    def all_logits(self, examples: Examples) -> npt.NDArray[np.float64]:
        """Of each strength: float64 [S, N, C]."""
        fitted = [self.parameters(strength) for strength in STRENGTHS]
        return np.stack([examples.features @ weight.T + bias for weight, bias in fitted])

    def parameters(self, strength: float) -> tuple[Weights, Weights]:
        """Weight [C, F] and bias [C]."""
        rows = [self._solved(column, model, strength) for column, model in self._models]
        if self._train.targets.ndim == 2:
            return np.concatenate([w[1:] for w, _ in rows]), np.concatenate(
                [b[1:] for _, b in rows]
            )
        return rows[0]

    def _solved(
        self, column: IntArray, model: LogisticRegression, strength: float
    ) -> tuple[Weights, Weights]:
        """Weight and bias of each class of a column; of a label's: absent, present."""
        count = self._classes if self._train.targets.ndim == 1 else 2
        size = self._train.features.shape[1]
        weight, bias = np.zeros((count, size)), np.full(count, UNSEEN)
        rows = np.flatnonzero(column >= 0)
        seen = np.unique(column[rows])
        if len(seen) < 2:
            bias[seen] = 0.0
            return weight, bias
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near enough to compare
            model.fit(
                self._train.features[rows], column[rows], sample_weight=self._train.weights[rows]
            )
        if len(seen) == 2:  # scikit-learn gives one row: the second class against the first
            half = 0.0 if count == 2 and self._train.targets.ndim == 2 else 0.5
            weight[seen] = np.stack([-half * model.coef_[0], (1 - half) * model.coef_[0]])
            bias[seen] = [-half * model.intercept_[0], (1 - half) * model.intercept_[0]]
        else:
            weight[seen], bias[seen] = model.coef_, model.intercept_
        return weight, bias


def _model() -> LogisticRegression:
    return LogisticRegression(max_iter=ITERATIONS, warm_start=True)
