"""Latencies of backbones on this machine: measured once, kept in the cache, chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from taxon.core.cache import cache_folder
from taxon.core.errors import CheckFailed
from taxon.core.files import write_text
from taxon.core.fingerprint import sha256_json
from taxon.core.machine import machine, machine_fingerprint
from taxon.core.versions import made_with
from taxon.models.zoo import ZooEntry, find, resolve

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")
# Beside the backbone's own library: who writes the network down, and who runs it.
_RUNTIMES: dict[Device, tuple[str, ...]] = {
    "cpu": ("torch", "onnxruntime"),
    "cuda": ("torch",),
}
CACHE = "latency"
# With more of it taken by others, a figure is worth a warning.
BUSY = 0.1
WHAT: dict[Device, str] = {
    "cpu": "ONNX Runtime, float32",
    "cuda": "PyTorch, half precision (autocast), channels last",
}


class Latency(BaseModel):
    """How fast one backbone answers here, one picture a call.

    Attributes:
        backbone: the library's name.
        size: side of the input in pixels.
        device: `cpu` (ONNX Runtime, float32, one thread a core) or `cuda` (PyTorch, autocast).
        p50_ms, p95_ms: milliseconds a call, median and 95th percentile.
        calls: how many were timed.
        busy: share of the time in which other programs had the processor, 0 to 1.
        machine, versions: where, and with what, it was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    size: int
    device: Device
    p50_ms: float
    p95_ms: float
    calls: int
    busy: float = 0.0
    machine: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Row:
    """One backbone, measured or not.

    Attributes:
        entry: what is published of it; None for one that the zoo does not have.
        latency: None where it was not measured.
        reason: why not.
    """

    name: str
    entry: ZooEntry | None
    latency: Latency | None
    reason: str = ""


# A backbone's name, the side of its input (None: its own) and a device -> its latency here.
Measure = Callable[[str, int | None, Device], Latency]


def read_latency(name: str, size: int | None, device: Device) -> Latency | None:
    """Return what was measured here before, with these versions of the libraries, if anything.

    A damaged file counts as none; the next measurement takes its place.
    """
    try:
        text = _file(name, size, device).read_text(encoding="utf-8")
        return Latency.model_validate_json(text)
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def keep_latency(name: str, size: int | None, latency: Latency) -> None:
    """Keep a measurement for the next time.

    Raises:
        OutputError: the cache cannot be written.
    """
    write_text(_file(name, size, latency.device), latency.model_dump_json(indent=2) + "\n")


def latency_of(name: str, size: int | None, device: Device, measure: Measure) -> Latency:
    """Return a latency from the cache, or measure it and keep it."""
    known = read_latency(name, size, device)
    if known is None:
        known = measure(name, size, device)
        keep_latency(name, size, known)
    return known


def relevant_versions(name: str, device: Device) -> dict[str, str]:
    """The versions by which a backbone's latency may change."""
    entry = find(name)
    return made_with("timm" if entry is None else entry.source, *_RUNTIMES[device])


def this_machine(device: Device) -> dict[str, str]:
    """Which machine it is, with its GPU where that computes."""
    return {**machine(), **({"gpu": _gpu()} if device == "cuda" else {})}


def best_within(budget_ms: float, rows: Iterable[Row]) -> Row:
    """Return the backbone of the best published top-1 whose median keeps a budget.

    Raises:
        CheckFailed: none keeps it.
    """
    able = [row for row in rows if may_be_chosen(row)]
    measured = sorted((row.latency.p50_ms, row.name) for row in able if row.latency is not None)
    fitting = [name for milliseconds, name in measured if milliseconds <= budget_ms]
    if not fitting:
        words = "nothing was measured"
        if measured:
            words = f"the fastest is {measured[0][1]} with {measured[0][0]:.1f} ms"
        raise CheckFailed(
            f"no backbone answers within {budget_ms:g} ms here ({words}); raise --budget-ms, or "
            "see with `taxon benchmark` whether another format is faster"
        )
    # Of equally accurate ones the first, which is the faster.
    return max(
        (row for name in fitting for row in able if row.name == name), key=published_accuracy
    )


def may_be_chosen(row: Row) -> bool:
    """Whether a budget may choose it: its accuracy is published, and its licence is permissive.

    YOLO's, AGPL-3.0, asks more of its users than they expect of a choice that they did not make.
    """
    return row.entry is not None and row.entry.source == "timm"


def published_accuracy(row: Row) -> float:
    """Top-1 on ImageNet, per cent; that of an unknown backbone is below all."""
    return row.entry.top1 if row.entry is not None else -1.0


def by_accuracy(entries: Sequence[ZooEntry]) -> list[ZooEntry]:
    """Those that a budget may choose, the most accurate first."""
    able = [entry for entry in entries if entry.source == "timm"]
    return sorted(able, key=lambda entry: -entry.top1)


def _file(name: str, size: int | None, device: Device) -> Path:
    key = {
        "machine": machine_fingerprint(),
        "versions": relevant_versions(name, device),
        "backbone": resolve(name),
        "size": size,
        "device": device,
        "gpu": _gpu() if device == "cuda" else None,
    }
    return cache_folder(CACHE) / f"{sha256_json(key)}.json"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()
