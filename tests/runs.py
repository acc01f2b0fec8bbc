"""Runs that are stopped, and runs that must be equal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from taxon.bundle import read_bundle
from taxon.training import Event, StepDone


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of backbone and head."""
    parts = [load_file(run / name) for name in ("model.safetensors", "head.safetensors")]
    return {
        f"{part}.{name}": value for part, all_ in enumerate(parts) for name, value in all_.items()
    }


def history(run: Path) -> list[dict[str, object]]:
    """Losses and scores of the epochs."""
    rows = read_bundle(run).info.provenance.history
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def require_same_weights(run: Path, reference: Path) -> None:
    """Tensor for tensor."""
    ours, expected = weights(run), weights(reference)
    assert ours.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(ours[name], expected[name])] == []


def require_same_run(run: Path, reference: Path) -> None:
    """The same weights, by the same epochs."""
    require_same_weights(run, reference)
    assert history(run) == history(reference)


class StopAt:
    """A listener that sends this process a signal at a step, as Ctrl-C or a scheduler would."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.left, self.number = step, number

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)
