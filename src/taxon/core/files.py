"""Write files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from taxon.core.errors import OutputError


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """Turn an operating-system error into one line that names the path and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    Raises:
        OutputError: the folder cannot be written or the disk is full; `path` is unchanged.
    """
    with _as_output_error(path):
        # A link stays a link: the file that it points to is replaced.
        path = path.resolve()
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is a folder or a device, not a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: some writers choose the format from it.
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # some writers make files that only their user may read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OutputError: it cannot be removed.
    """
    with _as_output_error(path):
        path.unlink(missing_ok=True)


def numbered(folder: Path, is_free: Callable[[Path], bool]) -> Path:
    """Return `folder`, or the first of `folder-2`, `folder-3`, ... that is free."""
    found, number = folder, 1
    while not is_free(found):
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


@contextmanager
def atomic_folder(path: Path, *, replace_if: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block succeeds.

    Args:
        replace_if: an existing folder is replaced if it holds a file of this name, by which
            taxon knows its own work; None replaces nothing.

    Raises:
        OutputError: `path` exists and may not be replaced, or it cannot be written.
    """
    require_free(path, replace_if=replace_if)
    with _as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Rename `source` to `target`; an old `target` is moved aside first and then removed."""
    if target.is_dir() and not target.is_symlink():
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
        os.replace(target, aside / "old")
        try:
            os.replace(source, target)
        except OSError:
            os.replace(aside / "old", target)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(source, target)


def unfinished(path: Path, suffix: Literal[".tmp", ".old"]) -> list[Path]:
    """What a killed process left beside `path`: a half-written folder, or one that was moved aside.

    Those of a process that still runs are among them; a lock must tell.
    """
    start, count = f".{path.name}.", 8  # letters that `mkdtemp` draws
    return [
        folder
        for folder in path.absolute().parent.glob(f".*{suffix}")
        if folder.name.startswith(start) and len(folder.name) == len(start) + count + len(suffix)
    ]


def require_free(
    path: Path, *, replace_if: str | None, ours: Callable[[str], bool] | None = None
) -> None:
    """Refuse an output folder that already holds something which may not be replaced.

    Args:
        replace_if: a folder with a file of this name may be replaced; None: none may.
        ours: whether taxon writes an entry of this name into such a folder; one with any other
            may not be replaced. Hidden files, which systems make, go. None lets everything go.

    Raises:
        OutputError: `path` is a file, or a folder that is not empty.
    """
    with _as_output_error(path):
        if path.exists() and not path.is_dir():
            raise OutputError(f"the output {path} is a file; name a folder that does not exist yet")
        if not path.is_dir() or not any(path.iterdir()):
            return
    if replace_if is None:
        raise OutputError(
            f"the output folder {path} exists and is not empty; "
            "choose another --out, or add --overwrite to replace it"
        )
    if not (path / replace_if).is_file():
        raise OutputError(
            f"refused to replace {path}: taxon did not write it (there is no {replace_if} in it), "
            "and what it holds would be lost; choose another --out"
        )
    shown = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    foreign = [name for name in shown if ours is not None and not ours(name)]
    if foreign:
        raise OutputError(
            f"refused to replace {path}: {foreign[0]} in it was not written by taxon and would "
            "be lost; move it away, or choose another --out"
        )


def require_writable(path: Path) -> None:
    """Refuse an output below a folder that cannot be written, before hours of work.

    Raises:
        OutputError: the nearest existing folder above `path` is not writable.
    """
    with _as_output_error(path):
        existing = next((folder for folder in path.absolute().parents if folder.exists()), None)
    if existing is None or not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(f"cannot write {path}: {existing} is not a folder that can be written")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
