"""Durations in words."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Say a duration as a person would: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
