"""The verbs: the command line and a notebook call the same functions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxon.api.batching import batch_predict, embed
    from taxon.api.benchmarking import benchmark
    from taxon.api.comparing import Comparison, compare
    from taxon.api.evaluation import Evaluation, evaluate
    from taxon.api.exporting import export
    from taxon.api.features import ensure_features
    from taxon.api.inspection import audit
    from taxon.api.model import Model, load
    from taxon.api.prediction import predict
    from taxon.api.previewing import show_batch
    from taxon.api.pushing import push
    from taxon.api.refitting import refit_policy
    from taxon.api.sampling import sample_data
    from taxon.api.searching import Search, search
    from taxon.api.serving import serve
    from taxon.api.splitting import Splitting, split
    from taxon.api.suggesting import Suggestions, suggest
    from taxon.api.training import resume, train
    from taxon.api.verifying import verify
    from taxon.batch.summary import BatchResult

_MODULES = {
    "BatchResult": "batching",
    "Comparison": "comparing",
    "Evaluation": "evaluation",
    "Model": "model",
    "Search": "searching",
    "Splitting": "splitting",
    "Suggestions": "suggesting",
    "audit": "inspection",
    "batch_predict": "batching",
    "benchmark": "benchmarking",
    "compare": "comparing",
    "ensure_features": "features",
    "embed": "batching",
    "evaluate": "evaluation",
    "export": "exporting",
    "load": "model",
    "predict": "prediction",
    "push": "pushing",
    "refit_policy": "refitting",
    "resume": "training",
    "sample_data": "sampling",
    "search": "searching",
    "serve": "serving",
    "show_batch": "previewing",
    "split": "splitting",
    "suggest": "suggesting",
    "train": "training",
    "verify": "verifying",
}

__all__ = [
    "BatchResult",
    "Comparison",
    "Evaluation",
    "Model",
    "Search",
    "Splitting",
    "Suggestions",
    "audit",
    "batch_predict",
    "benchmark",
    "compare",
    "embed",
    "ensure_features",
    "evaluate",
    "export",
    "load",
    "predict",
    "push",
    "refit_policy",
    "resume",
    "sample_data",
    "search",
    "serve",
    "show_batch",
    "split",
    "suggest",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the server needs nothing of training, and starts without it.
    if name in _MODULES:
        return getattr(import_module(f"taxon.api.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'taxon.api' has no attribute '{name}'")
