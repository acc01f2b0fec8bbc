"""Where models lie: a model folder, an artefact, a pointer to one, or a folder of several.

RUN                    a model folder, an artefact's folder or an .onnx file
NAME=RUN               the same under another name
POINTER                a symbolic link, or a text file with the path of one (`current.txt`)
FOLDER/NAME            model folders in one folder: each folder's name is its model's
FOLDER/NAME/VERSION    with versions, as Triton has them
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taxon.core.errors import InputError

_POINTER_BYTES = 4096  # a path is not longer


@dataclass(frozen=True)
class Place:
    """Where a model lies.

    Attributes:
        typed: what the user named.
        folder: the model folder, artefact's folder or file there now.
        name, version: as the user or the folders say; None: the model itself does.
        stamp: another one when the model there is another one.
    """

    typed: Path
    folder: Path
    name: str | None
    version: str | None
    stamp: str

    @property
    def key(self) -> tuple[Path, str | None, str | None]:
        """What stays the same when the model is exchanged."""
        return self.typed, self.name, self.version


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
    places = [
        place
        for child in sorted(target.iterdir())
        if child.is_dir()
        for place in _named(path, child, is_model)
    ]
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
        for version in sorted(child.iterdir())
        if version.is_dir() and is_model(_target(version))
    ]


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
