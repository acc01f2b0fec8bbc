"""How much memory this process may still take, and how much it has taken."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from taxon.core.processes import local_process_count

_FALLBACK = 4 * 2**30
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the free memory in bytes, in a container that of the container; an estimate.

    Where several processes train together on this machine, it is this one's share.
    """
    try:
        free = _system_memory()
    except (OSError, ValueError, KeyError):
        free = _FALLBACK
    with suppress(OSError, ValueError, KeyError):  # without a limit
        free = max(0, min(free, _container_memory()))
    return free // local_process_count()


def peak_memory() -> int | None:
    """Return the bytes of memory (resident) that this process held at most; None: not known here.

    Linux keeps in `ru_maxrss` what the parent held before this program was started in its place;
    /proc tells of this program alone.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text().splitlines()
        found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
        return None if found is None else int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _system_memory() -> int:
    """Bytes that are free or held by caches of files (Linux); else half of all there is."""
    information = Path("/proc/meminfo")
    if information.is_file():
        return _table(information.read_text())["MemAvailable:"] * 1024
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _FALLBACK


def _container_memory() -> int:
    """What the control group (version 2) leaves; ValueError where it has no limit."""
    limit = int((_CONTROL_GROUP / "memory.max").read_text())
    used = int((_CONTROL_GROUP / "memory.current").read_text())
    files = _table((_CONTROL_GROUP / "memory.stat").read_text())["inactive_file"]
    return limit - used + files


def _table(text: str) -> dict[str, int]:
    """`NAME VALUE [UNIT]` lines -> values by name."""
    return {words[0]: int(words[1]) for words in map(str.split, text.splitlines()) if words}
