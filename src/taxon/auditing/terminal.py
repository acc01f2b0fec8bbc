"""The report for the terminal: a line a finding."""

from __future__ import annotations

from taxon.auditing.finding import SEVERITIES
from taxon.auditing.report import AuditReport
from taxon.auditing.wording import pictures
from taxon.core.text import counted, one_line


def text_lines(report: AuditReport) -> list[str]:
    """Return one line about the data, one a note on them, one a finding (the severity first), and
    what did not run."""
    about = report.about
    what = ("tag", "tags") if about.task == "multilabel" else ("class", "classes")
    parts = ", ".join(f"{part} {count:,}" for part, count in about.parts.items())
    lines = [
        f"{pictures(about.pictures)} of {counted(about.classes, *what)}"
        + (f" ({parts})" if parts else "")
        + (f", {about.skipped:,} left out" if about.skipped else "")
    ]
    lines += [f"data     {note}" for note in about.notes]
    lines += [
        f"{finding.severity:<8} {finding.check}: {finding.advice}" for finding in report.findings
    ]
    lines += [f"not run  {check}: {reason}" for check, reason in report.not_run.items()]
    return [one_line(line) for line in (*lines, verdict(report))]


def verdict(report: AuditReport) -> str:
    """The whole in a sentence."""
    count = len(report.not_run)
    without = f" ({counted(count, 'check', 'checks')} not run)" if count else ""
    return _verdict(report) + without


def _verdict(report: AuditReport) -> str:
    if not report.findings:
        return "Nothing was found."
    words = {"error": ("error", "errors"), "warning": ("warning", "warnings")}
    listed = ", ".join(
        counted(report.count(severity), *words.get(severity, ("note", "notes")))
        for severity in SEVERITIES
        if report.count(severity)
    )
    if report.count("error"):
        return f"{listed}: mend the errors before you train, or scores will mislead."
    if report.count("warning"):
        return f"{listed}: look at the warnings before you trust a score."
    return f"{listed}: nothing that stands in the way of training."
