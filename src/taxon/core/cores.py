"""How many cores this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the cores that this process may use: in a container often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
