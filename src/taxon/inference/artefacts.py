"""Open an exported artefact with the runtime of its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taxon.bundle import ArtefactInfo
from taxon.core.errors import BundleError
from taxon.inference.backend import Backend
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

Opener = Callable[[Path, ArtefactInfo], Backend]


def open_artefact(folder: Path, info: ArtefactInfo) -> Backend:
    """Return a backend that runs an artefact.

    Args:
        folder: where artefact.json lies; its hashes were checked.

    Raises:
        BundleError: nothing here runs this format, or the file does not load.
        MissingDependencyError: its runtime is not installed.
    """
    opener = OPENERS.get(info.format)
    if opener is None:
        raise BundleError(
            f"{folder} is a {info.format} artefact, which cannot be run here; "
            f"formats that can: {', '.join(OPENERS)}"
        )
    return opener(folder, info)


def _onnx(folder: Path, info: ArtefactInfo) -> Backend:
    return OnnxRuntimeBackend(folder / info.file)


def _coreml(folder: Path, info: ArtefactInfo) -> Backend:
    from taxon.inference.coreml import CoreMLBackend

    return CoreMLBackend(folder / info.file)


def _triton(folder: Path, info: ArtefactInfo) -> Backend:
    from taxon.inference.triton import open_repository

    return open_repository(folder / info.file)


OPENERS: dict[str, Opener] = {
    "onnx": _onnx,
    "onnx-fp16": _onnx,
    "onnx-int8": _onnx,
    "coreml": _coreml,
    "coreml-fp16": _coreml,
    "triton": _triton,
}
