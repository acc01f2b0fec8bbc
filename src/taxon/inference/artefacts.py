"""Open an exported artefact with the runtime of its format."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from taxon.bundle import ArtefactInfo
from taxon.core.errors import BundleError, MissingDependencyError
from taxon.core.versions import DISTRIBUTION
from taxon.inference.backend import Backend
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

TORCHSERVE_PROGRAM = "model.pt2"  # in the archive
# The folder, what artefact.json says, and how many threads may compute (None: one a core).
Opener = Callable[[Path, ArtefactInfo, int | None], Backend]


def open_artefact(folder: Path, info: ArtefactInfo, threads: int | None = None) -> Backend:
    """Return a backend that runs an artefact.

    Args:
        folder: where artefact.json lies; its hashes were checked.
        threads: that compute one batch; None: one a core.

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
    try:
        return opener(folder, info, threads)
    except ImportError as error:
        extra = EXTRAS.get(info.format)
        wanted = DISTRIBUTION if extra is None else f"'{DISTRIBUTION}[{extra}]'"
        raise MissingDependencyError(
            f"{folder} is a {info.format} artefact; what runs it does not import ({error}); "
            f"type: pip install {wanted}"
        ) from error


def _onnx(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    name = "onnxruntime" if info.format == "onnx" else info.format
    return OnnxRuntimeBackend(folder / info.file, name=name, threads=threads)


def _openvino(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    from taxon.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(
        folder / info.file / "model.xml", info.precision, name=info.format, threads=threads
    )


def _torch_export(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    from taxon.inference.torch_program import TorchProgramBackend

    return TorchProgramBackend(folder / info.file, threads=threads)


def _executorch(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    from taxon.inference.executorch import ExecuTorchBackend

    return ExecuTorchBackend(folder / info.file, threads=threads)


def _torchserve(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    """The program in the archive; its handler needs TorchServe."""
    from taxon.inference.torch_program import TorchProgramBackend

    file = folder / info.file
    with tempfile.TemporaryDirectory(prefix="taxon-") as scratch:
        try:
            with zipfile.ZipFile(file) as archive:
                program = archive.extract(TORCHSERVE_PROGRAM, scratch)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{file} is no archive with a model: {error}") from error
        return TorchProgramBackend(Path(program), threads=threads)


def _litert(folder: Path, info: ArtefactInfo, threads: int | None) -> Backend:
    # Imported here: the server that runs ONNX needs no LiteRT.
    from taxon.inference.litert import LiteRtBackend

    return LiteRtBackend(folder / info.file, threads=threads)


def _coreml(folder: Path, info: ArtefactInfo, _: int | None) -> Backend:
    from taxon.inference.coreml import CoreMLBackend

    return CoreMLBackend(folder / info.file)


def _triton(folder: Path, info: ArtefactInfo, _: int | None) -> Backend:
    from taxon.inference.triton import open_repository

    return open_repository(folder / info.file)


OPENERS: dict[str, Opener] = {
    "onnx": _onnx,
    "onnx-fp16": _onnx,
    "onnx-int8": _onnx,
    "onnx-features": _onnx,
    "torch-export": _torch_export,
    "executorch": _executorch,
    "openvino": _openvino,
    "openvino-fp16": _openvino,
    "openvino-int8": _openvino,
    "coreml": _coreml,
    "coreml-fp16": _coreml,
    "tflite": _litert,
    "tflite-fp16": _litert,
    "tflite-int8": _litert,
    "torchserve": _torchserve,
    "triton": _triton,
}
# What brings the runtimes that a plain install has not.
EXTRAS = {
    "executorch": "executorch",
    "openvino": "openvino",
    "openvino-fp16": "openvino",
    "openvino-int8": "openvino",
    "coreml": "coreml",
    "coreml-fp16": "coreml",
    "tflite": "tflite",
    "tflite-fp16": "tflite",
    "tflite-int8": "tflite",
}
