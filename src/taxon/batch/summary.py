"""What became of a job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from taxon.batch.job import SUMMARY_FILE, OpenJob


@dataclass(frozen=True)
class BatchResult:
    """A finished job.

    Attributes:
        out: the folder or URL with the parts.
        pictures: in all parts.
        errors: of them, those that could not be read; their rows say why.
        parts: files.
        computed: pictures that this call computed; the others were there before.
        seconds: that this call took to compute and write them.
        engine: which computed them.
    """

    out: str
    pictures: int
    errors: int
    parts: int
    computed: int
    seconds: float
    engine: str

    @property
    def pictures_per_second(self) -> float | None:
        """Of this call; None where nothing was left to compute."""
        return self.computed / self.seconds if self.computed else None


def finish(opened: OpenJob, errors: dict[int, int], seconds: float, engine: str) -> BatchResult:
    """Write the summary, with which a job counts as finished.

    Args:
        errors: of each part that was computed now, how many of its pictures have one.

    Raises:
        OutputError: it cannot be written.
    """
    result = BatchResult(
        out=opened.place.address,
        pictures=opened.plan.pictures,
        errors=sum(errors.values()) + sum(opened.finished.values()),
        parts=opened.plan.parts,
        computed=sum(opened.plan.part_length(part) for part in errors),
        seconds=seconds,
        engine=engine,
    )
    told = {
        "schema_version": 1,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": opened.job.fingerprint,
        **asdict(result),
    }
    opened.place.write(SUMMARY_FILE, (json.dumps(told, indent=2) + "\n").encode())
    return result
