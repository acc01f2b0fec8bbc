"""`taxon models`."""

from __future__ import annotations

import typer


def command() -> None:
    """List the recommended backbones with their published figures. Any timm name works too."""
    from taxon.models.zoo import DEFAULT_FROM_SCRATCH, DEFAULT_ON_CPU, DEFAULT_ON_GPU, ZOO

    headings = ("name", "weights", "top-1 %", "params M", "GMACs", "px", "CPU ms", "T4 ms")
    widths = [max(len(entry.name) for entry in ZOO), max(len(entry.weights) for entry in ZOO)]
    numbers = "{:>7}  {:>8}  {:>5}  {:>3}  {:>6}  {:>5}"
    pattern = f"{{:<{widths[0]}}}  {{:<{widths[1]}}}  {numbers}  {{}}"
    typer.echo(pattern.format(*headings, "licence"))
    for entry in ZOO:
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
                entry.licence,
            )
        )
    typer.echo(
        "\nTop-1 on ImageNet-1k, parameters, multiply-adds (billions) and input size as timm "
        "publishes them\nfor exactly these weights. YOLO needs taxon-vision[yolo] and is under "
        "the AGPL-3.0: its top-1 and its\nmilliseconds a picture (ONNX Runtime on a CPU, TensorRT "
        "on a T4) are Ultralytics' figures, parameters\nand multiply-adds are counted here. "
        f"Without --model, train takes {DEFAULT_ON_CPU} on a CPU,\n"
        f"{DEFAULT_ON_GPU} on a GPU, and {DEFAULT_FROM_SCRATCH} with --weights none."
    )


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
