"""A model as bytes, for machines that do not share a disk with the one that has it; and tables."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from taxon.batch.compute import Computer, Task
from taxon.bundle import read_bundle
from taxon.bundle.artefact import folder_of
from taxon.bundle.layout import ARTEFACT_FILE, ARTEFACTS_FOLDER, BUNDLE_FILE

_ARTEFACTS = {"predict": "onnx", "embed": "onnx-features"}
_NAME = "model"


def packed(task: Task) -> bytes:
    """The files of a task's model, in a zip that is not compressed.

    Raises:
        BundleError: it cannot be read.
    """
    path = task.opening.model
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for file, name in _files(task, path):
            archive.write(file, f"{_NAME}/{name}" if name else f"{_NAME}{path.suffix}")
    return stream.getvalue()


def _files(task: Task, path: Path) -> Iterator[tuple[Path, str]]:
    """Files, and their names below the model's folder; an empty name is the model itself."""
    if (path / BUNDLE_FILE).is_file():
        names = [BUNDLE_FILE, *read_bundle(path).info.present]
        artefact = path / ARTEFACTS_FOLDER / _ARTEFACTS[task.opening.verb]
        inside = sorted(artefact.rglob("*")) if artefact.is_dir() else []
        names += [file.relative_to(path).as_posix() for file in inside if file.is_file()]
        for name in names:
            yield path / name, name
        return
    folder = folder_of(path)
    if path.suffix == ".onnx" and path.is_file():
        yield path, ""
    elif (folder / ARTEFACT_FILE).is_file():
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield file, file.relative_to(folder).as_posix()


def open_packed(task: Task, data: bytes) -> Computer:
    """Open a model that was shipped, and check that it computes the same here.

    Raises:
        CheckFailed: it does not.
    """
    with TemporaryDirectory(prefix="taxon-model-") as scratch:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(scratch)
        (path,) = Path(scratch).iterdir()
        return replace(task, opening=replace(task.opening, model=path)).open()


def packed_table(table: pa.Table) -> bytes:
    """A table as bytes, for a cell of another one."""
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return bytes(stream.getvalue())


def unpacked_table(content: Any) -> pa.Table:
    """The table in such a cell, an Arrow scalar."""
    with pa.ipc.open_stream(content.as_buffer()) as reader:
        return reader.read_all()
