"""How much a picture is like those of the training: the parts of the out-of-scope score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.labels import Task
from taxon.core.predictions import FloatArray
from taxon.decision.policy import Scope

Floats = npt.NDArray[np.floating[Any]]


def energy(logits: Floats, task: Task) -> npt.NDArray[np.float64]:
    """Return the negative free energy of logits, float64 [N]; low for what is unlike the training.

    Multiclass: log-sum-exp over the classes (Liu et al. 2020, "Energy-based Out-of-distribution
    Detection"). Multilabel: the sum over the tags of log(1 + exp) (Wang et al. 2021, "Can
    multi-label classification networks know what they don't know?").

    Args:
        logits: [N, C], the head's own.
    """
    exact = logits.astype(np.float64)
    if task == "multilabel":
        return np.asarray(np.logaddexp(0.0, exact).sum(axis=1))
    return np.asarray(np.logaddexp.reduce(exact, axis=1))


def nearest_similarity(features: Floats, bank: Floats) -> npt.NDArray[np.float64]:
    """Return the cosine similarity to the nearest picture of the bank, float64 [N], -1 to 1.

    Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", with the first
    neighbour.

    Args:
        features: [N, F].
        bank: [M, F], rows of length 1.
    """
    return np.asarray((unit_rows(features) @ bank.T.astype(np.float64)).max(axis=1))


def unit_rows(features: Floats) -> npt.NDArray[np.float64]:
    """Return rows of length 1; a row of zeros stays."""
    exact = features.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.maximum(lengths, 1e-12))


def scope_scores(
    logits: Floats, features: Floats, bank: Floats | None, scope: Scope, task: Task
) -> FloatArray:
    """Return the score that the exported graph computes, float32 [N]; see `Scope`.

    Args:
        logits: [N, C].
        features: [N, F].
        bank: [M, F], rows of length 1; None where the method has no use for it.
    """
    total = np.zeros(len(logits))
    if scope.energy is not None:
        total += standardised(energy(logits, task), scope.energy)
    if scope.nearest is not None:
        assert bank is not None
        total += standardised(nearest_similarity(features, bank), scope.nearest)
    return total.astype(np.float32)


def standardised(
    values: npt.NDArray[np.float64], moments: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return (values - mean) / deviation, the moments being that pair."""
    return np.asarray((values - moments[0]) / moments[1])
