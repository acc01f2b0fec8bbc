"""`taxon models`."""

from __future__ import annotations

import typer


def command() -> None:
    """List the recommended backbones with their published figures. Any timm name works too."""
    from taxon.models.zoo import DEFAULT_FROM_SCRATCH, DEFAULT_ON_CPU, DEFAULT_ON_GPU, ZOO

    headings = ("name", "resolves to the timm weights", "top-1 %", "params M", "GMACs", "px")
    widths = [max(len(entry.name) for entry in ZOO), max(len(entry.weights) for entry in ZOO)]
    pattern = f"{{:<{widths[0]}}}  {{:<{widths[1]}}}  {{:>7}}  {{:>8}}  {{:>5}}  {{:>3}}  {{}}"
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
                entry.licence,
            )
        )
    typer.echo(
        "\nTop-1 on ImageNet-1k, parameters, multiply-adds (billions) and input size as timm "
        "publishes them\nfor exactly these weights. Without --model, train takes "
        f"{DEFAULT_ON_CPU} on a CPU,\n{DEFAULT_ON_GPU} on a GPU, and {DEFAULT_FROM_SCRATCH} "
        "with --weights none."
    )
