"""One optimiser step: loss, gradient, clipping; in parts where the batch does not fit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from taxon.core.errors import OwnError
from taxon.core.text import one_line
from taxon.training.checkpoint import Progress
from taxon.training.events import Note
from taxon.training.inputs import StepBatch
from taxon.training.job import TrainingJob


class Diverged(Exception):
    """Losses or outputs are not numbers any more."""

    def __init__(self, epoch: int, what: str) -> None:
        super().__init__(what)
        self._epoch, self._what = epoch, what

    def advice(self) -> str:
        """One line that says what to try."""
        return one_line(
            f"epoch {self._epoch}: {self._what}; try a lower learning rate "
            "(--set stages.N.learning_rate=..., N from 0), or --set optimiser.gradient_clip=1"
        )


def take_step(
    job: TrainingJob,
    module: nn.Module,
    loss: nn.Module,
    optimiser: Any,
    batch: StepBatch,
    progress: Progress,
) -> float:
    """Take a step and return the mean loss of the batch; a loss that is no number takes none.

    A batch that does not fit into the device's memory goes through the model in twice as many
    parts, from then on.

    Raises:
        OwnError: it does not fit, and there are several processes: the others wait for the
            gradient already, and cannot begin anew.
    """
    while True:
        try:
            value = _gradients(job, module, loss, optimiser, batch, progress.parts)
            break
        except torch.OutOfMemoryError as error:
            if job.team.size > 1:
                raise OwnError(_too_large(job, batch, progress.parts)) from error
            if progress.parts >= len(batch.targets):
                raise
            optimiser.zero_grad(set_to_none=True)
            progress.parts *= 2
        # Outside of the handler: the error holds on to the tensors that did not fit.
        torch.cuda.empty_cache()
        size = -(-len(batch.targets) // progress.parts)
        job.listener(
            Note(
                f"a step of {len(batch.targets)} pictures does not fit into the device's memory: "
                f"{progress.parts} parts of {size}, one after the other (the same step, but that "
                "batch norm which trains sees a part at a time)"
            )
        )
    if not torch.isfinite(torch.tensor(value)):
        return value
    clip = job.config.optimiser.gradient_clip
    if clip is not None:
        job.accelerator.clip_grad_norm_(job.classifier.parameters(), clip)
    optimiser.step()
    return value


def _gradients(
    job: TrainingJob,
    module: nn.Module,
    loss: nn.Module,
    optimiser: Any,
    batch: StepBatch,
    parts: int,
) -> float:
    """Leave the gradient of the batch's mean loss in the parameters; return that loss.

    Both are of the whole batch, of which this process may have a part: processes take the mean of
    their gradients, so that each counts its pictures as many times as there are processes. Only
    its last part waits for the others.
    """
    optimiser.zero_grad(set_to_none=True)
    processes = job.team.size
    # The same number in all processes, whose shares may differ by one picture.
    parts = max(1, min(parts, batch.total // processes))
    total = 0.0
    for number, rows in enumerate(torch.arange(len(batch.targets)).tensor_split(parts), start=1):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        with job.accelerator.no_sync(module) if number < parts else nullcontext():
            with job.accelerator.autocast():
                logits = module(*(tensor[part] for tensor in batch.tensors))
                values = loss(logits.float(), batch.targets[part])
            share = (values * batch.weights[part]).sum() * processes / batch.total
            job.accelerator.backward(share)
        total += float(share.detach()) / processes
    return job.team.sum(total)


def _too_large(job: TrainingJob, batch: StepBatch, parts: int) -> str:
    return (
        f"process {job.team.rank} of {job.team.size}: its {len(batch.targets)} of {batch.total} "
        f"pictures of a step do not fit into the device's memory in {parts} parts; "
        f"--set accumulation={2 * parts} takes twice as many parts, which give the same step"
    )
