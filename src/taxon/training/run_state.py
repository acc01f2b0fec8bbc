"""The state of a run, between its steps and its checkpoints."""

from __future__ import annotations

from typing import Any

import torch

from taxon.training.checkpoint import Progress, State
from taxon.training.job import TrainingJob
from taxon.training.optimiser import MovingAverage, load_optimiser_state, optimiser_state


def save(
    job: TrainingJob, progress: Progress, optimiser: Any, average: MovingAverage | None
) -> None:
    """Write a checkpoint, where any are kept: all processes have the same state.

    Raises:
        OutputError: it cannot be written; the one before is intact.
    """
    if job.checkpoints is None:
        return
    state = {f"model.{name}": v for name, v in job.classifier.state_dict().items()}
    state |= {f"optimiser.{name}": v for name, v in optimiser_state(optimiser).items()}
    if average is not None:
        state |= {f"average.{name}": v for name, v in average.state().items()}
    state["random.cpu"] = torch.get_rng_state()
    if job.accelerator.device.type == "cuda":
        state["random.cuda"] = torch.cuda.get_rng_state()
    job.checkpoints.save(progress, state)


def load(job: TrainingJob) -> tuple[Progress, State, State] | None:
    """Put the last checkpoint's weights back; return progress, state and the best weights.

    None where there is no checkpoint. Of several processes the first one reads it for all.
    """
    kept = job.team.from_first(lambda: job.checkpoints.load() if job.checkpoints else None)
    if kept is not None:
        job.classifier.load_state_dict(_below(kept[1], "model."))
    return kept


def put_back(
    resumed: State, optimiser: torch.optim.Optimizer, average: MovingAverage | None
) -> None:
    """Give the optimiser and the average the state that they had, and chance where it was."""
    load_optimiser_state(optimiser, _below(resumed, "optimiser."))
    if average is not None:
        average.load(_below(resumed, "average."))
    torch.set_rng_state(resumed["random.cpu"])
    if "random.cuda" in resumed:
        torch.cuda.set_rng_state(resumed["random.cuda"])


def _below(state: State, prefix: str) -> State:
    """The entries whose names start with a prefix, without it."""
    cut = len(prefix)
    return {name[cut:]: value for name, value in state.items() if name.startswith(prefix)}
