"""`taxon push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import options

if TYPE_CHECKING:
    from taxon.api.pushing import Pushed


def command(
    run: options.RunArgument,
    repository: Annotated[
        str,
        typer.Argument(
            metavar="USER/NAME",
            help="Where on the Hugging Face Hub; made where there is none.",
            show_default=False,
        ),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; one that is public is refused.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH",
            help="Branch to push to; made where there is none.",
            show_default="the default one",
        ),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option(help="Of the commit.", show_default="the model's name and fingerprint"),
    ] = None,
    artefacts: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT[,FORMAT...]",
            help="Artefacts of RUN to push, or none.",
            show_default="onnx, where there is one",
        ),
    ] = None,
    with_pictures: Annotated[
        bool,
        typer.Option(
            "--with-pictures",
            help="Push the golden pictures, which are of your data. Without this, generated ones "
            "stand in for them.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be pushed, and ask nobody.")
    ] = False,
) -> None:
    """Push a model to the Hugging Face Hub: everybody who may read it can use it as hf:USER/NAME.

    Neither your pictures nor the manifest with their names go there. Log in with `hf auth login`,
    or set HF_TOKEN.
    """
    from taxon.api import push

    chosen = None if artefacts is None else _names(artefacts)
    pushed = push(
        run,
        repository,
        private=private,
        revision=revision,
        message=message,
        artefacts=chosen,
        with_pictures=with_pictures,
        dry_run=dry_run,
        before=lambda planned: _show(planned, dry_run=dry_run),
    )
    if pushed.url is not None:
        at = "" if revision is None else f"@{revision}"
        typer.echo(f"pushed: {pushed.url}")
        typer.echo(f"  use it: taxon predict hf:{pushed.repository}{at} PICTURE...")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [] if names == ["none"] else names


def _show(planned: Pushed, *, dry_run: bool) -> None:
    """Print the files, with their sizes, and what must be known of them."""
    verb = "would be pushed" if dry_run else "pushing"
    total = sum(planned.files.values())
    typer.echo(f"{verb} to {planned.repository}: {len(planned.files)} files, {_size(total)}")
    width = max(len(name) for name in planned.files)
    for name, size in planned.files.items():
        typer.echo(f"  {name:<{width}}  {_size(size):>9}")
    for note in planned.notes:
        typer.echo(f"note: {note}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
