"""`taxon models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion
from taxon.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxon.benchmarking.latency import Device, Row


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="Backbones; any timm name can be measured.",
            show_default="all of the list",
            autocompletion=completion.backbones,
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure latency on this machine, one picture a call; kept in the cache.",
        ),
    ] = False,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="Measure, and say which backbones answer within so many milliseconds and which of "
            "these is the most accurate; 3 is the exit code if none does.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Measure on the cpu (ONNX Runtime) or on cuda (PyTorch, half precision).",
            autocompletion=completion.one_of("cpu", "cuda"),
        ),
    ] = "cpu",
) -> None:
    """List the recommended backbones with their published figures. Any timm name works too."""
    from taxon.api.latency import known_rows, measured_rows, require_device
    from taxon.benchmarking.latency import DEVICES
    from taxon.models.zoo import ZOO, find

    if device not in DEVICES:
        raise ConfigError(f"--device is {' or '.join(DEVICES)}, not '{device}'")
    on: Device = "cuda" if device == "cuda" else "cpu"
    if measure or budget_ms is not None:
        if budget_ms is not None and not budget_ms > 0:
            raise ConfigError(f"--budget-ms is more than 0 milliseconds, not {budget_ms:g}")
        rows = measured_rows(names or [], on, lambda text: typer.echo(text, err=True))
        _show_measured(rows, budget_ms, on)
        return
    unknown = [name for name in names or [] if find(name) is None]
    if unknown:
        raise ConfigError(
            f"nothing is published of '{unknown[0]}' in this list; to measure it add --measure"
        )
    require_device(on)
    _show_published(known_rows(names or [entry.name for entry in ZOO], on))


def _show_published(rows: Sequence[Row]) -> None:
    """The listing, with what was measured here before."""
    from taxon.models.zoo import DEFAULT_FROM_SCRATCH, DEFAULT_ON_CPU, DEFAULT_ON_GPU

    entries = [row.entry for row in rows if row.entry is not None]
    headings = ("name", "weights", "top-1 %", "params M", "GMACs", "px", "CPU ms", "T4 ms", "here")
    widths = [max(len(entry.name) for entry in entries), max(len(each.weights) for each in entries)]
    numbers = "{:>7}  {:>8}  {:>5}  {:>3}  {:>6}  {:>5}  {:>6}"
    pattern = f"{{:<{widths[0]}}}  {{:<{widths[1]}}}  {numbers}  {{}}"
    typer.echo(pattern.format(*headings, "licence"))
    for row, entry in zip(rows, entries, strict=True):
        typer.echo(
            pattern.format(
                entry.name,
                entry.weights,
                f"{entry.top1:.2f}",
                f"{entry.parameters:.2f}",
                f"{entry.multiply_adds:.2f}",
                entry.input_size,
                _milliseconds(entry.cpu_ms),
                _milliseconds(entry.t4_ms),
                _milliseconds(None if row.latency is None else row.latency.p50_ms),
                entry.licence,
            )
        )
    typer.echo(
        "\nTop-1 on ImageNet-1k, parameters, multiply-adds (billions) and input size as timm "
        "publishes them\nfor exactly these weights. YOLO needs taxon-vision[yolo] and is under "
        "the AGPL-3.0: its top-1 and its\nmilliseconds a picture (ONNX Runtime on a CPU, TensorRT "
        "on a T4) are Ultralytics' figures, parameters\nand multiply-adds are counted here. "
        "`here` are milliseconds on this machine, once `taxon models\n--measure` has measured "
        f"them. Without --model, train takes {DEFAULT_ON_CPU} on a CPU,\n"
        f"{DEFAULT_ON_GPU} on a GPU, and {DEFAULT_FROM_SCRATCH} with --weights none; with "
        "--budget-ms the best that keeps it."
    )


def _show_measured(rows: Sequence[Row], budget_ms: float | None, device: Device) -> None:
    """What was measured, in the order of the list, and the choice within a budget.

    Raises:
        CheckFailed: none is within it.
    """
    from taxon.benchmarking.latency import (
        BUSY,
        CACHE,
        WHAT,
        best_within,
        may_be_chosen,
        published_accuracy,
    )
    from taxon.core.cache import cache_folder
    from taxon.core.machine import machine_sentence

    width = max(len(row.name) for row in rows)
    pattern = f"{{:<{width}}}  {{:>7}}  {{:>4}}  {{:>8}}  {{:>8}}  {{}}"
    last = "" if budget_ms is None else f"within {budget_ms:g} ms"
    typer.echo(pattern.format("name", "top-1 %", "px", "p50 ms", "p95 ms", last).rstrip())
    for row in rows:
        top1 = "-" if row.entry is None else f"{row.entry.top1:.2f}"
        if row.latency is None:
            typer.echo(pattern.format(row.name, top1, "-", "-", "-", f"not measured: {row.reason}"))
            continue
        found = row.latency
        fits = "yes" if budget_ms is not None and found.p50_ms <= budget_ms else ""
        if fits and not may_be_chosen(row):
            fits += ", to be named by hand" + (f" ({row.entry.licence})" if row.entry else "")
        words = (f"{found.size}", f"{found.p50_ms:.1f}", f"{found.p95_ms:.1f}", fits)
        typer.echo(pattern.format(row.name, top1, *words).rstrip())
    measured = [row.latency for row in rows if row.latency is not None]
    if measured:
        gpu = measured[0].machine.get("gpu")
        where = machine_sentence(measured[0].machine) + (f", {gpu}" if gpu else "")
        typer.echo(f"\nOne picture a call, {WHAT[device]}; random weights. {where}.")
    busy = [found.backbone for found in measured if found.busy > BUSY]
    if busy:
        typer.echo(
            f"Other programs were at work while {busy[0]} was measured{_and_more(busy)}: the "
            f"figures may be too high. To measure anew, delete {cache_folder(CACHE)}"
        )
    if budget_ms is not None:
        best = best_within(budget_ms, rows)
        accuracy = f"{published_accuracy(best):.2f} %"
        typer.echo(f"Best published top-1 within {budget_ms:g} ms: {best.name} ({accuracy}).")
        if device == "cpu":
            typer.echo(f"To train it: taxon train DATA --budget-ms {budget_ms:g}")


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} others" if len(names) > 1 else ""


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
