"""Training: stages, losses, schedules and the loop."""

from taxon.training.events import (
    Continued,
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
    "Continued",
    "EpochDone",
    "Event",
    "Listener",
    "Loading",
    "Note",
    "StageStarted",
    "StepDone",
    "silent",
]
