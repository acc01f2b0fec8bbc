"""`taxon serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from taxon.cli import options


def command(
    run: options.ModelArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures computed together at most.")
    ] = 16,
    max_delay_ms: Annotated[
        float, typer.Option(min=0, help="How long the first of a batch waits for more.")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Pictures waiting at most; beyond it, 503.")
    ] = 256,
) -> None:
    """Answer over HTTP: a page at /, POST /v1/classify, and the Open Inference Protocol V2.

    Runs the ONNX artefact, checked on its golden pictures first; needs no torch.
    """
    from taxon.api import serve
    from taxon.serving.settings import ServingSettings

    settings = ServingSettings(
        max_batch_size=max_batch_size, max_delay_ms=max_delay_ms, max_queue=max_queue
    )

    def ready(url: str) -> None:
        typer.echo(f"serving {run} at {url} (Ctrl-C stops)")
        typer.echo(f"  try: curl -F files=@picture.jpg {url}/v1/classify")

    serve(run, host=host, port=port, settings=settings, on_ready=ready)
