"""Choose the device, and set Accelerate up for it."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from taxon.config import TrainConfig
from taxon.core.cores import share_of_cores
from taxon.core.errors import ConfigError
from taxon.core.processes import local_process_count, process_count


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


def build_accelerator(device: str, config: TrainConfig) -> Accelerator:
    """Set up Accelerate for a device, with the precision and the repeatability that are wanted.

    Of several processes, each has a GPU of its own; `together` has connected them already.

    Raises:
        ConfigError: the device does not compute in the wanted precision, or cannot be shared.
    """
    _require_devices(device)
    # Accelerate keeps its state in the process; a second training may want another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    if config.deterministic:
        # Read by the library of matrix products when a process first uses it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    return Accelerator(cpu=device == "cpu", mixed_precision=_precision(device, config.precision))


def _require_devices(device: str) -> None:
    """Refuse more processes than there are GPUs, and several where torch cannot connect them."""
    count, there = local_process_count(), torch.cuda.device_count()
    if process_count() == 1 or device == "cpu" or (device == "cuda" and count <= there):
        return
    if device == "cuda":
        raise ConfigError(
            f"{count} processes on this machine, and {there} GPUs; start as many as there are GPUs "
            "(torchrun --nproc-per-node N), or add --device cpu"
        )
    raise ConfigError(
        f"several processes cannot train on '{device}'; start one, or add --device cpu"
    )


def _precision(device: str, wanted: str) -> str:
    """Accelerate's word for the precision."""
    if wanted == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "no"
    if wanted == "fp16" and device != "cuda":
        raise ConfigError(
            f"precision=fp16 needs a CUDA device, and this is '{device}'; allowed here: auto, "
            "float32, bf16"
        )
    if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("this GPU does not compute in bf16; allowed: auto, float32, fp16")
    return "no" if wanted == "float32" else wanted


def loading_processes(device: torch.device) -> int:
    """A GPU must not wait for pictures; on a CPU the loader's threads share the cores."""
    return min(8, share_of_cores() // 2) if device.type == "cuda" else 0
