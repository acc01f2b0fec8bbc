"""`taxon deploy ray` and `taxon deploy kserve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options

app = typer.Typer()
REPLICAS = "Replicas"
LIMITS = "Limits"

Out = Annotated[
    Path | None,
    typer.Option(help="File to write.", show_default="standard output", readable=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]


@app.callback()
def _root() -> None:
    """Write the file by which a cluster serves a model: Ray Serve, or KServe."""


@app.command("ray")
def ray(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A model folder, an artefact, a pointer to one, or a folder with several, as "
            "`taxon serve` takes them; under this path on every node.",
            show_default=False,
        ),
    ],
    out: Out = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the application and the model.", show_default="the model's own"),
    ] = None,
    min_replicas: Annotated[
        int, typer.Option(help="At least so many.", rich_help_panel=REPLICAS)
    ] = 1,
    max_replicas: Annotated[
        int, typer.Option(help="At most so many.", rich_help_panel=REPLICAS)
    ] = 4,
    cpus: Annotated[
        int,
        typer.Option(
            help="Cores of a replica, which computes with as many threads.",
            rich_help_panel=REPLICAS,
        ),
    ] = 2,
    gpus: Annotated[
        float,
        typer.Option(
            help="GPUs of a replica, say 0.5 where two share one; for --backend torch --device "
            "cuda.",
            rich_help_panel=REPLICAS,
        ),
    ] = 0.0,
    target_requests: Annotated[
        float | None,
        typer.Option(
            help="Requests under way in each replica, above which there are more of them.",
            rich_help_panel=REPLICAS,
            show_default="4 a core",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address that the proxies listen on; 0.0.0.0 for every one of a node."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the proxies.")] = 8000,
    route_prefix: Annotated[
        str, typer.Option(help="Of all paths, where one Ray Serve has several applications.")
    ] = "/",
    backend: Annotated[str, typer.Option(help="As of `taxon serve`.")] = "auto",
    device: Annotated[str, typer.Option(help="For torch: cpu or cuda.")] = "cpu",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with keys, one a line, under this path on every node.", show_default=False
        ),
    ] = None,
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            help="Pictures computed together at most.", rich_help_panel=LIMITS, show_default="16"
        ),
    ] = None,
    max_queue: Annotated[
        int | None,
        typer.Option(
            help="Pictures of a replica that are not yet answered at most; beyond it, 503.",
            rich_help_panel=LIMITS,
            show_default="256",
        ),
    ] = None,
    max_wait_ms: Annotated[
        float | None,
        typer.Option(
            help="A request that would wait longer gets 503 at once.",
            rich_help_panel=LIMITS,
            show_default="1000",
        ),
    ] = None,
    timeout_ms: Annotated[
        float | None,
        typer.Option(
            help="What was not begun by then gets 504.",
            rich_help_panel=LIMITS,
            show_default="30000",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the config of Ray Serve (`serve run FILE`, `serve deploy FILE`).

    Each replica is what `taxon serve` is: the same routes, golden pictures checked at its start,
    batches, limits and refusals. Ray shares requests out, and adds replicas under load.
    """
    from taxon.api.deploying import deploy_ray
    from taxon.scale.serve_config import Address, Replicas

    limits = {
        "max_batch_size": max_batch_size,
        "max_queue": max_queue,
        "max_wait_ms": max_wait_ms,
        "timeout_ms": timeout_ms,
    }
    text = deploy_ray(
        run,
        out=out,
        name=name,
        replicas=Replicas(min_replicas, max_replicas, cpus, gpus, target_requests),
        address=Address(host, port, route_prefix),
        backend=backend,
        device=device,
        api_key_file=api_key_file,
        settings={key: value for key, value in limits.items() if value is not None},
        overwrite=overwrite,
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    prefix = "" if route_prefix == "/" else route_prefix
    needs = f"taxon-vision[ray] and {run.absolute()}"
    if api_key_file is not None:
        needs += f" and {api_key_file.absolute()}"
    typer.echo(
        f"wrote {out}; each node needs {needs}\n\nNext:\n"
        f"  serve run {out}      (this machine alone; Ctrl-C stops)\n"
        f"  serve deploy {out}   (a cluster that runs; type it on its head node)\n"
        f"  curl -F files=@picture.jpg http://{host}:{port}{prefix}/v1/classify"
    )


@app.command("kserve")
def kserve(
    run: options.ModelArgument,
    storage_uri: Annotated[
        str,
        typer.Option(
            metavar="URI",
            help="Where the cluster finds the model folder: pvc://CLAIM/PATH, s3://, gs://, hf://.",
            show_default=False,
        ),
    ],
    out: Out = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the InferenceService and the model.", show_default="the model's own"),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="The server's image (deploy/Dockerfile), with its registry.",
            show_default="registry.example.org/taxon-serve:VERSION",
        ),
    ] = None,
    cpus: Annotated[
        str, typer.Option(help="Of a pod: asked for, and its limit.", rich_help_panel=REPLICAS)
    ] = "2",
    memory: Annotated[
        str, typer.Option(help="Of a pod: asked for, and its limit.", rich_help_panel=REPLICAS)
    ] = "1536Mi",
    min_replicas: Annotated[
        int, typer.Option(help="At least so many pods.", rich_help_panel=REPLICAS)
    ] = 2,
    max_replicas: Annotated[
        int, typer.Option(help="At most so many.", rich_help_panel=REPLICAS)
    ] = 10,
    target_cpu: Annotated[
        int,
        typer.Option(
            help="Per cent of the processor in use, above which there are more pods.",
            rich_help_panel=REPLICAS,
        ),
    ] = 70,
    overwrite: Overwrite = False,
) -> None:
    """Write the manifests of KServe (`kubectl apply --filename FILE`): runtime and model.

    Plain Kubernetes: the files in deploy/kubernetes, docs/guides/deploy.md.
    """
    from taxon.api.deploying import deploy_kserve, own_name
    from taxon.scale.kserve import Inference

    model = Inference(
        name or own_name(run),
        storage_uri,
        image or "",
        cpus,
        memory,
        min_replicas,
        max_replicas,
        target_cpu,
    )
    text = deploy_kserve(run, model, out=out, overwrite=overwrite)
    if out is None:
        typer.echo(text, nl=False)
        return
    typer.echo(
        f"wrote {out}; copy {run} to {storage_uri}\n\nNext:\n"
        f"  kubectl apply --filename {out}\n  kubectl get inferenceservice {model.name}"
    )
