"""Predictions: the table of arrays that the machine reads, and the row that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

FloatArray = npt.NDArray[np.float32]
ImageBatch = npt.NDArray[np.uint8]
# By what the sets of a prediction are made, and pictures of something else found.
SetMethod = Literal["lac", "raps"]
ScopeMethod = Literal["energy", "nearest", "both"]


class Scored(BaseModel):
    """One class with its probability (0 to 1)."""

    model_config = ConfigDict(frozen=True)

    label: str
    probability: float


class Prediction(BaseModel):
    """What the classifier says of one picture; the same fields everywhere.

    Attributes:
        path: the file or the name under which the picture was sent.
        label: the class that is named (multiclass): the most probable one, or by a policy of
            costs or of least risk over a taxonomy another; None for multilabel, for a picture
            out of scope, and for errors.
        confidence: how probable it is that the answer is right, 0 to 1: the calibrated
            probability of the named class; for multilabel that of every yes and no together, as
            if tags were independent.
        labels: the classes above their thresholds (multilabel), else the label alone.
        unsure: the confidence is below the bundle's abstention limit.
        out_of_scope: the picture is unlike those that the model was trained on; it is not named.
        prediction_set: classes that hold the true one with the stated coverage, the most
            probable first, where fitted.
        taxonomy: node ids from coarse to the deepest node that is confident enough.
        top: the most probable classes, best first.
        error: why there is no prediction; all other fields are then empty.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    label: str | None = None
    confidence: float | None = None
    labels: tuple[str, ...] = ()
    unsure: bool = False
    out_of_scope: bool = False
    prediction_set: tuple[str, ...] | None = None
    taxonomy: tuple[str, ...] = ()
    top: tuple[Scored, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class PredictionTable:
    """The outputs for N pictures over C classes, rows in the order of `ids`.

    Attributes:
        ids: one id a row (a path, or a record id).
        names: class names in column order.
        logits: float32 [N, C], the head's output before calibration.
        probabilities: float32 [N, C], calibrated; rows sum to 1 for multiclass.
        scope: float32 [N], how much each picture is like those of the training; None where the
            model has no such score.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    logits: FloatArray
    probabilities: FloatArray
    scope: FloatArray | None = None

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.names))
        for field in ("logits", "probabilities"):
            shape = getattr(self, field).shape
            if shape != expected:
                raise ValueError(f"{field} has shape {shape}, expected {expected}")
        if self.scope is not None and self.scope.shape != (len(self.ids),):
            raise ValueError(f"scope has shape {self.scope.shape}, expected ({len(self.ids)},)")

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int]) -> PredictionTable:
        """Return the table of these rows, in this order."""
        return PredictionTable(
            ids=tuple(self.ids[row] for row in rows),
            names=self.names,
            logits=self.logits[list(rows)],
            probabilities=self.probabilities[list(rows)],
            scope=None if self.scope is None else self.scope[list(rows)],
        )
