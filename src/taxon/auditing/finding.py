"""What every check returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from taxon.data.manifest import Manifest
from taxon.data.plan import Plan, apply_plan

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # the worst first


class Finding(BaseModel):
    """One thing that was found.

    Attributes:
        check: the check's name.
        severity: `error` spoils the result, `warning` may, `info` is good to know.
        record_ids: the pictures concerned, the worst first where they have a rank.
        details: a few words on each of them, in their order; or empty.
        groups: where pictures belong together (copies, one group), the groups.
        score: the figure that the check looked at (a share, a ratio, a count).
        advice: what was found and what to do, in a sentence or two.
        plan: what would mend it; empty where a person must decide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    severity: Severity
    record_ids: tuple[str, ...]
    score: float
    advice: str
    details: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    plan: Plan = Plan()

    def apply(self, manifest: Manifest) -> Manifest:
        """Return the manifest as the finding's plan would make it.

        Raises:
            DataError: the manifest is another one than the finding was made on, or too little
                would be left of it.
        """
        return apply_plan(manifest, self.plan)


@dataclass(frozen=True)
class NotRun:
    """A check that could not be made, and how it could."""

    reason: str
