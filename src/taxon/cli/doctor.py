"""`taxon doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import typer

from taxon.core.errors import CheckFailed, MissingDependencyError


def command() -> None:
    """Say what is installed, what works here, and what to do about the rest."""
    from taxon.core.versions import versions

    for name, version in versions().items():
        typer.echo(f"{name:14} {version}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    typer.echo(f"{'machine':14} {platform.platform()}, {os.cpu_count()} cores, {free:.0f} GiB free")
    _exports()
    problems = [line for line in (_training(), _inference()) if line]
    if problems:
        raise CheckFailed("; ".join(problems))


def _exports() -> None:
    """Show which formats can be written here, and what the others need."""
    from taxon.exporters.formats import FORMATS, missing_packages

    ready = [each.name for each in FORMATS if not missing_packages(each)]
    typer.echo(f"{'exports':14} {', '.join(ready)}")
    extras = sorted({each.extra for each in FORMATS if each.extra and missing_packages(each)})
    if extras:
        line = f"pip install 'taxon-vision[{','.join(extras)}]'"
        typer.echo(f"{'':14} others after: {line}")


def _training() -> str | None:
    """Show whether training works; return the problem, if any."""
    from taxon.models.stack import require_torch_stack

    try:
        require_torch_stack()
    except MissingDependencyError as error:
        typer.echo(f"{'training':14} NO: {error}")
        return "training does not work here"
    import torch

    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    elif torch.backends.mps.is_available():
        device = "mps"
    else:
        device = "cpu (no GPU that torch sees)"
    typer.echo(f"{'training':14} yes, on {device}")
    return None


def _inference() -> str | None:
    """Show whether ONNX Runtime works; return the problem, if any."""
    try:
        import onnxruntime
    except ImportError as error:
        typer.echo(f"{'serving':14} NO: {error}; type: pip install onnxruntime")
        return "serving does not work here"
    providers = ", ".join(onnxruntime.get_available_providers())
    typer.echo(f"{'serving':14} yes, ONNX Runtime with {providers}")
    return None
