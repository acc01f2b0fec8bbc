"""Ray is an optional extra."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from taxon.core.errors import MissingDependencyError
from taxon.core.versions import DISTRIBUTION


def require_ray(part: str = "") -> Any:
    """Import Ray, or a part of it, and return it.

    Args:
        part: `serve`, `train` or `data`; empty: Ray itself.

    Raises:
        MissingDependencyError: it is not installed, with the line that installs it.
    """
    # Nothing is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its core writes to standard error past all loggers, also what is none (that an actor which is
    # started anew must find its arguments).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        return import_module(f"ray.{part}" if part else "ray")
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs Ray ({error}); install it with `pip install '{DISTRIBUTION}[ray]'`"
        ) from error
