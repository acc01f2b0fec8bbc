"""The converter of TFLite, in an environment of its own over this one.

litert-torch pins older versions of pydantic and typing-extensions than this environment has. Its
own environment sees the packages that are installed here, torch among them, and holds on top only
what differs: nothing here is changed, and torch is not there twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import site
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from taxon.core.cache import cache_folder
from taxon.core.errors import MissingDependencyError, TaxonError
from taxon.core.files import atomic_folder
from taxon.core.versions import installed_version

CONVERTER_VERSION = "0.10.0"
REQUIREMENT = f"litert-torch=={CONVERTER_VERSION}"
MEGABYTES = 750
_CONFIGURATION = "pyvenv.cfg"


def converter_python(tell: Callable[[str], None]) -> Path:
    """Return the Python of the converter's environment, which is made if it is not there.

    It is kept in the folder of caches; one that is there is used with no network. What pip is told
    by its environment variables and configuration holds here too.

    Args:
        tell: is told what is installed, and where.

    Raises:
        MissingDependencyError: pip cannot install the converter; with what it needs.
    """
    folder = cache_folder("converters") / _name()
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        python = _python(folder)
        if not python.exists():  # absent, or its Python is gone
            tell(
                f"TFLite's converter, {REQUIREMENT}, does not go together with the packages here; "
                f"it is installed once (about {MEGABYTES} MB) into {folder}"
            )
            with atomic_folder(folder, replace_if=_CONFIGURATION) as temporary:
                _install(temporary)
        return python


def run_converter(python: Path, module: str, arguments: Sequence[str | Path], doing: str) -> None:
    """Run a module of taxon by the converter's Python.

    Args:
        doing: what it is for, as an error would say it: "tiny could not be converted to TFLite".

    Raises:
        TaxonError: it failed; with the last line of what it said.
    """
    # -P: a file of the current folder must not be taken for a package.
    command = [str(python), "-P", "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise TaxonError(f"{doing}: {failure_reason(done)}")


def failure_reason(done: subprocess.CompletedProcess[str]) -> str:
    """Say in one line why a process failed: its last error, or else its last line."""
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|[\w.]*(Error|Exception))\b:?", line)]
    return (errors or lines or ["it said nothing"])[-1]


def _name() -> str:
    """Of the environment's folder; another one where what lies below it is another."""
    below = [*map(str, _site_packages()), *(str(installed_version(name)) for name in _BELOW)]
    digest = hashlib.sha256("\n".join(below).encode()).hexdigest()[:12]
    return f"litert-{CONVERTER_VERSION}-py{sysconfig.get_python_version()}-{digest}"


_BELOW = ("torch", "ai-edge-litert")


def _site_packages() -> list[Path]:
    """The folders with the packages that are installed here."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    folders = [Path(folder).resolve() for folder in [*site.getsitepackages(), *user]]
    return [folder for folder in folders if folder.is_dir()]


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _install(folder: Path) -> None:
    """Make the environment; it may be renamed, because it is only ever run by its Python."""
    try:
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(folder)
    except subprocess.CalledProcessError as error:
        raise MissingDependencyError(
            f"{REQUIREMENT}, the converter of TFLite, needs a virtual environment, which this "
            "Python cannot make; on Debian and Ubuntu type: apt-get install python3-venv"
        ) from error
    python = _python(folder)
    own = Path(_query(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])"))
    lines = [f"import site; site.addsitedir({str(each)!r})" for each in _site_packages()]
    # Read after the environment's own packages, which therefore come first.
    (own / "zz_below.pth").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    # Compiled when first imported: most of it never is.
    install = ["-m", "pip", "install", "--quiet", "--no-compile", REQUIREMENT]
    done = subprocess.run(
        [str(python), *install], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise MissingDependencyError(
            f"{REQUIREMENT}, the converter of TFLite, could not be installed: "
            f"{failure_reason(done)}. It needs a package index; without one, type where there is "
            f"one: pip download {REQUIREMENT} --dest wheels; and here: "
            "PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels taxon export ..."
        )


def _query(python: Path, program: str) -> str:
    command = [str(python), "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":  # prepares it ahead of time
    converter_python(partial(print, flush=True))
