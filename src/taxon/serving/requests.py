"""What every request has, whatever carries it: an id, and a line in the log."""

from __future__ import annotations

import logging
import re
import secrets

HEADER = "x-request-id"
_log = logging.getLogger("taxon.access")
# An id of the client's own is taken over, if it can do no harm in a log.
_HARMLESS = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def identity_of(given: str) -> str:
    """Return a request's id: the client's own, or a new one."""
    return given if _HARMLESS.fullmatch(given) else secrets.token_hex(8)


def log_request(method: str, path: str, status: int, seconds: float) -> None:
    """Write a request's line, where such lines are wanted."""
    if _log.isEnabledFor(logging.INFO):
        _log.info(
            "%s %s %d",
            method,
            path,
            status,
            extra={
                "method": method,
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 1),
            },
        )
