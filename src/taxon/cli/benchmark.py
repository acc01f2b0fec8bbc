"""`taxon benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import completion
from taxon.core.errors import ConfigError

# That of taxon.api.benchmarking, whose import would make every command start later.
FORMATS = (
    "pytorch,torch.compile,onnx,onnx-fp16,onnx-int8,openvino,openvino-fp16,openvino-int8,tflite"
)


def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_MODEL...",
            help="Model folders, hf:USER/NAME[@REVISION], or backbones of `taxon models` (with "
            "random weights).",
            show_default=False,
            autocompletion=completion.backbones,
        ),
    ],
    formats: Annotated[
        str,
        typer.Option(
            metavar="FORMAT[,FORMAT...]",
            help="pytorch, torch.compile, and those of `taxon export` that run here. What is not "
            "exported yet is exported for this, into a temporary folder.",
            autocompletion=completion.several_of(FORMATS),
        ),
    ] = FORMATS,
    batch: Annotated[str, typer.Option(metavar="N[,N...]", help="Pictures a call.")] = "1,8,32",
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]", help="Threads that compute a call.", show_default="1 and all cores"
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(help="Of each format in each setting, about; three calls at least."),
    ] = 2.0,
    out: Annotated[
        Path,
        typer.Option(help="Folder for benchmark.json and benchmark.svg.", readable=False),
    ] = Path("benchmark"),
) -> None:
    """Measure latency, throughput and memory of models here, in several formats side by side.

    All take turns, so that a busy moment hits all of them. What cannot be measured has a line that
    says why; the others go on.
    """
    from taxon.api import benchmark
    from taxon.benchmarking.result import BENCHMARK_FILE, CHART_FILE
    from taxon.cli.benchmark_table import show_benchmark

    found = benchmark(
        models,
        [name.strip() for name in formats.split(",") if name.strip()],
        batches=_numbers("--batch", batch),
        threads=None if threads is None else _numbers("--threads", threads),
        seconds=seconds,
        out=out,
        tell=lambda text: typer.echo(text, err=True),
    )
    show_benchmark(found)
    typer.echo(f"Figures and plot: {out / BENCHMARK_FILE}, {out / CHART_FILE}")


def _numbers(option: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() for word in words):
        raise ConfigError(f"{option} takes whole numbers, say 1,8, not '{text}'")
    return [int(word) for word in words]
