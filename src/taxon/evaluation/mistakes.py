"""The most confident mistakes: the pictures to look at first."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes
from taxon.evaluation.summary import Metrics

LIMIT = 60
THUMBNAIL_SIDE = 96
IMAGE_BYTES = 3_000_000


@dataclass(frozen=True)
class Mistake:
    """One wrong answer.

    Attributes:
        id: the picture's.
        truth: what it is (multilabel: the class that was wrong, with "not" where it is absent).
        answer: what the classifier said.
        confidence: in what it said, 0 to 1.
        cell: `ROW-COLUMN` in the confusion matrix, or empty (multilabel).
        image: a data URI of a small JPEG, or None.
    """

    id: str
    truth: str
    answer: str
    confidence: float
    cell: str = ""
    image: str | None = None


def confident_mistakes(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    metrics: Metrics,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    thumbnails: Callable[[str], bytes | None],
) -> list[Mistake]:
    """Return at most 60 mistakes, the most confident first, with small pictures.

    Args:
        targets: int64 [N] or [N, C].
        thumbnails: id -> JPEG bytes, or None where there is no picture to show.
    """
    images: dict[str, str | None] = {}
    room = IMAGE_BYTES
    mistakes = []
    if metrics.task == "multiclass":
        found = _wrong_class(table, targets, metrics, label_space, policy)
    else:
        found = _wrong_labels(table, targets, metrics)
    for mistake in found:
        if mistake.id not in images:
            images[mistake.id] = image = _data_uri(thumbnails(mistake.id), room)
            room -= len(image or "")
        mistakes.append(
            Mistake(
                id=mistake.id,
                truth=mistake.truth,
                answer=mistake.answer,
                confidence=mistake.confidence,
                cell=mistake.cell,
                image=images[mistake.id],
            )
        )
    return mistakes


def _wrong_class(
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    metrics: Metrics,
    label_space: LabelSpace,
    policy: DecisionPolicy,
) -> list[Mistake]:
    predicted = named_classes(table.probabilities, label_space, policy)
    confidence = table.probabilities[np.arange(len(table)), predicted]
    wrong = np.flatnonzero(predicted != targets)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:LIMIT]
    return [
        Mistake(
            id=table.ids[row],
            truth=metrics.classes[targets[row]],
            answer=metrics.classes[predicted[row]],
            confidence=float(confidence[row]),
            cell=f"{targets[row]}-{predicted[row]}",
        )
        for row in order
    ]


def _wrong_labels(
    table: PredictionTable, targets: npt.NDArray[np.int64], metrics: Metrics
) -> list[Mistake]:
    """Each wrong yes or no, by how sure the classifier was of it."""
    thresholds = [metrics.per_class[name].threshold or 0.0 for name in metrics.classes]
    named = table.probabilities >= np.asarray(thresholds, np.float32)
    certainty = np.where(named, table.probabilities, 1.0 - table.probabilities)
    rows, columns = np.nonzero((named != (targets == 1)) & (targets != UNKNOWN))
    order = np.argsort(-certainty[rows, columns], kind="stable")[:LIMIT]
    found = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        name, said = metrics.classes[column], bool(named[row, column])
        truth, answer = (f"not {name}", name) if said else (name, f"not {name}")
        found.append(
            Mistake(table.ids[row], truth, answer, confidence=float(certainty[row, column]))
        )
    return found


def _data_uri(jpeg: bytes | None, room: int) -> str | None:
    """Return a data URI of at most 96 pixels a side, or None when it does not fit `room`."""
    if jpeg is None:
        return None
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            if image.format != "JPEG" or max(image.size) > THUMBNAIL_SIDE:
                small = image.convert("RGB")
                small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=80)
                jpeg = buffer.getvalue()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        # A report with one picture less is better than no report.
        return None
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    return uri if len(uri) <= room else None
