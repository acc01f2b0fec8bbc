"""`taxon export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion, options
from taxon.core.errors import ConfigError

if TYPE_CHECKING:
    from taxon.bundle import ArtefactInfo

# Those of taxon.exporters.formats, whose import would make every command start later.
FORMATS = (
    "onnx, onnx-fp16, onnx-int8, onnx-features, torch-export, executorch, openvino, "
    "openvino-fp16, openvino-int8, coreml, coreml-fp16, tflite, tflite-fp16, tflite-int8, "
    "torchserve, triton"
)


def command(
    run: options.RunArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT[,FORMAT...]",
            help=f"Formats, separated by commas: {FORMATS}.",
            show_default=False,
            autocompletion=completion.several_of(FORMATS),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder that gets a sub-folder a format.",
            show_default="RUN/artefacts",
            readable=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pictures to compare on, in place of the run's own.",
            show_default="the run's own, held out",
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            metavar="<0-1>",
            help="What macro-F1 may lose by fewer bits; layers stay in float until it holds.",
        ),
    ] = 0.01,
    frame: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Put the resize into the graph: whole pictures of this size go in (a camera's "
            "frames, say 640x480). For ONNX and TFLite.",
            show_default=False,
        ),
    ] = None,
    max_batch_size: Annotated[
        int, typer.Option(help="Of torchserve and triton: pictures a batch, at most.")
    ] = 16,
    max_delay_ms: Annotated[
        int, typer.Option(help="Of torchserve and triton: how long a batch waits to be filled.")
    ] = 5,
    instances: Annotated[
        int, typer.Option(min=1, help="Of torchserve and triton: copies of the model that answer.")
    ] = 1,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
) -> None:
    """Export a model, and prove that each artefact gives the same answers.

    They are compared on pictures that the run was not trained on, and timed. One that does not
    agree is moved to rejected/, and the command ends with 3.
    """
    from taxon.api import export
    from taxon.cli.artefact_table import show_artefacts

    table = options.columns(
        path_column,
        label_column,
        tag_columns,
        split_column,
        group_column,
        weight_column,
        image_root,
        parents,
    )
    written: list[ArtefactInfo] = []
    try:
        export(
            run,
            [name.strip() for name in to.split(",") if name.strip()],
            out=out,
            data=data,
            columns=table,
            max_drop=max_drop,
            frame=None if frame is None else _frame(frame),
            max_batch_size=max_batch_size,
            max_delay_ms=max_delay_ms,
            instances=instances,
            tell=lambda text: typer.echo(text, err=True),
            each=written.append,
        )
    finally:
        show_artefacts(run, written, out)


def _frame(text: str) -> tuple[int, int]:
    width, separator, height = text.lower().partition("x")
    if not separator or not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--frame is WIDTHxHEIGHT in pixels, say 640x480, not '{text}'")
    return int(width), int(height)
