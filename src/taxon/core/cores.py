"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from taxon.core.processes import local_process_count

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Return the cores that this process may use: in a container often fewer than there are.

    Where a control group limits its time (`--cpus` of Docker, `limits.cpu` of Kubernetes), as many
    whole cores as that is, 1 at least: with more threads the time would be over before the period
    is, and all of them would wait for the next one.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, int(min(cores, _limit())))


def share_of_cores() -> int:
    """Return this process's share of them, where several train together on this machine."""
    return max(1, available_cores() // local_process_count())


def _limit() -> float:
    """Return the cores' worth of time that the control groups allow; infinity where none limits."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _GROUPS / "cpu" if controllers else _GROUPS
        group = root / path.lstrip("/")
        # Each group above has its own limit. In a container the path may be that of the host, and
        # the group itself lies at the root.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                limits.append(_limit_of(folder))
    return min(limits)


def _limit_of(group: Path) -> float:
    """Return the limit of one control group, of version 2 or 1."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
    except OSError:  # the group is not to be seen here, or has no controller of time
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
