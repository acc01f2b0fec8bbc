"""Sample data: made-up pictures of surfaces with defects, for trying taxon without own data."""

from taxon.data.samples.generate import SAMPLE_KINDS, SampleKind, generate_samples

__all__ = ["SAMPLE_KINDS", "SampleKind", "generate_samples"]
