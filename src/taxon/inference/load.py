"""Load a predictor from a model folder or from an exported artefact alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from taxon.bundle import read_bundle
from taxon.bundle.artefact import (
    artefact_folder,
    folder_of,
    read_artefact,
    require_accepted,
    require_fresh,
)
from taxon.bundle.hub import local_folder
from taxon.bundle.layout import ARTEFACT_FILE, BUNDLE_FILE
from taxon.core.errors import BundleError, ConfigError
from taxon.inference.artefacts import open_artefact
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.inference.predictor import Predictor

BackendName = Literal["auto", "onnx", "torch"]


def load_predictor(
    path: str | Path,
    *,
    backend: BackendName = "auto",
    device: str = "cpu",
    threads: int | None = None,
) -> Predictor:
    """Load a model folder, an artefact (its folder, or the file in it) or an .onnx file alone.

    Args:
        path: one of these, or `hf:user/name[@revision]`.
        backend: `auto` takes the ONNX artefact where there is one and the device is the CPU, else
            PyTorch.
        device: for PyTorch: `cpu`, `cuda` or `mps`.
        threads: that compute one batch, of PyTorch in the whole process; None: one a core.

    Raises:
        BundleError: nothing there that can be loaded, or altered, or exported from another
            state of the model.
        HubError: a model of the hub cannot be had.
    """
    path = local_folder(path)
    if (path / BUNDLE_FILE).is_file():
        return _from_bundle(path, backend, device, threads)
    if path.is_file() and path.suffix == ".onnx":  # it carries all that is needed
        _require_own_runtime(path, backend, device)
        return _from_onnx(path, threads)
    folder = folder_of(path)
    if (folder / ARTEFACT_FILE).is_file():
        _require_own_runtime(folder, backend, device)
        info = read_artefact(folder)
        require_accepted(info, folder)
        return Predictor(info.spec, open_artefact(folder, info, threads), frame=info.frame)
    raise BundleError(
        f"{path} is neither a model folder, nor an artefact's folder, nor an .onnx file; "
        "name the folder that `taxon train` or `taxon export` wrote"
    )


def _from_onnx(file: Path, threads: int | None) -> Predictor:
    loaded = OnnxRuntimeBackend(file, threads=threads)
    return Predictor(loaded.spec(), loaded, frame=loaded.frame)


def _require_own_runtime(path: Path, backend: BackendName, device: str) -> None:
    """Refuse choices that only a model folder has."""
    if backend == "torch" or device != "cpu":
        raise ConfigError(
            f"{path} is an artefact, which its own runtime computes on the CPU: backend 'torch' "
            "and other devices are for model folders"
        )


def _from_bundle(path: Path, backend: BackendName, device: str, threads: int | None) -> Predictor:
    bundle = read_bundle(path)
    folder = artefact_folder(path, "onnx")
    if backend == "onnx" and device != "cpu":
        raise ConfigError(f"ONNX artefacts are computed on the CPU here, not on '{device}'")
    if backend == "onnx" or (backend == "auto" and folder.is_dir() and device == "cpu"):
        if not folder.is_dir():
            raise BundleError(
                f"{path} has no ONNX artefact; make one: taxon export {path} --to onnx"
            )
        info = read_artefact(folder)
        require_fresh(info, bundle)
        require_accepted(info, folder)
        return _from_onnx(folder / info.file, threads)
    # Imported here: serving and predicting from ONNX must work with no torch installed.
    from taxon.inference.pytorch import PyTorchBackend

    return Predictor(bundle.spec, PyTorchBackend(bundle, device=device, threads=threads))
