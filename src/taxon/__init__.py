"""taxon: from a folder of images to a classifier that a team can trust and run.

import taxon
model = taxon.train("photos/")
model.predict("a.jpg").label
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taxon.api import (
        BatchResult,
        Comparison,
        Evaluation,
        Model,
        Search,
        Splitting,
        Suggestions,
        audit,
        batch_predict,
        benchmark,
        compare,
        embed,
        evaluate,
        export,
        load,
        predict,
        push,
        refit_policy,
        resume,
        sample_data,
        search,
        serve,
        show_batch,
        split,
        suggest,
        train,
        verify,
    )
    from taxon.client import AsyncClient, Client, ServerError
    from taxon.core.errors import CheckFailed, InputError, TaxonError

    __version__: str

__all__ = [
    "AsyncClient",
    "BatchResult",
    "CheckFailed",
    "Client",
    "Comparison",
    "Evaluation",
    "InputError",
    "Model",
    "Search",
    "ServerError",
    "Splitting",
    "Suggestions",
    "TaxonError",
    "__version__",
    "audit",
    "batch_predict",
    "benchmark",
    "compare",
    "embed",
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

_CLIENT = ("AsyncClient", "Client", "ServerError")
_ERRORS = ("CheckFailed", "InputError", "TaxonError")


if not TYPE_CHECKING:  # else a checker would take any name for one of these

    def __getattr__(name: str) -> Any:
        # Loaded on first use: `taxon --help` and the server must not wait for what they don't need.
        if name == "__version__":
            from taxon.core.versions import taxon_version

            return taxon_version()
        if name in _ERRORS:
            from taxon.core import errors

            return getattr(errors, name)
        if name in _CLIENT:
            from taxon import client

            return getattr(client, name)
        if name in __all__:
            from taxon import api

            return getattr(api, name)
        raise AttributeError(f"module 'taxon' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
