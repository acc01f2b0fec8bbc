"""Export: one module a format; `parity` compares every artefact with the bundle."""

from taxon.exporters.formats import FORMATS, Format
from taxon.exporters.parity import (
    ParityReport,
    artefact_reports,
    compare_backends,
    compare_golden,
)

__all__ = [
    "FORMATS",
    "Format",
    "ParityReport",
    "artefact_reports",
    "compare_backends",
    "compare_golden",
]
