"""Losses: one a task, with what the imbalance plan asks for; a value a picture."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import nn
from torch.nn import functional

from taxon.config import LossConfig
from taxon.core.labels import LabelSpace
from taxon.data.imbalance import (
    ImbalancePlan,
    class_weights,
    frequency_shift,
    positive_weights,
    require_compatible,
)
from taxon.training.taxonomy_losses import build_taxonomy_loss

Loss = nn.Module


def build_loss(
    label_space: LabelSpace,
    plan: ImbalancePlan | None = None,
    config: LossConfig = LossConfig(),  # noqa: B008 (frozen)
) -> Loss:
    """Return the loss: (logits float32 [N, C], targets) -> float32 [N], a value a picture.

    Multi-class takes targets int64 [N] or, of blended pictures, float [N, C] that sum to 1;
    multi-label [N, C] of 0 to 1 (the mean over the classes).

    Args:
        plan: focal loss, class weights and balanced softmax come from it; None is the plain loss.
        config: label smoothing, or a loss over the taxonomy.

    Raises:
        ConfigError: a loss over a taxonomy, for classes without one or with a plan that changes
            the loss of single classes.
    """
    classes = len(label_space.names)
    ones = np.ones(classes)
    weighted = plan is not None and plan.uses("class-weights")
    if config.taxonomy != "flat":
        require_compatible(plan.strategies if plan else (), label_space.task, config.taxonomy)
        weights = class_weights(plan) if plan and weighted else ones
        return build_taxonomy_loss(label_space, config, weights)
    gamma = plan.settings.focal_gamma if plan is not None and plan.uses("focal") else 0.0
    if label_space.task == "multilabel":
        return SigmoidLoss(positive_weights(plan) if plan and weighted else ones, gamma)
    balanced = plan is not None and plan.uses("balanced-softmax")
    adjusted = balanced or (plan is not None and plan.uses("logit-adjust"))
    prior = frequency_shift(plan) if plan and adjusted else np.zeros(classes)
    return SoftmaxLoss(
        class_weights(plan) if plan and weighted else ones,
        prior if balanced else np.zeros(classes),
        gamma,
        config.label_smoothing,
        softmax(prior),
    )


class SoftmaxLoss(nn.Module):
    """Cross-entropy, focal loss, class weights and balanced softmax, in one formula.

    -sum over c of weight[c] * target[c] * (1 - p[c]) ** gamma * log p[c], where
    p = softmax(logits + shift): focal loss (Lin et al. 2017) in its softmax form, balanced
    softmax (Ren et al. 2020) with shift = log prior, cross-entropy with gamma 0, weights 1 and
    shift 0.

    Label smoothing gives each picture's share of it the picture's own weight, and, where class
    frequency is taken off the logits, hands it out by frequency. Otherwise what it gives to a
    rare class would be blown up until common pictures are taken for rare ones.

    Args:
        weights: float64 [C].
        shift: float64 [C].
        smooth_to: float64 [C], sums to 1: the target that smoothing mixes in.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float64],
        shift: npt.NDArray[np.float64],
        gamma: float,
        label_smoothing: float,
        smooth_to: npt.NDArray[np.float64],
    ) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))
        self.register_buffer("smooth_to", torch.tensor(smooth_to, dtype=torch.float32))
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        classes = logits.shape[1]
        if targets.ndim == 1:
            targets = functional.one_hot(targets, classes)
        weighted = cast(torch.Tensor, self.weights) * targets.to(logits.dtype)
        smooth = weighted.sum(dim=1, keepdim=True) * cast(torch.Tensor, self.smooth_to)
        wanted = torch.lerp(weighted, smooth, self.label_smoothing)
        log_p = functional.log_softmax(logits + cast(torch.Tensor, self.shift), dim=1)
        return (wanted * -log_p * _hardness(log_p, self.gamma)).sum(dim=1)


class SigmoidLoss(nn.Module):
    """Binary cross-entropy and its focal form (Lin et al. 2017), the mean over the classes.

    Args:
        positive_weights: float64 [C], of a label's positives against its negatives.
    """

    def __init__(self, positive_weights: npt.NDArray[np.float64], gamma: float) -> None:
        super().__init__()
        self.register_buffer(
            "positive_weights", torch.tensor(positive_weights, dtype=torch.float32)
        )
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = targets.to(logits.dtype)
        log_p, log_not_p = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        positive = cast(torch.Tensor, self.positive_weights) * wanted * -log_p
        negative = (1 - wanted) * -log_not_p
        terms = positive * _hardness(log_p, self.gamma)
        return (terms + negative * _hardness(log_not_p, self.gamma)).mean(dim=1)


def _hardness(log_p: torch.Tensor, gamma: float) -> torch.Tensor | float:
    """(1 - p) ** gamma; exactly 1 with gamma 0."""
    if gamma == 0:
        return 1.0
    # At p = 1 the slope of a power below 1 is infinite; there the loss is 0 all the same.
    missing = -torch.expm1(log_p)
    return missing.clamp(min=torch.finfo(log_p.dtype).eps) ** gamma
