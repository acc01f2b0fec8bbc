"""`taxon train`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with one sub-folder a class (nested folders: a taxonomy; train/, val/ "
            "and test/ on top are used), a table with the columns path and label (CSV, TSV, "
            "Parquet, JSONL), an archive, COCO JSON, a Hugging Face data set, or a manifest.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to write.", show_default="runs/DATA-DATE", readable=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Backbone: a name of `taxon models` or any timm name.",
            show_default="chosen for the device",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights: hub (downloads timm's), none (random), or a safetensors "
            "file in timm's names.",
            show_default="hub",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="staged (head, last 2 blocks, all) or scratch.",
            show_default="staged; scratch with --weights none",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs over all stages together.", show_default="the recipe's"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures a step.", show_default="the recipe's, 32")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Same seed, same machine: same model.", show_default="0"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="auto")
    ] = None,
    imbalance: Annotated[
        str | None,
        typer.Option(
            help="What to do about rare classes: auto, none, weighted-sampler, focal, "
            "class-weights, oversample, balanced-softmax or logit-adjust; focal may be joined "
            "with one that samples or weighs, say focal,class-weights.",
            show_default="auto",
        ),
    ] = None,
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Share that picks the best epoch, where the data bring none; 0 keeps the last.",
            show_default="0.15",
        ),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Share for `taxon evaluate`; 0 when the test lives elsewhere.",
            show_default="0.15",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Watch the run in tensorboard or mlflow; may be given for both. Files go to "
            "tracking/ beside the model folder, MLflow's to MLFLOW_TRACKING_URI where it is set.",
            show_default=False,
        ),
    ] = None,
    show_batch: Annotated[
        Path | None,
        typer.Option(
            metavar="SHEET.png",
            help="Train nothing: write one picture of the first batches, as the model would see "
            "them.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing model folder, or an earlier sheet."),
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with configuration keys.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any configuration key, say augment.horizontal_flip=0; may be given often.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")] = False,
    json_log: Annotated[
        bool, typer.Option("--json-log", help="Log as JSON, one object a line.")
    ] = False,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
) -> None:
    """Train a classifier on a folder or a table of pictures.

    The result is a model folder with the weights, the one preprocessing, the split, and a
    verified ONNX artefact. Next: `taxon evaluate RUN`, `taxon serve RUN`.
    """
    from taxon.api import show_batch as write_sheet
    from taxon.api import train
    from taxon.cli.progress import training_display
    from taxon.core.errors import ConfigError

    if quiet and json_log:
        raise ConfigError("--quiet and --json-log exclude each other; choose one")

    shares = {"split.validation": validation_share, "split.test": test_share}
    overrides = [f"{key}={value}" for key, value in shares.items() if value is not None]
    columns = options.columns(
        path_column,
        label_column,
        tag_columns,
        split_column,
        group_column,
        weight_column,
        image_root,
    )
    if show_batch is not None:
        with training_display(quiet=quiet, json_log=json_log) as listener:
            write_sheet(
                data,
                show_batch,
                model=model,
                weights=weights,
                recipe=recipe,
                batch_size=batch_size,
                seed=seed,
                device=device,
                imbalance=imbalance,
                config=config,
                overrides=[*(set_ or []), *overrides],
                columns=columns,
                overwrite=overwrite,
                listener=listener,
            )
        if not json_log:
            typer.echo(show_batch)
        return
    with training_display(quiet=quiet, json_log=json_log) as listener:
        result = train(
            data,
            out=out,
            model=model,
            weights=weights,
            recipe=recipe,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            device=device,
            imbalance=imbalance,
            trackers=track or (),
            config=config,
            overrides=[*(set_ or []), *overrides],
            columns=columns,
            overwrite=overwrite,
            listener=listener,
            command=shlex.join(["taxon", *sys.argv[1:]]),
        )
    if quiet:
        typer.echo(result.path)
    elif not json_log:
        typer.echo(
            f"\nNext:\n  taxon evaluate {result.path}{_what(result.path)}\n"
            f"  taxon audit {result.path}   (labels that the model doubts)\n"
            f"  taxon predict {result.path} PICTURE...\n  taxon serve {result.path}"
        )


def _what(run: Path) -> str:
    """What `evaluate` needs to be told where the run has no test part."""
    from taxon.bundle.layout import MANIFEST_FILE
    from taxon.data import read_manifest

    return "" if len(read_manifest(run / MANIFEST_FILE).part("test")) else " TEST_DATA"
