"""What every check returns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["info", "warning", "error"]


class Finding(BaseModel):
    """One thing that was found.

    Attributes:
        check: the check's name.
        severity: `error` spoils the result, `warning` may, `info` is good to know.
        record_ids: the pictures concerned.
        score: the figure that the check looked at (a share, a ratio, a count).
        advice: what was found and what to do, in a sentence or two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    severity: Severity
    record_ids: tuple[str, ...]
    score: float
    advice: str
