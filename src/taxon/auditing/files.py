"""Files: what cannot be read, what is not what it says, and rows that were passed over."""

from __future__ import annotations

from pathlib import PurePosixPath

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding, Severity
from taxon.auditing.wording import counted, identifiers, pictures
from taxon.data import Skipped
from taxon.data.plan import Drop, Plan
from taxon.preprocessing.decode import SUFFIX_FORMATS

MANY_UNREADABLE = 0.1

# The kind of what was skipped -> the check's name, the figure and what can be done.
_PICTURES = {
    "missing": ("missing_files", "not there or not to be read", "Restore them"),
    "empty": ("empty_files", "without any content", "Fetch them again"),
    "truncated": (
        "truncated",
        "with an early end",
        "Fetch them again, or fill what is missing with grey (--truncated fill)",
    ),
    "damaged": ("damaged", "with damaged content", "Fetch or export them again"),
    "format": ("unknown_format", "in no format that can be read", "Convert them"),
    "too-large": (
        "too_large",
        "with more pixels or bytes than is allowed, like a decompression bomb",
        "Reduce them, or allow more if they are meant (--max-pixels; in training --set "
        "preprocessing.max_pixels=N)",
    ),
    "changed": (
        "changed",
        "with other content than when the manifest was written",
        "Restore them, or make the manifest anew from the folder or table",
    ),
    "name": ("unusable_names", "with a name that is not UTF-8", "Rename them"),
}


def check_files(evidence: Evidence) -> list[Finding]:
    """Pictures and rows that were left out and why; filled and wrongly named files."""
    skipped = evidence.manifest.skipped
    found = []
    for kind, (check, what, remedy) in _PICTURES.items():
        rows = [row for row in skipped if row.kind == kind]
        if rows:
            advice = f"{pictures(len(rows))} {what}: left out{_first(rows)}. {remedy}."
            severity: Severity = "warning"
            if len(rows) > MANY_UNREADABLE * (len(rows) + len(evidence.manifest)):
                severity = "error"
            found.append(_of_skipped(check, severity, rows, advice))
    if rows := [row for row in skipped if row.kind == "row"]:
        what = counted(len(rows), "row was", "rows were")
        advice = f"{what} passed over{_first(rows)}. Mend them where they are written."
        found.append(_of_skipped("rows_passed_over", "warning", rows, advice))
    if rows := [row for row in skipped if row.kind == "plan"]:
        advice = f"{pictures(len(rows))} left out by the plan."
        found.append(_of_skipped("dropped_by_plan", "info", rows, advice))
    return [*found, *_filled(evidence), *_wrong_suffix(evidence)]


def _first(rows: list[Skipped]) -> str:
    return f" (say {rows[0].id}: {rows[0].reason})"


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
    return [
        Finding(
            check="filled",
            severity="warning",
            record_ids=identifiers(records),
            score=len(records) / len(evidence.records),
            advice=f"{pictures(len(records))} with an early end: what is missing was filled with "
            "grey, as the preprocessing says. Fetch them again, or leave them out.",
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
            f"{what}). They are read by their content; other programs may refuse them.",
        )
    ]
