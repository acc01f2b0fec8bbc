"""Limits that libraries set to what users may ask for."""

from __future__ import annotations

from taxon.core.errors import ConfigError

# In pixels: Pillow's own limit, twice the one from which it warns.
LARGEST_PICTURE = 178_956_970
SEEDS = 2**32  # what NumPy, scikit-learn and torch all take


def require_seed(seed: int) -> None:
    """Refuse a seed that some library would not take.

    Raises:
        ConfigError: below 0, or 2**32 and more.
    """
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"a seed is from 0 to {SEEDS - 1}, received {seed}")
