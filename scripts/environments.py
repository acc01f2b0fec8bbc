"""Virtual environments for trying what is packaged, made by uv from an environment of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


class Failed(Exception):
    """A command did not end with 0, or left something out."""


def own_uv(work: Path) -> Path:
    """The path of uv, which is installed once below this folder."""
    folder = work / "uv"
    program = folder / "bin" / "uv"
    if not program.exists():
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--quiet", "install", "uv"]
        subprocess.run(pip, check=True)
    return program


def make_environment(uv: Path, folder: Path, arguments: Sequence[str | Path]) -> None:
    """Make an environment in a folder, with pip, and install what the arguments of uv say."""
    shutil.rmtree(folder, ignore_errors=True)
    python = ("--python", sys.executable)
    subprocess.run([uv, "venv", "--quiet", "--seed", *python, folder], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *arguments],
        check=True,
    )


def run_in(environment: Path, command: str | Sequence[str], folder: Path, log: Path) -> None:
    """Run a command of an environment in a folder; what it prints is added to the log.

    Raises:
        Failed: it did not end with 0.
    """
    words = shlex.split(command) if isinstance(command, str) else list(command)
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in left_out}
    variables |= {
        "PATH": f"{environment / 'bin'}{os.pathsep}{variables.get('PATH', '')}",
        "TAXON_CACHE": str(log.parent / "cache"),
        "YOLO_CONFIG_DIR": str(log.parent / "cache"),
        "HF_HUB_OFFLINE": "1",
        # An environment that is made anew at the same place finds torch compiled.
        "PYTHONPYCACHEPREFIX": str(environment.parent / "compiled"),
    }
    with log.open("a", encoding="utf-8") as stream:
        print(f"\n$ {shlex.join(words)}", file=stream, flush=True)
        code = subprocess.run(
            words, cwd=folder, env=variables, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if code != 0:
        short = shlex.join(words).strip().splitlines()[0]
        raise Failed(f"`{short[:70]}` ended with {code}")
