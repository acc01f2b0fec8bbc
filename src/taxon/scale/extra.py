"""Ray is an optional extra."""

from __future__ import annotations

from importlib import import_module

from taxon.core.errors import MissingDependencyError


def require_ray(part: str) -> None:
    """Import a part of Ray.

    Args:
        part: `serve`, `train` or `data`.

    Raises:
        MissingDependencyError: it is not installed, with the line that installs it.
    """
    try:
        import_module(f"ray.{part}")
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs Ray ({error}); install it with `pip install 'taxon-vision[ray]'`"
        ) from error
