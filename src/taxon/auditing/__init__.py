"""Audit: look at the data before training; each check gives findings of one shape."""

from taxon.auditing.checks import CHECKS, run_audit
from taxon.auditing.finding import Finding

__all__ = ["CHECKS", "Finding", "run_audit"]
