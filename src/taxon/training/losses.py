"""Losses: one function a task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from taxon.core.labels import Task

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(task: Task, *, label_smoothing: float = 0.0) -> Loss:
    """Return the loss: (logits [N, C], targets) -> scalar.

    Multi-class takes targets int64 [N] (softmax cross-entropy); multi-label int64 [N, C] of 0
    and 1 (sigmoid binary cross-entropy, mean over pictures and classes).
    """
    if task == "multilabel":
        return _binary_cross_entropy
    return lambda logits, targets: functional.cross_entropy(
        logits, targets, label_smoothing=label_smoothing
    )


def _binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
