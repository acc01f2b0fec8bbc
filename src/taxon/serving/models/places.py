"""Where models lie: a model folder, an artefact, a pointer to one, or a folder of several.

RUN                    a model folder, an artefact's folder or an .onnx file
NAME=RUN               the same under another name
POINTER                a symbolic link, or a text file with the path of one (`current.txt`)
FOLDER/NAME            model folders in one folder: each folder's name is its model's
FOLDER/NAME/VERSION    with versions, as Triton has them
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taxon.core.errors import InputError

_POINTER_BYTES = 4096  # a path is not longer
_MOMENT = 0.05  # seconds


@dataclass(frozen=True)
class Place:
    """Where a model lies.

    Attributes:
        typed: what the user named.
        folder: the model folder, artefact's folder or file there now.
        name, version: as the user or the folders say; None: the model itself does.
        stamp: another one when the model there is another one.
        fault: why nothing can be said of it now; the rest is what was there before.
    """

    typed: Path
    folder: Path
    name: str | None
    version: str | None
    stamp: str
    fault: str | None = None

    @property
    def key(self) -> tuple[Path, str | None, str | None]:
        """What stays the same when the model is exchanged."""
        return self.typed, self.name, self.version


class Places:
    """What lies at what a user named, each time that it is asked.

    What cannot be looked at any more (a pointer that is being written, or leads nowhere) gives what
    lay there before, with its fault.

    Args:
        named: paths, or NAME=PATH.
        is_model: whether a model can be opened at a path.
    """

    def __init__(self, named: Sequence[str], is_model: Callable[[Path], bool]) -> None:
        self._is_model = is_model
        self._last: dict[str, list[Place]] = {typed: [] for typed in named}

    def __call__(self) -> list[Place]:
        """Look.

        Raises:
            InputError: nothing there, and there never was.
        """
        return [place for typed in self._last for place in self._look(typed)]

    def _look(self, typed: str) -> list[Place]:
        last = self._last[typed]
        try:
            found = find_places(typed, self._is_model)
            if {place.key for place in last} - {place.key for place in found}:
                # A folder that is being replaced is not there for a moment.
                time.sleep(_MOMENT)
                found = find_places(typed, self._is_model)
        except (InputError, OSError, ValueError, RuntimeError) as error:
            # The latter two: odd bytes in a path, and a link that leads to itself.
            if not last:
                raise InputError(str(error)) from error
            fault = str(error)
            return [replace(each, fault=fault, stamp=f"{each.stamp} {fault}") for each in last]
        self._last[typed] = found
        return found


def find_places(typed: str, is_model: Callable[[Path], bool]) -> list[Place]:
    """Return the models at what a user named.

    Args:
        typed: a path, or NAME=PATH.
        is_model: whether a model can be opened at a path.

    Raises:
        InputError: nothing there, or nothing that is a model.
    """
    name, separator, rest = typed.partition("=")
    # A path may have an equals sign in it.
    path, given = (
        (Path(rest), name) if separator and not Path(typed).exists() else (Path(typed), None)
    )
    if given == "":
        raise InputError(f"'{typed}' names no model before the equals sign; type NAME=PATH")
    target = _target(path)
    if is_model(target):
        return [_place(path, target, given, None)]
    if not target.is_dir():
        leads = f" (it leads to {target})" if path.exists() else ""
        raise InputError(f"{path}{leads} is no model folder, artefact or pointer to one")
    places = [place for child in _folders(target) for place in _named(path, child, is_model)]
    if not places:
        raise InputError(
            f"{path} holds no models; name a folder that `taxon train` wrote, or one with such "
            "folders (NAME or NAME/VERSION) in it"
        )
    return places


def _named(typed: Path, child: Path, is_model: Callable[[Path], bool]) -> list[Place]:
    if is_model(_target(child)):
        return [_place(typed, _target(child), child.name, None)]
    return [
        _place(typed, _target(version), child.name, version.name)
        for version in _folders(child)
        if is_model(_target(version))
    ]


def _folders(path: Path) -> list[Path]:
    """Those in a folder; hidden ones are not finished, or on their way out."""
    return sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] != ".")


def _place(typed: Path, folder: Path, name: str | None, version: str | None) -> Place:
    return Place(typed, folder, name, version, _stamp(folder))


def _target(path: Path) -> Path:
    """Follow a pointer: a symbolic link, or a small text file with a path (relative to it)."""
    if path.is_file() and path.suffix != ".onnx" and path.stat().st_size <= _POINTER_BYTES:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text with the path of a model") from error
        if not text or "\n" in text:
            raise InputError(f"{path} must hold the path of one model, in one line")
        return (path.parent / text).resolve()
    return path.resolve()


def _stamp(path: Path) -> str:
    """The path itself, and when and how its description was last written."""
    described = next(
        (path / name for name in ("bundle.json", "artefact.json") if (path / name).is_file()), path
    )
    status = described.stat()
    return f"{os.fspath(path)} {status.st_mtime_ns} {status.st_size} {status.st_ino}"


def contents_stamp(path: Path) -> str:
    """Another text when anything in a model's folder was written, added or removed."""
    try:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        status = [each.stat() for each in files]
    except OSError as error:
        return str(error)
    return " ".join(f"{each.st_mtime_ns} {each.st_size}" for each in status)
