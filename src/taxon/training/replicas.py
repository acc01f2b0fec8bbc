"""One model in several processes: the same weights, gradients and statistics in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from taxon.config import StageConfig
from taxon.models.backbones import synchronised_batch_norm, train_mode
from taxon.training.distributed import Team
from taxon.training.events import Note
from taxon.training.job import TrainingJob

UNSYNCHRONISED = (
    "batch norm: on CPUs each process normalises by its own share of a batch (on GPUs by the whole "
    "batch), so that the model is not quite that of one process"
)


def synchronise_batch_norm(job: TrainingJob) -> None:
    """Of several GPUs, let batch norms that train normalise by the whole batch."""
    if job.team.size > 1 and job.accelerator.device.type == "cuda":
        synchronised_batch_norm(job.classifier.backbone)


def connect(
    job: TrainingJob, stage: StageConfig, module: nn.Module
) -> tuple[Any, list[_BatchNorm]]:
    """Return what takes a stage's steps: compiled where that is wanted and, of several processes,
    with backward passes that end with the mean of all processes' gradients.

    Made once a stage, after blocks were frozen: what is frozen takes no part.

    Args:
        module: what crosses the border of the frozen blocks -> logits.

    Returns:
        The module, and the batch norms whose statistics `share_statistics` must bring together.
    """
    made: Any = torch.compile(module) if job.config.compile else module
    if job.team.size == 1 or stage.method != "gradient":
        return made, []
    device = job.accelerator.device
    made = DistributedDataParallel(
        made,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=_leaves_out(job),
    )
    if device.type == "cuda":
        return made, []
    train_mode(job.classifier)
    norms = [
        part for part in job.classifier.modules() if isinstance(part, _BatchNorm) and part.training
    ]
    if norms:
        job.listener(Note(UNSYNCHRONISED))
    return made, norms


def share_statistics(norms: Sequence[_BatchNorm], team: Team) -> None:
    """Give all processes the mean of what their batch norms averaged: they validate one model."""
    for norm in norms:
        for values in (norm.running_mean, norm.running_var):
            if values is not None:
                torch.distributed.all_reduce(values)
                values /= team.size


def _leaves_out(job: TrainingJob) -> bool:
    """Whether parameters that train have no part in the logits (a layer that pooling passes by).

    Then, and only then, backward passes must look for them.
    """
    classifier, spec = job.classifier, job.preprocessing
    images = torch.zeros(2, 3, spec.height, spec.width, device=job.accelerator.device)
    classifier.eval()
    classifier(images).sum().backward()
    found = any(p.requires_grad and p.grad is None for p in classifier.parameters())
    classifier.zero_grad(set_to_none=True)
    return found
