"""Figures of speed that were measured on this machine: kept, so that the next start has them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from taxon.core.cache import cache_folder
from taxon.core.errors import OutputError
from taxon.core.files import write_json
from taxon.core.fingerprint import sha256_json
from taxon.core.machine import machine_fingerprint

Figures = dict[str, float]
_log = logging.getLogger("taxon.core")


def measured_once(
    kind: str, key: Mapping[str, object], measure: Callable[[], Mapping[str, float]]
) -> Figures:
    """Return what was measured here before under this key; else measure it now, and keep it.

    Args:
        kind: what it is about; the name of its folder in the cache.
        key: all that the figures depend on, but for the machine.
    """
    known = kept_figures(kind, key)
    if known is not None:
        return known
    found = dict(measure())
    keep_figures(kind, key, found)
    return found


def kept_figures(kind: str, key: Mapping[str, object]) -> Figures | None:
    """Return what was kept; None where nothing was, or the cache cannot be used."""
    try:
        found = json.loads(_file(kind, key).read_text(encoding="utf-8"))
    except (OSError, ValueError, OutputError):
        return None
    if (
        isinstance(found, dict)
        and found
        and all(isinstance(each, float) for each in found.values())
    ):
        return found
    return None


def keep_figures(kind: str, key: Mapping[str, object], figures: Figures) -> None:
    """Keep what was measured; on a disk that cannot be written it is measured again next time."""
    try:
        write_json(_file(kind, key), figures)
    except (OSError, OutputError) as error:
        _log.info("what was measured (%s) is not kept: %s", kind, error)


def _file(kind: str, key: Mapping[str, object]) -> Path:
    return cache_folder(kind) / f"{sha256_json({**key, 'machine': machine_fingerprint()})}.json"
