"""Audit: look at the data before training; each check gives findings of one shape."""

from taxon.auditing.finding import Finding
from taxon.auditing.label_issues import find_label_issues, out_of_fold_probabilities
from taxon.auditing.next_commands import NextCommands
from taxon.auditing.page import write_page
from taxon.auditing.report import AuditReport
from taxon.auditing.run import CHECKS, LOOK_ALIKES, quick_findings, run_audit
from taxon.auditing.terminal import text_lines

__all__ = [
    "CHECKS",
    "LOOK_ALIKES",
    "AuditReport",
    "Finding",
    "NextCommands",
    "find_label_issues",
    "out_of_fold_probabilities",
    "quick_findings",
    "run_audit",
    "text_lines",
    "write_page",
]
