"""Predict a list of known pictures into one table of arrays, and write it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from taxon.core.cores import available_cores
from taxon.core.files import atomic_file
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import FloatArray, ImageBatch, PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes, named_tags, wrong_answers
from taxon.decision.decide import mark
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


def write_table(
    table: PredictionTable,
    path: Path,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    targets: npt.NDArray[np.int64],
) -> None:
    """Write Parquet, a row a picture.

    Columns: `id`; `truth` and `answer`, a class, or for multilabel a list of tags; `confidence`
    in the answer, 0 to 1; `right` (multilabel: every known yes and no is); `unsure` and
    `out_of_scope`, as the policy says; for multilabel, where there are any, `unknown`, the tags of
    which nobody knows; then `probability:CLASS` and `logit:CLASS` for every class. `answer` is
    what would be named, also where the picture is flagged as out of scope.

    Args:
        targets: int64 [N] or [N, C], the truth; -1 where it is unknown.
    """
    columns: dict[str, object] = {"id": list(table.ids)}
    columns |= _answers(table, label_space, policy, targets)
    for column, name in enumerate(table.names):
        columns[f"probability:{name}"] = table.probabilities[:, column]
        columns[f"logit:{name}"] = table.logits[:, column]
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _answers(
    table: PredictionTable,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    targets: npt.NDArray[np.int64],
) -> dict[str, object]:
    marks = mark(table.probabilities, table.scope, label_space, policy)
    right = ~wrong_answers(table.probabilities, targets, label_space, policy)
    judged: dict[str, object]
    if label_space.task == "multiclass":
        named = named_classes(table.probabilities, label_space, policy)
        judged = {
            "truth": [table.names[place] for place in targets],
            "answer": [table.names[place] for place in named],
            "confidence": marks.confidence,
            "right": right,
        }
    else:
        tags = named_tags(table.probabilities, policy)
        judged = {
            "truth": _tags(targets == 1, table.names),
            "answer": _tags(tags, table.names),
            "confidence": marks.confidence,
            "right": right,
        }
        if (targets == UNKNOWN).any():
            judged["unknown"] = _tags(targets == UNKNOWN, table.names)
    return {**judged, "unsure": marks.unsure, "out_of_scope": marks.out_of_scope}


def _tags(named: npt.NDArray[np.bool_], names: Sequence[str]) -> pa.Array:
    rows = [[names[place] for place in np.flatnonzero(row).tolist()] for row in named]
    return pa.array(rows, pa.list_(pa.string()))
