"""The nearest rows of each row, among the others."""

from __future__ import annotations

import numpy as np

from taxon.core.predictions import FloatArray
from taxon.similarity.index import Kind, build_index
from taxon.similarity.neighbours import Neighbours

_QUERIES = 1024  # at once: their similarities with a block of rows take 16 MB


def neighbours_within(
    features: FloatArray, count: int, *, kind: Kind | None = None, centred: bool = False
) -> Neighbours:
    """Find the most similar other rows of each row.

    Args:
        features: float32 [N, F].
        count: K; N - 1 where there are fewer.
        kind: of the index, as for `build_index`.
        centred: take the mean row off first. Pictures of one kind of thing have features of nearly
            one direction: what sets a picture apart shows then.

    Returns:
        rows and similarities, [N, K].

    Raises:
        ConfigError: a count below 1.
        DataError: features that are no numbers.
    """
    if centred and len(features):
        features = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    index = build_index(features, queries=len(features), kind=kind)
    found_rows = np.zeros((len(features), min(count, max(0, len(features) - 1))), np.int64)
    similarities = np.zeros(found_rows.shape, np.float32)
    for start in range(0, len(features), _QUERIES):
        part = slice(start, min(start + _QUERIES, len(features)))
        # One more than is wanted: the row itself, which falls out. Of many equal rows it may not
        # be among them; then the last does.
        found = index.search(features[part], found_rows.shape[1] + 1)
        others = found.rows != np.arange(part.start, part.stop)[:, None]
        others[others.all(axis=1), -1] = False
        found_rows[part] = found.rows[others].reshape(found_rows[part].shape)
        similarities[part] = found.similarities[others].reshape(found_rows[part].shape)
    return Neighbours(found_rows, similarities)
