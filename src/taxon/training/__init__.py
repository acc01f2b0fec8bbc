"""Training: stages, losses, schedules and the loop."""

from taxon.training.events import (
    EpochDone,
    Event,
    Listener,
    Loading,
    Note,
    StageStarted,
    StepDone,
    silent,
)

__all__ = [
    "EpochDone",
    "Event",
    "Listener",
    "Loading",
    "Note",
    "StageStarted",
    "StepDone",
    "silent",
]
