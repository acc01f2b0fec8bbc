"""Scores of an epoch: loss and headline figures on validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.imbalance import logit_adjustment
from taxon.decision import DecisionPolicy, calibrate
from taxon.metrics import headline
from taxon.training.job import TrainingJob
from taxon.training.losses import build_loss
from taxon.training.steps import Diverged

NO_SCORES: dict[str, Any] = {"validation_loss": None, "macro_f1": None}


def score(job: TrainingJob, part: Manifest, logits: FloatArray) -> dict[str, Any]:
    """The plain loss and the headline figures, as the finished model would answer.

    Args:
        logits: float32 [N, C], finite.
    """
    space, targets = part.label_space, part.targets()
    plain = build_loss(space)
    loss = plain(torch.from_numpy(logits), torch.from_numpy(targets)).mean()
    # With the adjustment by class frequency, which the policy keeps.
    policy = DecisionPolicy.default(space, logit_adjustment(job.imbalance))
    scores = headline(space.task, targets, calibrate(logits, policy, space.task))
    return {"validation_loss": float(loss), **scores}


def require_finite(logits: FloatArray, epoch: int) -> None:
    """No loss shows what the last step of an epoch did; the outputs do."""
    if not all_finite(logits):
        raise Diverged(epoch, "the model's outputs are not numbers any more")


def all_finite(logits: FloatArray) -> bool:
    """Whether outputs are numbers."""
    return bool(np.isfinite(logits).all())
