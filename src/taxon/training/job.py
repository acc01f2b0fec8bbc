"""What is trained on what, and what a run leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator

from taxon.config import TrainConfig
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.imbalance import ImbalancePlan
from taxon.models import Classifier
from taxon.preprocessing import Preprocessing
from taxon.training.checkpoint import Checkpoints
from taxon.training.distributed import Team
from taxon.training.events import Listener


def never() -> bool:
    """Nobody asks a run to stop."""
    return False


@dataclass(frozen=True)
class TrainingJob:
    """What is trained on what; constant over the run.

    Attributes:
        checkpoints: where the run's state is kept and continued from; None keeps none. Of several
            processes only the first has them.
        stop: asked between steps whether to save the state and leave.
        answers: float32 [N, C], a teacher's probabilities of the training pictures, by position,
            at the temperature of the distillation; None trains on the labels alone.
        team: the processes that train it together.
    """

    classifier: Classifier
    train: Manifest
    validation: Manifest
    preprocessing: Preprocessing
    config: TrainConfig
    imbalance: ImbalancePlan
    accelerator: Accelerator
    listener: Listener
    checkpoints: Checkpoints | None = None
    stop: Callable[[], bool] = field(default=never)
    answers: FloatArray | None = None
    team: Team = field(default_factory=Team)


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves: the classifier holds the best epoch's weights.

    Attributes:
        history: one row an epoch, as in `EpochDone`.
        best_epoch: counted from 1 over all stages.
        diverged: why the run ended early, with the best epoch before that kept; None if not.
    """

    history: tuple[dict[str, Any], ...]
    best_epoch: int
    diverged: str | None = None
