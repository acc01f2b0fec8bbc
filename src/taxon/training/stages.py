"""Stages: what trains, with which optimiser and learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from taxon.config import StageConfig
from taxon.models import Classifier
from taxon.models.backbones import freeze_all_but_last


def prepare_stage(
    classifier: Classifier, stage: StageConfig, *, weight_decay: float, steps: int
) -> tuple[AdamW, LambdaLR]:
    """Freeze what the stage freezes, and make its optimiser and schedule.

    Args:
        steps: optimiser steps in an epoch.
    """
    blocks = None if stage.unfrozen_blocks == "all" else stage.unfrozen_blocks
    freeze_all_but_last(classifier.spec, blocks)
    optimiser = AdamW(parameter_groups(classifier, weight_decay), lr=stage.learning_rate)
    total, warmup = stage.epochs * steps, round(stage.warmup_epochs * steps)
    schedule = LambdaLR(optimiser, lambda step: rate_factor(step, stage, total, warmup))
    return optimiser, schedule


def rate_factor(step: int, stage: StageConfig, total: int, warmup: int) -> float:
    """The factor on the stage's learning rate at a step (counted from 0): 0 to 1."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if stage.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: matrices and kernels decay, norms and biases do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return (trainable, total) parameters."""
    total = sum(parameter.numel() for parameter in module.parameters())
    trainable = sum(
        parameter.numel() for parameter in module.parameters() if parameter.requires_grad
    )
    return trainable, total


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights on the CPU, untouched by further training."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
