"""How fast the backbones of the zoo answer here, and which of them keep a latency budget."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.benchmarking.latency import (
    BUSY,
    Device,
    Latency,
    Measure,
    Row,
    best_within,
    by_accuracy,
    latency_of,
    read_latency,
    relevant_versions,
    this_machine,
)
from taxon.config import TrainConfig
from taxon.core.errors import ConfigError, Interrupted, OutputError, reason_of
from taxon.core.text import counted
from taxon.models.stack import require_torch_stack
from taxon.models.zoo import ZOO, find
from taxon.training.events import Listener, Note

if TYPE_CHECKING:
    from taxon.inference import Backend

SECONDS = 2.0
_EACH = "seconds to a minute each"


def measure_backbone(name: str, size: int | None, device: Device) -> Latency:
    """Build a backbone with random weights, as `train` would with its own features, and time it.

    On the CPU as ONNX (float32) in ONNX Runtime on all cores, on a GPU in PyTorch (half precision,
    channels last); one picture a call.

    Raises:
        ConfigError: no library has it, or the device is not there.
        MissingDependencyError: its library is not installed.
    """
    require_torch_stack()
    # Imported here: the listing of the zoo needs none of it.
    import numpy as np

    from taxon.benchmarking.pictures import noise
    from taxon.benchmarking.random_model import write_random_model
    from taxon.inference.timing import take_turns

    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        bundle = write_random_model(name, Path(temporary), size=size)
        backend: Backend
        if device == "cpu":
            from taxon.exporters.onnx import write_onnx
            from taxon.inference.onnx_runtime import OnnxRuntimeBackend

            backend = OnnxRuntimeBackend(write_onnx(bundle, Path(temporary)))
        else:
            from taxon.inference.pytorch import PyTorchBackend

            backend = PyTorchBackend(bundle, device=device, half=True)
        picture = noise(1, bundle.spec.preprocessing)
        start, computed = time.perf_counter(), time.thread_time()
        times = take_turns({name: partial(backend.run, picture)}, seconds=SECONDS)[name]
        # A thread that computes has the processor all the time, unless others take it.
        share = (time.thread_time() - computed) / (time.perf_counter() - start)
    return Latency(
        backbone=bundle.spec.backbone,
        size=bundle.spec.preprocessing.height,
        device=device,
        p50_ms=round(float(np.median(times)), 3),
        p95_ms=round(float(np.percentile(times, 95)), 3),
        calls=len(times),
        busy=round(min(1.0, max(0.0, 1.0 - share)), 3) if device == "cpu" else 0.0,
        machine=this_machine(device),
        versions=relevant_versions(name, device),
    )


def known_rows(names: Sequence[str], device: Device) -> list[Row]:
    """What the cache holds of these backbones; nothing is measured."""
    return [Row(name, find(name), read_latency(name, None, device)) for name in names]


def measured_rows(
    names: Sequence[str],
    device: Device,
    tell: Callable[[str], None],
    measure: Measure = measure_backbone,
) -> list[Row]:
    """Return the latency of each backbone, from the cache or measured now, one after the other.

    What is measured is kept at once, so that one that is interrupted goes on where it was.

    Args:
        names: of `taxon models`, or timm's; none: the whole zoo.
        tell: is told what is measured, and what came out.

    Raises:
        ConfigError: no library has one of the names, or the device is not there.
    """
    require_device(device)
    names = list(dict.fromkeys(names)) or [entry.name for entry in ZOO]
    require_known(names)
    missing = [name for name in names if read_latency(name, None, device) is None]
    if missing:
        tell(f"measuring {counted(len(missing), 'backbone', 'backbones')}, {_EACH}")
    return [_row(name, None, device, tell, measure) for name in names]


def require_device(device: Device) -> None:
    """Check that a device can be measured here.

    Raises:
        ConfigError: it cannot.
    """
    if device != "cpu":
        require_torch_stack()
        from taxon.training.device import choose_device

        choose_device(device)


def require_known(names: Sequence[str]) -> None:
    """Refuse a name that no library has before minutes are spent on others.

    Raises:
        ConfigError: there is one.
    """
    others = [name for name in names if find(name) is None]
    if others:
        require_torch_stack()
        from taxon.models.backbones import create_backbone

        for name in others:
            create_backbone(name)


def with_budget(
    settings: TrainConfig,
    budget_ms: float | None,
    listener: Listener,
    measure: Measure = measure_backbone,
) -> tuple[TrainConfig, str]:
    """Choose the backbone of a training by a latency budget on this machine's CPU.

    The most accurate ones (published top-1) are looked at first; what the cache does not have is
    measured, until one keeps the budget.

    Args:
        budget_ms: milliseconds a picture with ONNX Runtime, as `serve` runs it; None: no budget.

    Returns:
        The configuration with the backbone, and the reason for it in words, empty without a budget.

    Raises:
        ConfigError: the configuration names a backbone, or weights of one.
        CheckFailed: no backbone keeps the budget.
    """
    if budget_ms is None:
        return settings, ""
    _require_free_choice(settings, budget_ms)
    size = settings.preprocessing.size if isinstance(settings.preprocessing.size, int) else None

    def tell(text: str) -> None:
        listener(Note(f"budget: {text}"))

    rows: list[Row] = []
    warned = False
    for entry in by_accuracy(ZOO):
        if not warned and read_latency(entry.name, size, "cpu") is None:
            tell(f"measuring backbones here, the most accurate first, until one fits; {_EACH}")
            warned = True
        rows.append(_row(entry.name, size, "cpu", tell, measure))
        latency = rows[-1].latency
        if latency is not None and latency.p50_ms <= budget_ms:
            break
    best = best_within(budget_ms, rows)
    assert best.latency is not None
    # A larger input, which `auto` may choose, would be slower than what was measured.
    pictures = settings.preprocessing.model_copy(update={"size": size})
    reason = (
        f"the best published top-1 within {budget_ms:g} ms: {best.latency.p50_ms:.1f} ms here, one "
        f"picture of {best.latency.size} px, ONNX Runtime"
    )
    return settings.model_copy(update={"model": best.name, "preprocessing": pictures}), reason


def _require_free_choice(settings: TrainConfig, budget_ms: float) -> None:
    if not budget_ms > 0:
        raise ConfigError(f"--budget-ms is more than 0 milliseconds, not {budget_ms:g}")
    if settings.model is not None:
        raise ConfigError(
            f"--budget-ms chooses the backbone, and '{settings.model}' is named already; leave out "
            "--budget-ms or --model (`taxon models --measure` says how fast it is)"
        )
    if settings.weights not in ("hub", "none"):
        raise ConfigError(
            f"the weights in {settings.weights} belong to one backbone, so --budget-ms has nothing "
            "to choose; name it with --model in place of --budget-ms"
        )


def _row(
    name: str, size: int | None, device: Device, tell: Callable[[str], None], measure: Measure
) -> Row:
    """One backbone, from the cache or measured now."""
    start, known = time.perf_counter(), read_latency(name, size, device)
    try:
        latency = known or latency_of(name, size, device, measure)
    except (ConfigError, OutputError, Interrupted):
        raise
    except Exception as error:  # libraries and converters raise what they like
        reason = reason_of(error)
        tell(f"{name} is not measured: {reason}")
        return Row(name, find(name), None, reason)
    if known is None:
        took = time.perf_counter() - start
        busy = f"; other programs had the processor for {latency.busy:.0%} of it"
        words = busy if latency.busy > BUSY else ""
        tell(f"{name}: {latency.p50_ms:.1f} ms (measured in {took:.0f} s{words})")
    return Row(name, find(name), latency)
