"""Files: what cannot be read, what is not what it says, and rows that were passed over."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding, Severity
from taxon.auditing.wording import identifiers, pictures
from taxon.core.limits import LARGEST_PICTURE
from taxon.core.text import agree, counted
from taxon.data import Skipped
from taxon.data.plan import Drop, Plan
from taxon.preprocessing.decode import MAXIMUM_FILE_BYTES, SUFFIX_FORMATS

MANY_UNREADABLE = 0.1

_SIZE = re.compile(r"(\d+)x(\d+) is over")  # how `decode` says that a picture is too large
# The kind of what was skipped -> the check's name, the figure and what can be done.
_PICTURES = {
    "missing": ("missing_files", "not there or not to be read", "Restore {them}"),
    "empty": ("empty_files", "without any content", "Fetch {them} again"),
    "truncated": (
        "truncated",
        "with an early end",
        "Fetch {them} again, or fill what is missing with grey (--truncated fill)",
    ),
    "damaged": ("damaged", "with damaged content", "Fetch or export {them} again"),
    "format": ("unknown_format", "in no format that can be read", "Convert {them}"),
    "too-large": (
        "too_large",
        "with more pixels or bytes than is allowed, like a decompression bomb",
        "Make {them} smaller",
    ),
    "changed": (
        "changed",
        "with other content than when the manifest was written",
        "Restore {them}, or make the manifest anew from the folder or table",
    ),
    "name": ("unusable_names", "with a name that is not UTF-8", "Rename {them}"),
}


def check_files(evidence: Evidence) -> list[Finding]:
    """Pictures and rows that were left out and why; filled and wrongly named files."""
    skipped = evidence.manifest.skipped
    found = []
    for kind, (check, what, remedy) in _PICTURES.items():
        rows = [row for row in skipped if row.kind == kind]
        if rows:
            advice = f"{pictures(len(rows))} {what}: left out{_first(rows)}. "
            advice += remedy.format(them=agree(len(rows), "it", "them"))
            advice += f"{_allowing(rows) if kind == 'too-large' else ''}."
            severity: Severity = "warning"
            if len(rows) > MANY_UNREADABLE * (len(rows) + len(evidence.manifest)):
                severity = "error"
            found.append(_of_skipped(check, severity, rows, advice))
    if rows := [row for row in skipped if row.kind == "row"]:
        what = counted(len(rows), "row was", "rows were")
        mend = agree(len(rows), "it where it is", "them where they are")
        advice = f"{what} passed over{_first(rows)}. Mend {mend} written."
        found.append(_of_skipped("rows_passed_over", "warning", rows, advice))
    if rows := [row for row in skipped if row.kind == "plan"]:
        advice = f"{pictures(len(rows))} left out by the plan."
        found.append(_of_skipped("dropped_by_plan", "info", rows, advice))
    return [*found, *_filled(evidence), *_wrong_suffix(evidence)]


def _first(rows: list[Skipped]) -> str:
    return f" ({agree(len(rows), '', 'say ')}{rows[0].id}: {rows[0].reason})"


def _allowing(rows: list[Skipped]) -> str:
    """How to allow pictures that are not too large for every option."""
    found = [_SIZE.match(row.reason) for row in rows]
    pixels = [int(size[1]) * int(size[2]) for size in found if size is not None]
    allowed = [count for count in pixels if count <= LARGEST_PICTURE]
    limit = (
        f"above {LARGEST_PICTURE:,} pixels, or {MAXIMUM_FILE_BYTES >> 30} GB of file, no option "
        "helps"
    )
    if not allowed:
        return f": {limit}"
    largest = max(allowed)
    which = "" if len(allowed) == len(rows) else f" {len(allowed)} of them"
    return (
        f", or allow{which or ' more'} if {agree(len(allowed), 'it is', 'they are')} meant "
        f"(--max-pixels {largest}; in training --set preprocessing.max_pixels={largest})"
        + (f"; {limit}" if which else "")
    )


def _of_skipped(check: str, severity: Severity, rows: list[Skipped], advice: str) -> Finding:
    return Finding(
        check=check,
        severity=severity,
        record_ids=tuple(row.id for row in rows),
        details=tuple(row.reason for row in rows),
        score=float(len(rows)),
        advice=advice,
    )


def _filled(evidence: Evidence) -> list[Finding]:
    records = [record for record in evidence.records if record.look and record.look.truncated]
    if not records:
        return []
    them = agree(len(records), "it", "them")
    return [
        Finding(
            check="filled",
            severity="warning",
            record_ids=identifiers(records),
            score=len(records) / len(evidence.records),
            advice=f"{pictures(len(records))} with an early end: what is missing was filled with "
            f"grey, as the preprocessing says. Fetch {them} again, or leave {them} out.",
            plan=Plan(
                drop=tuple(Drop(id=record.id, reason="the file ends early") for record in records)
            ),
        )
    ]


def _wrong_suffix(evidence: Evidence) -> list[Finding]:
    found = []
    for record in evidence.records:
        suffix = PurePosixPath(record.id).suffix.lower()
        if record.look and record.look.format not in SUFFIX_FORMATS.get(
            suffix, (record.look.format,)
        ):
            found.append((record.id, f"{suffix} holds {record.look.format}"))
    if not found:
        return []
    name, what = found[0]
    return [
        Finding(
            check="wrong_suffix",
            severity="info",
            record_ids=tuple(name for name, _ in found),
            details=tuple(what for _, what in found),
            score=len(found) / len(evidence.records),
            advice=f"{pictures(len(found))} of another format than the suffix says (say {name}: "
            f"{what}). {agree(len(found), 'It is read by its', 'They are read by their')} content; "
            f"other programs may refuse {agree(len(found), 'it', 'them')}.",
        )
    ]
