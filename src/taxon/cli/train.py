"""`taxon train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion, machines, options
from taxon.cli.next_steps import show_next_steps

if TYPE_CHECKING:
    from taxon.api.model import Model
    from taxon.scale.training import Job

_BESIDE_RESUME = (
    *("resume", "trust_pickle", "quiet", "json_log"),
    *("engine", "workers", "cpus_per_worker", "address", "retries"),
)


def command(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A folder with one sub-folder a class (nested folders: a taxonomy; train/, val/ "
            "and test/ on top are used), a table with the columns path and label (CSV, TSV, "
            "Parquet, JSONL), an archive, COCO JSON, a Hugging Face data set, or a manifest.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to write.", show_default="runs/DATA-DATE", readable=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Backbone: a name of `taxon models`, any timm name, or hf:USER/NAME[@REVISION]: "
            "that of a model of taxon or timm on the Hugging Face Hub.",
            show_default="chosen for the device",
            autocompletion=completion.backbones,
        ),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="In place of --model: the best published top-1 that answers within so many "
            "milliseconds on this machine's CPU (ONNX Runtime, one picture). What is not in the "
            "cache of `taxon models --measure` is measured first.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights: hub (downloads timm's), none (random), or a safetensors "
            "file in timm's names.",
            show_default="hub",
            autocompletion=completion.one_of("hub", "none"),
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Read weights of a YOLO from Ultralytics' .pt file: a pickle, which can run any "
            "code while it is read.",
        ),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="auto (chosen by probes on the training part), staged (head, last 2 blocks, all), "
            "probe (the head alone, in seconds), finetune (the head, then all) or scratch.",
            show_default="auto; scratch with --weights none, staged with --teacher",
            autocompletion=completion.recipes,
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
        str | None,
        typer.Option(
            help="auto, cpu, cuda or mps.",
            show_default="auto",
            autocompletion=completion.one_of("auto", "cpu", "cuda", "mps"),
        ),
    ] = None,
    imbalance: Annotated[
        str | None,
        typer.Option(
            help="What to do about rare classes: auto, none, weighted-sampler, focal, "
            "class-weights, oversample, balanced-softmax or logit-adjust; focal may be joined "
            "with one that samples or weighs, say focal,class-weights.",
            show_default="auto",
            autocompletion=completion.strategies,
        ),
    ] = None,
    teacher: options.Teacher = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="On a GPU too, the same result bit by bit; slower there."
        ),
    ] = False,
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
            autocompletion=completion.one_of("tensorboard", "mlflow"),
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
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with an interrupted run, as it was asked for; takes no DATA.",
            show_default=False,
        ),
    ] = None,
    show_config: Annotated[
        bool,
        typer.Option("--show-config", help="Print the configuration as YAML, and train nothing."),
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
    engine: machines.Engine = "local",
    workers: machines.Workers = None,
    cpus_per_worker: machines.CpusPerWorker = None,
    address: machines.Address = None,
    retries: machines.Retries = None,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
) -> None:
    """Train a classifier on a folder or a table of pictures.

    The result is a model folder with the weights, the one preprocessing, the split, and a
    verified ONNX artefact. Next: `taxon evaluate RUN`, `taxon serve RUN`.
    """
    from taxon.cli.progress import training_display
    from taxon.core.errors import ConfigError

    if quiet and json_log:
        raise ConfigError("--quiet and --json-log exclude each other; choose one")
    job = machines.ray_job(engine, workers, cpus_per_worker, address, retries, device)
    if resume is not None:
        _require_alone(context)
        go_on = _resumer(job)
        with training_display(quiet=quiet, json_log=json_log) as listener:
            run = go_on(resume, trust_pickle=trust_pickle, listener=listener).path
            show_next_steps(run, quiet=quiet, json_log=json_log)
        return
    shares = {"split.validation": validation_share, "split.test": test_share}
    overrides = [f"{key}={value}" for key, value in shares.items() if value is not None]
    overrides += ["deterministic=true"] if deterministic else []
    from taxon.api.settings import TrainingOptions, training_settings

    choices = TrainingOptions(
        model=model,
        weights=weights,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=device,
        imbalance=imbalance,
        teacher=teacher,
        trackers=track or [],
        config=config,
        overrides=[*(set_ or []), *overrides],
    )
    if show_config:
        if budget_ms is not None:
            raise ConfigError(
                "--budget-ms chooses when a training begins, and --show-config begins none; leave "
                "out one of them"
            )
        from taxon.config.load import show

        typer.echo(show(training_settings(**choices)), nl=False)
        return
    if data is None:
        raise ConfigError(
            "train what? Name a folder or a table (`taxon train DATA`), or an interrupted run "
            "(`taxon train --resume RUN`)"
        )
    columns = options.columns(
        path_column,
        label_column,
        tag_columns,
        split_column,
        group_column,
        weight_column,
        image_root,
        parents,
    )
    with training_display(quiet=quiet, json_log=json_log) as listener:
        if show_batch is not None:
            from taxon.api import show_batch as write_sheet

            write_sheet(
                data,
                show_batch,
                budget_ms=budget_ms,
                columns=columns,
                trust_pickle=trust_pickle,
                overwrite=overwrite,
                listener=listener,
                **choices,
            )
        else:
            out = _trainer(job)(
                data,
                out=out,
                budget_ms=budget_ms,
                columns=columns,
                trust_pickle=trust_pickle,
                overwrite=overwrite,
                listener=listener,
                command=shlex.join(["taxon", *sys.argv[1:]]),
                **choices,
            ).path
    if show_batch is None and out is not None:
        show_next_steps(out, quiet=quiet, json_log=json_log)
    elif not json_log:
        typer.echo(show_batch)


def _trainer(job: Job | None) -> Callable[..., Model]:
    """What trains: this process, or a job of Ray's."""
    if job is None:
        from taxon.api import train

        return train
    from taxon.api.ray_training import train_on_ray

    return partial(train_on_ray, job)


def _resumer(job: Job | None) -> Callable[..., Model]:
    """What goes on with a training."""
    if job is None:
        from taxon.api import resume

        return resume
    from taxon.api.ray_training import resume_on_ray

    return partial(resume_on_ray, job)


def _require_alone(context: typer.Context) -> None:
    """An interrupted run goes on as it was asked for: other options would be ignored."""
    from taxon.core.errors import ConfigError

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [
        name
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE" and name not in _BESIDE_RESUME
    ]
    if given:
        words = ", ".join("DATA" if name == "data" else f"--{name.strip('_')}" for name in given)
        raise ConfigError(
            f"--resume goes on with a run as it was asked for; leave out: {words.replace('_', '-')}"
        )
