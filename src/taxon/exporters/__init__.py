"""Export: one module a format; `parity` compares every artefact with the bundle."""

from taxon.exporters.parity import ParityReport, compare_backends, compare_golden

__all__ = ["ParityReport", "compare_backends", "compare_golden"]
