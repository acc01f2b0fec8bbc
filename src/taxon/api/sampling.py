"""Sample data: a generated data set to try things on."""

from __future__ import annotations

from pathlib import Path

from taxon.data.samples import SampleKind, generate_samples


def sample_data(
    kind: SampleKind, out: str | Path, *, seed: int = 0, overwrite: bool = False
) -> dict[str, int]:
    """Write about 600 generated pictures of surfaces; return how many there are of each class.

    Args:
        kind: `defects` (multi-class, imbalanced), `tags` (multi-label) or `taxonomy` (two
            levels).
        seed: the same seed gives the same pictures.

    Raises:
        OutputError: `out` exists and holds something, and `overwrite` is off.
    """
    return generate_samples(kind, Path(out), seed=seed, overwrite=overwrite)
