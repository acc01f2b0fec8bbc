"""The decision policy: calibration, thresholds and abstention, stored in every bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import FloatArray, ScopeMethod, SetMethod
from taxon.core.taxonomy import TaxonomyRule

FloatVector = npt.NDArray[np.float64]


class PredictionSets(BaseModel):
    """Split conformal prediction: sets of classes that hold the true one with a stated coverage.

    Attributes:
        method: `lac` or `raps` (`taxon.decision.sets`).
        coverage: promised for pictures like those of the calibration part, above 0, below 1.
        limits: a class is in the set where its score is at most this: one limit for all classes,
            or C, one a class, where the coverage is promised for each.
        penalty, free: of `raps`: what each class adds to the score beyond the first `free` ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: SetMethod
    coverage: float = Field(gt=0, lt=1)
    limits: tuple[float, ...] = Field(min_length=1)
    penalty: float = Field(default=0.0, ge=0)
    free: int = Field(default=0, ge=0)


class Scope(BaseModel):
    """Which pictures are of something else.

    Attributes:
        method: of the score that the graph computes: `energy` of the logits, similarity to the
            `nearest` training picture, or the sum of `both`.
        energy, nearest: mean and deviation of each over the calibration part, by which it is
            brought to mean 0 and deviation 1; None where the method has no use for it.
        limit: a picture with a lower score is out of scope.
        in_scope_share: of pictures like those of the calibration part this share is above it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: ScopeMethod
    energy: tuple[float, float] | None
    nearest: tuple[float, float] | None
    limit: float
    in_scope_share: float = Field(gt=0, lt=1)


ALWAYS_UNSURE = 2.0  # above every confidence


class DecisionPolicy(BaseModel):
    """How probabilities become an answer.

    Attributes:
        scale, bias: calibration of the logits, one pair a class: `scale * logit + bias`.
            Temperature scaling is the special case scale = 1 / temperature, bias = 0; logit
            adjustment by class frequency (Menon et al. 2021) is a bias.
        thresholds: for multilabel, the probability from which a class is named; for
            multiclass not used.
        costs: for multiclass, [true class][named class]: the class with the least expected cost
            is named; None: the most probable one.
        abstain_below: an answer with less confidence is marked `unsure` (0: never, 2: always,
            since nothing could be promised).
        sets: prediction sets; None: there are none.
        scope: which pictures are flagged as out of scope; None: none.
        taxonomy_confidence: a taxonomy answer stops at the deepest node with this probability.
        taxonomy_rule: the class that a taxonomy's answer names: the most probable, or the one
            whose mistakes are expected to be the nearest (`taxon.decision.taxonomy`).
        target: what thresholds (multiclass: costs) were chosen for, in words.
        fitted_on: which part of the data the policy was fitted on, or `defaults`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    thresholds: tuple[float, ...]
    costs: tuple[tuple[float, ...], ...] | None = None
    abstain_below: float = Field(default=0.0, ge=0, le=2)
    sets: PredictionSets | None = None
    scope: Scope | None = None
    taxonomy_confidence: float = Field(default=0.5, gt=0, le=1)
    taxonomy_rule: TaxonomyRule = "most-probable"
    target: str = "F1"
    fitted_on: str = "defaults"

    @classmethod
    def default(
        cls, label_space: LabelSpace, bias: Sequence[float] | FloatVector | None = None
    ) -> DecisionPolicy:
        """The policy that changes nothing (scale 1, thresholds 0.5, no abstention) but the bias.

        Args:
            bias: [C], where it is not 0.
        """
        count = len(label_space.names)
        policy = cls(scale=(1.0,) * count, bias=(0.0,) * count, thresholds=(0.5,) * count)
        return policy if bias is None else policy.with_bias(bias)

    def with_bias(self, bias: Sequence[float] | FloatVector) -> DecisionPolicy:
        """The policy with another bias, one value a class."""
        return self.model_copy(update={"bias": tuple(float(value) for value in bias)})

    def at_temperature(self, temperature: float) -> DecisionPolicy:
        """The policy whose calibrated logits are divided by `temperature`, above 0."""
        scale = tuple(value / temperature for value in self.scale)
        bias = tuple(value / temperature for value in self.bias)
        return self.model_copy(update={"scale": scale, "bias": bias})

    @property
    def temperature(self) -> float | None:
        """1 / scale where all classes share one scale and have no bias, else None."""
        if len(set(self.scale)) == 1 and not any(self.bias):
            return 1.0 / self.scale[0]
        return None


def calibrate(logits: FloatArray, policy: DecisionPolicy, task: Task) -> FloatArray:
    """Logits [N, C] -> calibrated probabilities float32 [N, C]: softmax or sigmoid."""
    scaled = logits.astype(np.float64) * np.array(policy.scale) + np.array(policy.bias)
    if task == "multilabel":
        # Written with tanh, the sigmoid does not overflow for large negative logits.
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scaled)), np.float32)
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)
