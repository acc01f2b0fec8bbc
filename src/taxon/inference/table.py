"""Predict a list of known pictures into one table of arrays, and write it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.cores import available_cores
from taxon.core.files import atomic_file
from taxon.core.predictions import FloatArray, ImageBatch, PredictionTable
from taxon.inference.predictor import DEFAULT_BATCH_SIZE, Predictor
from taxon.preprocessing.decode import read_picture


class Picture(Protocol):
    """What the table needs of a record."""

    @property
    def id(self) -> str: ...

    @property
    def path(self) -> Path: ...


def predict_table(predictor: Predictor, pictures: Sequence[Picture]) -> PredictionTable:
    """Predict readable pictures, in order.

    Raises:
        ImageError: one of them cannot be read.
    """

    def load(picture: Picture) -> ImageBatch:
        return predictor.prepare(read_picture(picture.path), picture.id)

    outputs = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(pictures), DEFAULT_BATCH_SIZE):
            batch = pictures[start : start + DEFAULT_BATCH_SIZE]
            outputs.append(predictor.run(np.stack(list(pool.map(load, batch)))))
    return PredictionTable(
        ids=tuple(picture.id for picture in pictures),
        names=predictor.spec.label_space.names,
        logits=np.concatenate([output.logits for output in outputs]),
        probabilities=np.concatenate([output.probabilities for output in outputs]),
        scope=_joined([output.scope for output in outputs]),
    )


def _joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else None


def write_table(table: PredictionTable, path: Path) -> None:
    """Write Parquet: `id`, then `probability:CLASS` and `logit:CLASS` for every class."""
    columns: dict[str, object] = {"id": list(table.ids)}
    for column, name in enumerate(table.names):
        columns[f"probability:{name}"] = table.probabilities[:, column]
        columns[f"logit:{name}"] = table.logits[:, column]
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
