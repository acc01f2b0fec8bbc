"""A figure: a number with its interval, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

ABSENT = "no pictures of this class"
EVERYWHERE = "every picture is of this class"
NOTHING_KNOWN = "of no picture and class it is known whether it has it"


class Figure(BaseModel):
    """One metric.

    Attributes:
        value: the figure, or None where the data does not define it. Shares and scores are
            fractions (0 to 1), not per cent.
        ci95: the 95 % interval, low then high, where one was computed.
        reason: why `value` is None, or what a reader must know of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    ci95: tuple[float, float] | None = None
    reason: str | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an interval or reason that is not there; `value` always stays."""
        content: dict[str, Any] = dump(self)
        return {key: item for key, item in content.items() if key == "value" or item is not None}

    @classmethod
    def of(cls, value: float, reason: str | None = None) -> Figure:
        """Return a figure with this value.

        Raises:
            ValueError: the value is NaN or infinite; such a figure must give its reason instead.
        """
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"a figure must be finite, received {number}")
        return cls(value=number, reason=reason)

    def with_interval(self, ci95: tuple[float, float] | None) -> Figure:
        """Return the figure with this interval; a figure without value stays as it is."""
        return self if self.value is None else self.model_copy(update={"ci95": ci95})


def undefined(reason: str) -> Figure:
    """Return the figure that the data does not define."""
    return Figure(value=None, reason=reason)


def mean_of_defined(figures: Sequence[Figure]) -> Figure:
    """Return the macro average: the plain mean over the figures that are defined.

    Where some are not, the reason says over how many the mean was taken.
    """
    values = [figure.value for figure in figures if figure.value is not None]
    if not values:
        return undefined("not defined for any class")
    note = None
    if len(values) < len(figures):
        note = f"mean over {len(values)} of {len(figures)} classes; the others are not defined"
    return Figure.of(sum(values) / len(values), note)
