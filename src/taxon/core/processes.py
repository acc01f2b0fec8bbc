"""Which of several processes this is: torchrun starts several, and says so in the environment."""

from __future__ import annotations

import os

# All of them come from torchrun; some other programs set one or two of them.
_NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def process_count() -> int:
    """How many processes train one model together, on all machines; 1 without torchrun."""
    return max(1, _number("WORLD_SIZE", 1))


def local_process_count() -> int:
    """How many of them share this machine."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1))


def process_number() -> int:
    """This one's number, from 0; the first reads, chooses, writes and speaks for all."""
    return _number("RANK", 0)


def follows() -> bool:
    """Whether another process is the first."""
    return process_count() > 1 and process_number() > 0


def _number(name: str, alone: int) -> int:
    if not all(os.environ.get(needed) for needed in _NEEDED):
        return alone
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else alone
