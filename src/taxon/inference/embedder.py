"""The embedder: pictures in, the pooled features of a model out; no torch."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from taxon.bundle import ModelSpec, read_bundle
from taxon.bundle.artefact import (
    artefact_folder,
    folder_of,
    read_artefact,
    require_accepted,
    require_fresh,
)
from taxon.bundle.hub import local_folder
from taxon.bundle.layout import ARTEFACT_FILE, BUNDLE_FILE
from taxon.core.errors import BundleError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference.backend import Outputs
from taxon.inference.head import Head
from taxon.inference.onnx_runtime import FEATURES_OUTPUT, OnnxRuntimeBackend
from taxon.inference.predictor import Predictor

FEATURES_FORMAT = "onnx-features"


class Embedder:
    """A model that gives its pooled features; safe to call from several threads.

    Args:
        backend: of an artefact that has them among its outputs.
    """

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self.spec: ModelSpec = backend.spec()
        self.size = backend.feature_count
        self._backend = backend
        self._predictor = Predictor(self.spec, backend)

    def prepare(self, data: bytes, source: str = "picture") -> ImageBatch:
        """Bytes of one picture -> uint8 [3, H, W].

        Raises:
            ImageError: it cannot be decoded.
        """
        return self._predictor.prepare(data, source)

    def run(self, images: ImageBatch) -> FloatArray:
        """Prepared pictures, uint8 [N, 3, H, W] -> features, float32 [N, F]."""
        features = self.outputs(images).features
        assert features is not None
        return features

    def outputs(self, images: ImageBatch) -> Outputs:
        """The same pass with all that it gives: probabilities and logits beside the features."""
        return self._backend.run(images)

    @cached_property
    def head(self) -> Head:
        """The part of the graph behind the features, for features that were computed before."""
        return Head(self._backend.file)


def load_embedder(path: str | Path, *, threads: int | None = None) -> Embedder:
    """Load what gives the features of a model.

    Args:
        path: a model folder, or `hf:user/name[@revision]`, whose artefact `onnx-features` is
            taken; or such an artefact alone, its folder or the file in it.
        threads: that compute one batch; None: one a core.

    Raises:
        BundleError: there is none, it gives no features, it was altered or rejected, or it was
            exported from another state of the model.
    """
    path = local_folder(path, (FEATURES_FORMAT,))
    if (path / BUNDLE_FILE).is_file():
        return _open(_of_bundle(path), threads)
    folder = folder_of(path)
    if (folder / ARTEFACT_FILE).is_file():
        info = read_artefact(folder)
        require_accepted(info, folder)
        if info.format != FEATURES_FORMAT:
            raise BundleError(_without_features(folder / info.file))
        return _open(folder / info.file, threads)
    if path.is_file() and path.suffix == ".onnx":
        return _open(path, threads)
    raise BundleError(
        f"{path} is neither a model folder nor an artefact that gives features; name a folder that "
        f"`taxon train` wrote, or what `taxon export RUN --to {FEATURES_FORMAT}` did"
    )


def features_file(path: Path) -> Path:
    """Return the .onnx file of a model folder that gives its features.

    Raises:
        BundleError: there is none, it was altered or rejected, or it was exported from another
            state of the model.
    """
    return _of_bundle(path)


def _of_bundle(path: Path) -> Path:
    bundle = read_bundle(path)
    folder = artefact_folder(path, FEATURES_FORMAT)
    if not folder.is_dir():
        raise BundleError(
            f"{path} has no artefact that gives features; make one: taxon export {path} "
            f"--to {FEATURES_FORMAT}"
        )
    info = read_artefact(folder)
    require_fresh(info, bundle)
    require_accepted(info, folder)
    return folder / info.file


def _open(file: Path, threads: int | None) -> Embedder:
    backend = OnnxRuntimeBackend(file, name=FEATURES_FORMAT, threads=threads)
    if not backend.gives_features:
        raise BundleError(_without_features(file))
    return Embedder(backend)


def _without_features(file: Path) -> str:
    return (
        f"{file} gives no {FEATURES_OUTPUT}; name an artefact that `taxon export RUN --to "
        f"{FEATURES_FORMAT}` wrote"
    )
