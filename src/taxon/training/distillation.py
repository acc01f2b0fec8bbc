"""Distillation: the teacher's probabilities beside the labels, from the targets to the loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import FloatArray
from taxon.training.job import TrainingJob
from taxon.training.losses import Loss, build_loss


def with_answers(targets: torch.Tensor, answers: FloatArray) -> torch.Tensor:
    """Targets that carry the teacher's answers through batches, caches and mixing.

    Args:
        targets: int64 [N] (multi-class) or [N, C] of 0, 1 and -1, unknown (multi-label).
        answers: float32 [N, C], the teacher's probabilities at the temperature of the run.

    Returns:
        float32 [N, 2 C]: the labels' row, then the teacher's. What is unknown of a label is -1 in
        both: where nobody looked, the teacher does not answer in their place.
    """
    classes = answers.shape[1]
    labels = functional.one_hot(targets, classes) if targets.ndim == 1 else targets
    taught = torch.where(labels < 0, -1.0, torch.from_numpy(answers))
    return torch.cat([labels.to(torch.float32), taught], dim=1)


def with_teacher(loss: Loss, job: TrainingJob) -> Loss:
    """The loss of a run: `loss`, the labels' own, where the run has no teacher."""
    if job.answers is None:
        return loss
    settings = job.config.distillation
    return DistillationLoss(loss, job.train.label_space, settings.share, settings.temperature)


class DistillationLoss(nn.Module):
    """(logits [N, C], targets float [N, 2 C] of `with_answers`) -> [N], a value a picture.

    (1 - share) * labels' loss + share * T ** 2 * KL(teacher || student at T), where the student
    at T is the softmax (multi-label: each label's sigmoid) of its logits / T (Hinton et al.
    2015). Gradients of the second term shrink with T ** 2, which the factor makes up for, so that
    the share means the same at every temperature. Of several labels it is the mean over those
    that are known, as in the labels' loss.

    What changes the labels' loss (focal, class weights, label smoothing, a taxonomy) leaves the
    teacher's term as it is.

    Args:
        labels: the labels' loss, as `build_loss` makes it.
        share: 0 to 1.
        temperature: T, from 1 on.
    """

    def __init__(
        self, labels: Loss, label_space: LabelSpace, share: float, temperature: float
    ) -> None:
        super().__init__()
        self.labels = labels
        self.plain = build_loss(label_space)
        self.task, self.share, self.temperature = label_space.task, share, temperature

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        labels, taught = targets.chunk(2, dim=1)
        cross_entropy: torch.Tensor = self.plain(logits / self.temperature, taught)
        # Without a gradient; with it, 0 means that the student answers as the teacher.
        divergence = cross_entropy - entropy(taught, self.task)
        own: torch.Tensor = self.labels(logits, labels)
        return (1 - self.share) * own + self.share * self.temperature**2 * divergence


def entropy(probabilities: torch.Tensor, task: Task) -> torch.Tensor:
    """Of each row, [N, C] -> [N], in nats; multi-label: the mean over the labels not below 0."""
    values = probabilities.clamp(min=0)
    terms: torch.Tensor = torch.special.entr(values)
    if task == "multiclass":
        return terms.sum(dim=1)
    known = probabilities >= 0
    terms = terms + torch.special.entr(1 - values)
    return torch.where(known, terms, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)
