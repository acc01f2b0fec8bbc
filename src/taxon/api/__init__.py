"""The verbs: the command line and a notebook call the same functions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxon.api.benchmarking import benchmark
    from taxon.api.comparing import Comparison, compare
    from taxon.api.evaluation import Evaluation, evaluate
    from taxon.api.exporting import export
    from taxon.api.inspection import audit
    from taxon.api.model import Model, load
    from taxon.api.prediction import predict
    from taxon.api.previewing import show_batch
    from taxon.api.pushing import push
    from taxon.api.refitting import refit_policy
    from taxon.api.sampling import sample_data
    from taxon.api.serving import serve
    from taxon.api.splitting import Splitting, split
    from taxon.api.training import resume, train
    from taxon.api.verifying import verify

_MODULES = {
    "Comparison": "comparing",
    "Evaluation": "evaluation",
    "Model": "model",
    "Splitting": "splitting",
    "audit": "inspection",
    "benchmark": "benchmarking",
    "compare": "comparing",
    "evaluate": "evaluation",
    "export": "exporting",
    "load": "model",
    "predict": "prediction",
    "push": "pushing",
    "refit_policy": "refitting",
    "resume": "training",
    "sample_data": "sampling",
    "serve": "serving",
    "show_batch": "previewing",
    "split": "splitting",
    "train": "training",
    "verify": "verifying",
}

__all__ = [
    "Comparison",
    "Evaluation",
    "Model",
    "Splitting",
    "audit",
    "benchmark",
    "compare",
    "evaluate",
    "export",
    "load",
    "predict",
    "push",
    "refit_policy",
    "resume",
    "sample_data",
    "serve",
    "show_batch",
    "split",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the server needs nothing of training, and starts without it.
    if name in _MODULES:
        return getattr(import_module(f"taxon.api.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'taxon.api' has no attribute '{name}'")
