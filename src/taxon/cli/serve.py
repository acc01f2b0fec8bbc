"""`taxon serve`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import completion

LIMITS = "Limits"
ACCESS = "Access and logs"


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Model folders, artefacts, pointers to one (a link, or a text file with its "
            "path), folders with several (NAME or NAME/VERSION in it), or "
            "hf:USER/NAME[@REVISION]. NAME=RUN gives another name.",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve the Open Inference Protocol over gRPC too, here; 0 takes a free port.",
            show_default="off",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="auto: the ONNX artefact in ONNX Runtime, or in OpenVINO where it is installed "
            "and faster here; torch; or an artefact of the model folder, such as onnx-int8."
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="For torch: cpu, cuda or mps.",
            autocompletion=completion.one_of("cpu", "cuda", "mps"),
        ),
    ] = "cpu",
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that compute, replaced when they die; 0: the server's."
        ),
    ] = 0,
    max_batch_size: Annotated[
        int,
        typer.Option(min=1, help="Pictures computed together at most; fewer where that is faster."),
    ] = 16,
    max_delay_ms: Annotated[
        float, typer.Option(min=0, help="How long the first of a batch waits for more.")
    ] = 2.0,
    max_queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures that are not yet answered at most; beyond it, 503.",
            rich_help_panel=LIMITS,
        ),
    ] = 256,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            min=1,
            help="A request that would wait longer gets 503 at once; while ever more are "
            "under way, one that would wait longer than three lone pictures take.",
            rich_help_panel=LIMITS,
        ),
    ] = 1000.0,
    timeout_ms: Annotated[
        float,
        typer.Option(
            min=1,
            help="What was not begun by then gets 504 and is not computed.",
            rich_help_panel=LIMITS,
        ),
    ] = 30_000.0,
    max_body_mb: Annotated[
        int,
        typer.Option(min=1, help="Megabytes of one request at most.", rich_help_panel=LIMITS),
    ] = 32,
    max_buffered_mb: Annotated[
        int,
        typer.Option(
            min=1,
            help="Megabytes of all requests held at once at most; beyond it, 503.",
            rich_help_panel=LIMITS,
        ),
    ] = 512,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, help="Pixels of one picture at most.", rich_help_panel=LIMITS),
    ] = 50_000_000,
    client_seconds: Annotated[
        float,
        typer.Option(
            min=1,
            help="How long a client may take for its headers, or dawdle over a body or an answer.",
            rich_help_panel=LIMITS,
        ),
    ] = 20.0,
    max_connections: Annotated[
        int,
        typer.Option(min=1, help="Open at once at most; beyond it, 503.", rich_help_panel=LIMITS),
    ] = 4096,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with keys, one a line; a request must bring one of them.",
            rich_help_panel=ACCESS,
            show_default=False,
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose pages may ask, such as https://example.org; may be repeated.",
            rich_help_panel=ACCESS,
            show_default="none",
        ),
    ] = None,
    reload_by_request: Annotated[
        bool,
        typer.Option(
            "--reload-by-request",
            help="Let V2 repository requests open and close models.",
            rich_help_panel=ACCESS,
        ),
    ] = False,
    log_format: Annotated[
        str,
        typer.Option(
            help="text or json.",
            rich_help_panel=ACCESS,
            autocompletion=completion.one_of("text", "json"),
        ),
    ] = "text",
    access_log: Annotated[
        bool,
        typer.Option("--access-log", help="Log a line for each request.", rich_help_panel=ACCESS),
    ] = False,
) -> None:
    """Answer over HTTP: a page at /, POST /v1/classify, and the Open Inference Protocol V2.

    Runs the ONNX artefact, checked on its golden pictures first; needs no torch. Looks for changed
    models on SIGHUP, and each second where a pointer leads.
    """
    from taxon.api import serve
    from taxon.serving.keys import read_api_keys
    from taxon.serving.logs import install_logs, log_format_of
    from taxon.serving.settings import MIB, ServingSettings

    install_logs(as_json=log_format_of(log_format) == "json", access=access_log)
    settings = ServingSettings(
        max_batch_size=max_batch_size,
        max_delay_ms=max_delay_ms,
        max_queue=max_queue,
        max_wait_ms=max_wait_ms,
        timeout_ms=timeout_ms,
        max_body_bytes=max_body_mb * MIB,
        max_buffered_bytes=max_buffered_mb * MIB,
        max_pixels=max_pixels,
        client_seconds=client_seconds,
        max_connections=max_connections,
        api_keys=() if api_key_file is None else read_api_keys(api_key_file),
        cors_origins=tuple(cors_origin or ()),
        reload_by_request=reload_by_request,
    )

    def ready(url: str) -> None:
        if log_format == "json":
            logging.getLogger("taxon.serving").info("ready", extra={"url": url})
            return
        if url.startswith("grpc://"):
            typer.echo(f"  gRPC (inference.GRPCInferenceService): {url.removeprefix('grpc://')}")
            return
        typer.echo(f"serving {' '.join(runs)} at {url} (Ctrl-C stops)")
        typer.echo(f"  try: curl -F files=@picture.jpg {url}/v1/classify")

    serve(
        runs,
        host=host,
        port=port,
        grpc_port=grpc_port,
        backend=backend,
        device=device,
        workers=workers,
        log_format=log_format,
        settings=settings,
        on_ready=ready,
    )
