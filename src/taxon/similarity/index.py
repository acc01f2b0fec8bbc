"""An index over features that is asked many times: FAISS where it is installed and pays.

Measured on a busy machine with 512 features a row (docs/adr/0028): FAISS's exact (flat) index is
no faster than a matrix product; HNSW takes minutes to build where inverted lists take seconds, for
the same recall. So there are two kinds: exact by NumPy, and inverted lists. These must be built,
which costs as much as thousands of exact queries.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from taxon.core.errors import ConfigError, MissingDependencyError
from taxon.core.predictions import FloatArray
from taxon.core.versions import DISTRIBUTION, installed_version
from taxon.similarity.neighbours import Nearest, Neighbours, nearest, unit_rows

Kind = Literal["exact", "ivf"]
# From so many rows and queries on, building the lists takes less time than they save; reckoned from
# measurements at 20,000 and 100,000 rows.
PAYS_FROM_ROWS, PAYS_FROM_QUERIES = 100_000, 2_000
_LISTS = 4  # times the square root of the rows
_SHARE_PROBED = 32  # of the lists one in so many is looked into, and 16 at least
_TRAINED_ON = 40  # rows a list
_PACKAGE = "faiss-cpu"


class Index(Protocol):
    """Rows that can be asked for their nearest; `kind` says how."""

    @property
    def kind(self) -> Kind: ...

    def search(self, queries: FloatArray, count: int) -> Neighbours:
        """The `count` nearest of each query, float32 [Q, F]."""


def build_index(features: FloatArray, *, queries: int, kind: Kind | None = None) -> Index:
    """Make an index over features, float32 [N, F].

    Args:
        queries: how many will be asked, roughly.
        kind: `exact`, or `ivf`: inverted lists (FAISS), which may miss some of the nearest; None:
            `ivf` where it is installed and pays, else `exact`.

    Raises:
        ConfigError: no such kind.
        MissingDependencyError: FAISS is asked for and not installed.
        DataError: features that are no numbers.
    """
    kind = kind or _chosen(len(features), queries)
    if kind == "exact":
        return _Exact(features)
    if kind != "ivf":
        raise ConfigError(f"unknown kind of index '{kind}'; allowed: exact, ivf")
    if installed_version(_PACKAGE) is None:
        raise MissingDependencyError(
            f"the index '{kind}' needs {_PACKAGE}, not installed here; type: pip install "
            f"'{DISTRIBUTION}[search]'"
        )
    return _InvertedLists(features)


def _chosen(rows: int, queries: int) -> Kind:
    pays = rows >= PAYS_FROM_ROWS and queries >= PAYS_FROM_QUERIES
    return "ivf" if pays and installed_version(_PACKAGE) is not None else "exact"


class _Exact:
    """All rows, every time."""

    kind: Kind = "exact"

    def __init__(self, features: FloatArray) -> None:
        self._unit = unit_rows(features)

    def search(self, queries: FloatArray, count: int) -> Neighbours:
        return nearest(queries, self._unit, count)


class _InvertedLists:
    """The rows in lists by their nearest centre, of which a query looks into a share.

    What FAISS finds is ordered anew by exact sums, so that equal rows are in the order of their
    numbers. A query whose lists hold too few rows is answered by all rows.
    """

    kind: Kind = "ivf"

    def __init__(self, features: FloatArray) -> None:
        import faiss

        self._unit = unit_rows(features)
        count, size = self._unit.shape
        lists = max(1, min(round(_LISTS * count**0.5), count // _TRAINED_ON))
        centres = faiss.IndexFlatIP(size)
        self._index: Any = faiss.IndexIVFFlat(centres, size, lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.niter = 10
        self._index.cp.min_points_per_centroid = 1
        drawn = np.random.default_rng(0).permutation(count)[: lists * _TRAINED_ON]
        self._index.train(self._unit[np.sort(drawn)])
        self._index.add(self._unit)
        self._index.nprobe = min(lists, max(16, lists // _SHARE_PROBED))

    def search(self, queries: FloatArray, count: int) -> Neighbours:
        Nearest(queries, count)  # checks both
        count = min(count, len(self._unit))
        _, found = self._index.search(unit_rows(queries), count)
        rows = np.empty((len(queries), count), np.int64)
        similarities = np.empty((len(queries), count), np.float32)
        for query, candidates in enumerate(found):
            near = np.sort(candidates[candidates >= 0])
            if len(near) < count:
                near = np.arange(len(self._unit))
            exact = nearest(queries[query : query + 1], self._unit[near], count)
            rows[query] = near[exact.rows[0]]
            similarities[query] = exact.similarities[0]
        return Neighbours(rows, similarities)
