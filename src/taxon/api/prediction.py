"""Predict: find the pictures, answer for each, one prediction after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from taxon.batch.listing import list_items
from taxon.core.errors import DataError
from taxon.core.predictions import Prediction
from taxon.inference import load_predictor
from taxon.inference.load import BackendName


def predict(
    path: str | Path,
    pictures: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    backend: BackendName = "auto",
    device: str = "cpu",
    path_column: str | None = None,
    base: str | None = None,
) -> Iterator[Prediction]:
    """Predict pictures, one prediction each, in order; of many, see `batch_predict`.

    A file that does not exist becomes a prediction with an error, like any other picture that
    cannot be read.

    Args:
        path: a model folder, an artefact's folder, an .onnx file, or `hf:user/name[@revision]`.
        pictures: one or several files, folders (searched below), glob patterns, tables with a
            column of paths and tar shards; paths or URLs.
        path_column, base: of tables; see `taxon.batch.listing.list_items`.

    Raises:
        BundleError: the model cannot be loaded.
        DataError: a folder, pattern, table or shard without pictures.
        HubError: a model of the hub cannot be had.
    """
    names = [pictures] if isinstance(pictures, str | Path) else pictures
    predictor = load_predictor(path, backend=backend, device=device)
    items = list(list_items([str(name) for name in names], path_column=path_column, base=base))
    if not items:
        raise DataError("no pictures were found; name files, folders or patterns")
    return predictor.predict_each(items, top=top)
