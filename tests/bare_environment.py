"""A Python that has a few packages and nothing else, as on a small device."""

from __future__ import annotations

import os
import subprocess
import venv
from importlib.util import find_spec
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def bare_python(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with these packages of this one; return its interpreter.

    They are links to exactly these, so that what they could import beside is not there.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    for package in packages:
        found = find_spec(package)
        assert found is not None and found.submodule_search_locations is not None
        source = Path(found.submodule_search_locations[0])
        # Where wheels keep the libraries that they bring.
        libraries = {"PIL": "pillow"}.get(package, package) + ".libs"
        for each in (source, source.with_name(libraries)):
            if each.is_dir():
                (site_packages / each.name).symlink_to(each)
    return folder / "bin" / "python"


def run_bare(python: Path, *arguments: str | Path, folder: Path, text: str | None = None) -> Done:
    """Run it in a folder, and away from what this environment sets."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [str(python), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        input=text,
        cwd=folder,
        env=kept,
        timeout=120,
    )
