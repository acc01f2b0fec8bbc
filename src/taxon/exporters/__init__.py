"""Export: one module a format; `parity` compares every artefact with the bundle."""

from taxon.exporters.formats import FORMATS, Format
from taxon.exporters.parity import compare_backends, compare_golden
from taxon.exporters.parity_report import ParityReport, artefact_reports

__all__ = [
    "FORMATS",
    "Format",
    "ParityReport",
    "artefact_reports",
    "compare_backends",
    "compare_golden",
]
