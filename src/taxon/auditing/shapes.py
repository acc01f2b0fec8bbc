"""Shapes: pictures too small for the model or oddly long, and what a centre crop cuts away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding, Severity
from taxon.auditing.wording import identifiers, percent, pictures
from taxon.core.text import agree
from taxon.data import Manifest, Record
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.transform import kept_area

TINY = 32  # pixels of the shorter side
ENLARGED = 2.0
LONG = 3.0
# A square picture loses 23 % to the usual crop fraction of 0.875, a 4:3 photo 43 %.
MUCH_CUT_AWAY = 0.5
OFTEN = 0.1


def check_shapes(evidence: Evidence) -> list[Finding]:
    """Tiny, enlarged and very long pictures; a centre crop that loses much."""
    records = [record for record in evidence.records if record.width and record.height]
    found: list[Finding] = []
    tiny = [record for record in records if _shorter(record) < TINY]
    if tiny:
        tiny.sort(key=_shorter)
        advice = (
            f"{pictures(len(tiny))} below {TINY} pixels (the smallest {_size(tiny[0])}): there is "
            f"little to see in {agree(len(tiny), 'it', 'them')}. Leave out what you cannot tell "
            "yourself."
        )
        found.append(_finding("tiny", "warning", tiny, evidence, advice))
    side = min(evidence.spec.width, evidence.spec.height)
    small = [record for record in records if TINY <= _shorter(record) < side / ENLARGED]
    if len(small) > OFTEN * len(records):
        small.sort(key=_shorter)
        advice = (
            f"{pictures(len(small))} smaller than half of the model's input of "
            f"{evidence.spec.width}x{evidence.spec.height} (the smallest {_size(small[0])}): "
            f"{agree(len(small), 'it is', 'they are')} enlarged. A smaller input "
            "(preprocessing.size) is faster and may do as well."
        )
        found.append(_finding("enlarged", "info", small, evidence, advice))
    return [*found, *_long(records, evidence), *_cut_away(records, evidence)]


def cut_away(manifest: Manifest, spec: Preprocessing) -> npt.NDArray[np.float64]:
    """The share of each picture's area that a centre crop of the spec cuts off, float64 [N];
    pictures of unknown size are left out."""
    sizes = [(record.width, record.height) for record in manifest.records]
    return np.array([1 - kept_area(size, spec) for size in sizes if min(size) > 0], np.float64)


def _long(records: list[Record], evidence: Evidence) -> list[Finding]:
    """Pictures much longer than wide, in a set where most are not."""
    if not records:
        return []
    ratios = [_aspect(record) for record in records]
    limit = max(LONG, 2 * float(np.median(ratios)))
    long = [record for record, ratio in zip(records, ratios, strict=True) if ratio > limit]
    if not long:
        return []
    long.sort(key=lambda record: -_aspect(record))
    them, belong = agree(len(long), "it", "them"), agree(len(long), "it belongs", "they belong")
    advice = (
        f"{pictures(len(long))} more than {limit:.1f} times as long as wide (the longest "
        f"{_size(long[0])}; the median of all is {np.median(ratios):.1f}): a crop shows a small "
        f"part of {them}, squashing distorts {them}. Cut {them}, or look whether {belong} here."
    )
    return [_finding("extreme_aspect", "info", long, evidence, advice)]


def _cut_away(records: list[Record], evidence: Evidence) -> list[Finding]:
    if evidence.spec.resize != "crop" or not records:
        return []
    lost = cut_away(evidence.manifest, evidence.spec)
    much = lost > MUCH_CUT_AWAY
    if float(much.mean()) < OFTEN:
        return []
    order = np.argsort(-lost, kind="stable")[: int(much.sum())]
    worst = [records[position] for position in order]
    median = float(np.median(lost))
    return [
        Finding(
            check="centre_crop",
            severity="warning" if median > MUCH_CUT_AWAY else "info",
            record_ids=identifiers(worst),
            details=tuple(
                f"{_size(records[position])}, {lost[position]:.0%} cut away" for position in order
            ),
            score=median,
            advice=f"a centre crop to {evidence.spec.width}x{evidence.spec.height} would cut away "
            f"{percent(median)} of the area of the median picture and {percent(lost.max())} of the "
            "worst. If what matters lies near the edges, squash or pad instead "
            "(preprocessing.resize=squash); train compares them by itself.",
        )
    ]


def _finding(
    check: str, severity: Severity, records: list[Record], evidence: Evidence, advice: str
) -> Finding:
    return Finding(
        check=check,
        severity=severity,
        record_ids=identifiers(records),
        details=tuple(_size(record) for record in records),
        score=len(records) / len(evidence.records),
        advice=advice,
    )


def _shorter(record: Record) -> int:
    return min(record.width, record.height)


def _aspect(record: Record) -> float:
    return max(record.width, record.height) / min(record.width, record.height)


def _size(record: Record) -> str:
    return f"{record.width}x{record.height}"
