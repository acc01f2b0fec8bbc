"""Serving: dynamic batching, the REST and Open Inference Protocol routes, and a page.

Imports neither torch nor anything of training or data: a serving image needs only the base
install.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taxon.serving.computing.batch import Row
from taxon.serving.computing.batcher import Batcher
from taxon.serving.computing.errors import ComputationFailed, Overloaded
from taxon.serving.settings import ServingSettings

if TYPE_CHECKING:
    from taxon.serving.http.app import create_app
    from taxon.serving.http.server import serve

_HTTP = {"create_app": "app", "serve": "server"}

__all__ = [
    "Batcher",
    "ComputationFailed",
    "Overloaded",
    "Row",
    "ServingSettings",
    "create_app",
    "serve",
]


def __getattr__(name: str) -> Any:
    # On first use: FastAPI takes as long to import as a model to open, and processes that compute
    # need none of it.
    if name in _HTTP:
        return getattr(import_module(f"taxon.serving.http.{_HTTP[name]}"), name)
    raise AttributeError(f"module 'taxon.serving' has no attribute '{name}'")
