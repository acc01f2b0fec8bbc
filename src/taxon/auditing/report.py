"""The report of an audit: one value, for text, JSON and the page."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from taxon.auditing.finding import SEVERITIES, Finding, Severity
from taxon.auditing.shapes import cut_away
from taxon.core.labels import Task
from taxon.core.versions import taxon_version
from taxon.data import Manifest
from taxon.data.plan import Plan, merge_plans
from taxon.preprocessing import Preprocessing

MOST_SIZES = 300


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Model):
    """The smallest, the median and the largest of some values."""

    smallest: float
    median: float
    largest: float


class Sizes(_Model):
    """The sizes of the pictures.

    Attributes:
        width, height: in pixels.
        aspect: width by height.
        cut_away: the share of the area that the spec's centre crop would cut off; None where
            the spec does not crop.
        most_frequent: (width, height, pictures), the most frequent first, at most 300.
    """

    width: Spread
    height: Spread
    aspect: Spread
    cut_away: Spread | None
    most_frequent: tuple[tuple[int, int, int], ...]


class About(_Model):
    """What was looked at.

    Attributes:
        pictures: that can be read.
        skipped: pictures and rows that were left out.
        parts: pictures of each part, where the data bring a split.
        fingerprint: of the manifest.
        features_from: the backbone whose features were used, or empty.
        input_size: width and height of the model's input that shapes were compared with.
    """

    root: str
    task: Task
    pictures: int
    skipped: int
    classes: int
    parts: dict[str, int]
    fingerprint: str
    features_from: str
    input_size: tuple[int, int]
    notes: tuple[str, ...]
    taxon: str


class AuditReport(_Model):
    """What an audit found.

    Attributes:
        class_counts: class -> part -> pictures; the part is `all` for pictures without one.
        sizes: None where no size is known.
        findings: errors first, then warnings, then what is good to know.
        ran: check -> seconds.
        not_run: check -> why, and how it could be.
        next_commands: what to type once the plan was read and edited; empty where none was
            written.
    """

    about: About
    class_counts: dict[str, dict[str, int]]
    sizes: Sizes | None
    findings: tuple[Finding, ...]
    ran: dict[str, float]
    not_run: dict[str, str]
    next_commands: tuple[str, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def leaks(self) -> bool:
        """Whether something lies on both sides of the data's own split."""
        return any(finding.check.startswith("leaked_") for finding in self.findings)

    @property
    def plan(self) -> Plan:
        """The plans of all findings as one, for a person to edit."""
        return merge_plans(finding.plan for finding in self.findings)


def make_report(
    manifest: Manifest,
    spec: Preprocessing,
    features_from: str,
    findings: list[Finding],
    ran: dict[str, float],
    not_run: dict[str, str],
) -> AuditReport:
    """Put the findings into order and describe what was looked at."""
    about = About(
        root=str(manifest.root),
        task=manifest.label_space.task,
        pictures=len(manifest),
        skipped=len(manifest.skipped),
        classes=len(manifest.label_space.names),
        parts=dict(manifest.split_counts()),
        fingerprint=manifest.fingerprint,
        features_from=features_from,
        input_size=(spec.width, spec.height),
        notes=manifest.notes,
        taxon=taxon_version(),
    )
    return AuditReport(
        about=about,
        class_counts=_class_counts(manifest),
        sizes=_sizes(manifest, spec),
        findings=tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity))),
        ran=ran,
        not_run=not_run,
    )


def _class_counts(manifest: Manifest) -> dict[str, dict[str, int]]:
    found = Counter(
        (label, str(record.split or "all"))
        for record in manifest.records
        for label in record.labels
    )
    parts = [*manifest.split_counts(), "all"]
    return {
        name: {part: found[name, part] for part in parts if found[name, part]}
        for name in manifest.label_space.names
    }


def _sizes(manifest: Manifest, spec: Preprocessing) -> Sizes | None:
    sizes = [(record.width, record.height) for record in manifest.records]
    sizes = [size for size in sizes if min(size) > 0]
    if not sizes:
        return None
    values = np.array(sizes, np.float64)
    frequent = Counter(sizes).most_common(MOST_SIZES)
    return Sizes(
        width=_spread(values[:, 0]),
        height=_spread(values[:, 1]),
        aspect=_spread(values[:, 0] / values[:, 1]),
        cut_away=_spread(cut_away(manifest, spec)) if spec.resize == "crop" else None,
        most_frequent=tuple((width, height, count) for (width, height), count in frequent),
    )


def _spread(values: npt.NDArray[np.float64]) -> Spread:
    return Spread(
        smallest=float(values.min()),
        median=float(np.median(values)),
        largest=float(values.max()),
    )
