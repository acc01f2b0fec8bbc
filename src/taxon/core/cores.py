"""How many cores this process may use."""

from __future__ import annotations

import os

from taxon.core.processes import local_process_count


def available_cores() -> int:
    """Return the cores that this process may use: in a container often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_of_cores() -> int:
    """Return this process's share of them, where several train together on this machine."""
    return max(1, available_cores() // local_process_count())
