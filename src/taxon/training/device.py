"""Choose the device, and set Accelerate up for it."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from taxon.core.cores import available_cores
from taxon.core.errors import ConfigError


def choose_device(requested: str) -> str:
    """Return `cuda`, `mps` or `cpu`; `auto` takes the fastest one there is.

    Raises:
        ConfigError: the requested device is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if requested == "auto":
        return next(name for name, available in there.items() if available)
    if not there.get(requested, False):
        available = ", ".join(name for name, is_there in there.items() if is_there)
        raise ConfigError(
            f"the device '{requested}' is not there; here: {available}. "
            "`taxon doctor` says what torch sees"
        )
    return requested


def build_accelerator(device: str) -> Accelerator:
    """Set up Accelerate: bf16 where a GPU computes it fast, float32 elsewhere."""
    # Accelerate keeps its state in the process; a second training may want another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    use_bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if use_bf16 else "no")


def loading_processes(device: torch.device) -> int:
    """A GPU must not wait for pictures; on a CPU the loader's threads share the cores."""
    return min(8, available_cores() // 2) if device.type == "cuda" else 0
