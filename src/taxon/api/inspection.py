"""Audit: look at a data set before training on it."""

from __future__ import annotations

from pathlib import Path

from taxon.auditing import Finding, run_audit
from taxon.data import Columns, load_manifest


def audit(data: str | Path, *, columns: Columns | None = None) -> list[Finding]:
    """Look into every picture of a data set and return what was found, in order of the checks.

    Raises:
        DataError: no data set there.
    """
    return run_audit(load_manifest(Path(data), columns))
