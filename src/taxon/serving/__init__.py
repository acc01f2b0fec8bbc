"""Serving: dynamic batching, the REST and Open Inference Protocol routes, and a page.

Imports neither torch nor anything of training or data: a serving image needs only the base
install.
"""

from taxon.serving.computing.batch import Row
from taxon.serving.computing.batcher import Batcher
from taxon.serving.computing.errors import ComputationFailed, Overloaded
from taxon.serving.http.app import create_app
from taxon.serving.http.server import serve
from taxon.serving.settings import ServingSettings

__all__ = [
    "Batcher",
    "ComputationFailed",
    "Overloaded",
    "Row",
    "ServingSettings",
    "create_app",
    "serve",
]
