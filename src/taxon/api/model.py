"""The model that `train` and `load` return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from taxon.api.evaluation import Evaluation, evaluate
from taxon.api.exporting import export
from taxon.api.verifying import verify
from taxon.bundle import ArtefactInfo, ModelSpec
from taxon.bundle.hub import local_folder
from taxon.core.predictions import Prediction
from taxon.data import Columns
from taxon.exporters import ParityReport
from taxon.inference import Predictor, load_predictor
from taxon.inference.load import BackendName


class Model:
    """A trained classifier: a model folder, or an exported artefact alone.

    Args:
        path: the model folder, an artefact's folder or an .onnx file.
        backend: `auto`, `onnx` or `torch`.
        device: for `torch`.
    """

    def __init__(self, path: Path, *, backend: BackendName = "auto", device: str = "cpu") -> None:
        self.path = path
        self._backend = backend
        self._device = device

    @cached_property
    def predictor(self) -> Predictor:
        """The loaded predictor."""
        return load_predictor(self.path, backend=self._backend, device=self._device)

    @property
    def spec(self) -> ModelSpec:
        """Class names, preprocessing and decision policy."""
        return self.predictor.spec

    def predict(self, picture: str | Path, *, top: int = 5) -> Prediction:
        """Predict one file; an unreadable one gives a prediction with `error`.

        Args:
            top: how many of the most probable classes to list.
        """
        return next(self.predictor.predict([Path(picture)], top=top))

    def predict_many(self, pictures: Iterable[str | Path], *, top: int = 5) -> Iterator[Prediction]:
        """Predict files in order, with bounded memory."""
        return self.predictor.predict(map(Path, pictures), top=top)

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        split: str | None = None,
        out: str | Path | None = None,
        columns: Columns | None = None,
        ordered: Sequence[str] | None = None,
        slice_by: str | Sequence[str] = (),
        gate: str | Path | Mapping[str, Any] | None = None,
        overwrite: bool = False,
        explain: bool = True,
        refit: Sequence[str] | None = None,
    ) -> Evaluation:
        """Measure it; see `taxon.evaluate`."""
        return evaluate(
            self.path,
            data,
            split=split,
            out=out,
            columns=columns,
            ordered=ordered,
            slice_by=slice_by,
            gate=gate,
            overwrite=overwrite,
            explain=explain,
            refit=refit,
        )

    def export(
        self, formats: str | Sequence[str] = "onnx", *, out: str | Path | None = None
    ) -> list[ArtefactInfo]:
        """Export it; see `taxon.export`."""
        return export(self.path, formats, out=out)

    def verify(self, *, data: str | Path | None = None) -> list[ParityReport]:
        """Compare its ONNX artefact with it; see `taxon.verify`."""
        return verify(self.path, data=data)

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"


def load(path: str | Path, *, backend: BackendName = "auto", device: str = "cpu") -> Model:
    """Load a model folder or an exported artefact, and check it.

    Args:
        path: the folder or file, or `hf:user/name[@revision]`.

    Raises:
        BundleError: nothing there that can be loaded, or altered.
        HubError: a model of the hub cannot be had.
    """
    model = Model(local_folder(path), backend=backend, device=device)
    _ = model.predictor
    return model
