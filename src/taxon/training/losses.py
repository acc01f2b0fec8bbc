"""Losses: one a task, with what the imbalance plan asks for; a value a picture."""

from __future__ import annotations

import math
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
PLAIN = LossConfig()


def build_loss(
    label_space: LabelSpace,
    plan: ImbalancePlan | None = None,
    config: LossConfig = PLAIN,
) -> Loss:
    """Return the loss: (logits float32 [N, C], targets) -> float32 [N], a value a picture.

    Multi-class takes targets int64 [N] or, of blended pictures, float [N, C] that sum to 1;
    multi-label [N, C] of 0 to 1, and -1 where it is unknown (the mean over the known classes).

    Args:
        plan: focal loss, class weights and balanced softmax come from it; None is the plain loss.
        config: what of it is for the other task has no effect; see `require_loss_fits`.

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
        weights = positive_weights(plan) if plan and weighted else ones
        if config.multilabel == "asymmetric":
            return SigmoidLoss(weights, config.gamma_positive, config.gamma_negative, config.clip)
        return SigmoidLoss(weights, gamma, gamma)
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
    """Binary cross-entropy, focal and asymmetric loss; the mean over the classes that are known.

    -weight * target * (1 - p) ** gamma_positive * log p
    - (1 - target) * q ** gamma_negative * log(1 - q), where p = sigmoid(logit) and
    q = max(p - clip, 0): the asymmetric loss (Ridnik et al. 2021). With equal gammas and without
    a clip it is focal loss (Lin et al. 2017), with gammas of 0 cross-entropy.

    A class whose target is below 0 is unknown: it counts as if it were absent from the row. A row
    of which nothing is known has loss 0.

    Args:
        positive_weights: float64 [C], of a label's positives against its negatives.
    """

    def __init__(
        self,
        positive_weights: npt.NDArray[np.float64],
        gamma_positive: float,
        gamma_negative: float,
        clip: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer(
            "positive_weights", torch.tensor(positive_weights, dtype=torch.float32)
        )
        self.gamma_positive, self.gamma_negative = gamma_positive, gamma_negative
        self.clip = clip

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = targets >= 0
        wanted = targets.clamp(min=0).to(logits.dtype)
        log_p, log_not_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        if self.clip:
            # 1 - q = min(1 - p + clip, 1); summed as logarithms, no p rounds it to 0.
            log_clip = torch.full_like(logits, math.log(self.clip))
            log_not_q = torch.logaddexp(log_not_q, log_clip).clamp(max=0)
        positive = cast(torch.Tensor, self.positive_weights) * wanted * -log_p
        negative = (1 - wanted) * -log_not_q
        terms = positive * _hardness(log_p, self.gamma_positive)
        terms = terms + negative * _hardness(log_not_q, self.gamma_negative)
        # A factor of exactly 1 where all is known.
        factor = logits.shape[1] / known.sum(dim=1).clamp(min=1).to(logits.dtype)
        return torch.where(known, terms, 0.0).mean(dim=1) * factor


def _hardness(log_p: torch.Tensor, gamma: float) -> torch.Tensor | float:
    """(1 - p) ** gamma; exactly 1 with gamma 0."""
    if gamma == 0:
        return 1.0
    # At p = 1 the slope of a power below 1 is infinite; there the loss is 0 all the same.
    missing = -torch.expm1(log_p)
    return missing.clamp(min=torch.finfo(log_p.dtype).eps) ** gamma
