"""The out-of-scope score as a part of the exported graph."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from taxon.core.labels import Task
from taxon.core.predictions import FloatArray
from taxon.decision.policy import Scope


class ScopeScore(nn.Module):
    """How much pictures are like those of the training: (features, logits) -> float32 [N].

    The same score as `taxon.decision.scope.scope_scores`, with all that it needs as buffers, so
    that every exported artefact computes it by itself.

    Args:
        scope: the method and its moments.
        task: for the energy.
        bank: float32 [M, F], rows of length 1; None where the method has no use for it.
    """

    def __init__(self, scope: Scope, task: Task, bank: FloatArray | None) -> None:
        super().__init__()
        self.scope = scope
        self.task = task
        if bank is not None:
            self.register_buffer("bank", torch.from_numpy(bank))

    def forward(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        scores = []
        if self.scope.energy is not None:
            if self.task == "multilabel":
                energy = functional.softplus(logits).sum(dim=1)
            else:
                energy = torch.logsumexp(logits, dim=1)
            scores.append(_standardised(energy, self.scope.energy))
        if self.scope.nearest is not None:
            unit = functional.normalize(features.float(), dim=1)
            similarity = (unit @ cast(torch.Tensor, self.bank).T).amax(dim=1)
            scores.append(_standardised(similarity, self.scope.nearest))
        return torch.stack(scores).sum(dim=0)


def _standardised(values: torch.Tensor, moments: tuple[float, float]) -> torch.Tensor:
    mean, deviation = moments
    return (values - mean) * (1.0 / deviation)
