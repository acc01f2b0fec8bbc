"""What training tells while it runs; the command line and notebooks show it as they like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """A decision or a finding, as one plain sentence."""

    text: str


@dataclass(frozen=True)
class Continued(Note):
    """A run goes on from a checkpoint.

    Attributes:
        steps: that were finished, of the whole run.
        best: the history's row of the best epoch so far; None before the first epoch.
    """

    steps: int
    best: dict[str, Any] | None


@dataclass(frozen=True)
class Loading:
    """Pictures that were looked into so far."""

    done: int
    total: int


@dataclass(frozen=True)
class StageStarted:
    """A stage begins.

    Attributes:
        position, count: 1-based position among `count` stages.
        epochs, steps: epochs in this stage, and steps in each.
        trainable, total: parameters.
    """

    name: str
    position: int
    count: int
    epochs: int
    steps: int
    trainable: int
    total: int


@dataclass(frozen=True)
class StepDone:
    """A step of an epoch is done.

    Attributes:
        epoch, step: counted from 1 within the stage and the epoch.
        learning_rate: that the step was made with.
    """

    epoch: int
    step: int
    loss: float
    seconds_left: float
    learning_rate: float | None = None


@dataclass(frozen=True)
class EpochDone:
    """An epoch is done.

    Attributes:
        row: the row of the history: stage, epoch (over all stages), train_loss,
            validation_loss, macro_f1 and top1 or mAP (None without validation),
            learning_rate, seconds.
        best: this epoch is the best so far.
    """

    row: dict[str, Any]
    best: bool
    seconds_left: float


Event = Note | Loading | StageStarted | StepDone | EpochDone
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that shows nothing."""
