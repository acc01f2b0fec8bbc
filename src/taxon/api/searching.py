"""Search: the pictures that are most like an example."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taxon.api.feature_sources import FeatureSource, Progress
from taxon.api.features import ensure_features
from taxon.core.errors import ConfigError, DataError, ImageError
from taxon.core.predictions import FloatArray
from taxon.inference import Embedder, load_embedder
from taxon.preprocessing.decode import read_picture
from taxon.similarity import Nearest, unit_rows


@dataclass(frozen=True)
class Match:
    """A picture that was found.

    Attributes:
        path: as the source names it.
        similarity: of its features with those of the example, 0 to 1 (their cosine; below 0 is
            0): 1 is the same direction. Comparable within a model, not between models.
    """

    path: str
    similarity: float


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        queries: the examples.
        matches: the most similar first.
        searched: how many pictures were compared.
        failures: path -> why a picture could not be read.
    """

    queries: tuple[str, ...]
    matches: tuple[Match, ...]
    searched: int
    failures: dict[str, str]


def search(
    path: str | Path,
    query: str | Path | Sequence[str | Path],
    sources: str | Path | Iterable[str | Path],
    *,
    count: int = 20,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Search:
    """Find the pictures whose features are most like those of an example.

    Every picture is compared, and none is kept in memory. The file of an example is not found
    itself; copies of it are.

    Args:
        path: a model folder, which gets the artefact that gives features if it lacks it (needs
            torch once), or such an artefact alone.
        query: the example; several stand for what they have in common: the mean direction of
            their features.
        sources: files, folders and glob patterns, or a folder of parts that `taxon embed` wrote.
        count: how many to find.
        tell: is told what is written into the model folder.
        progress: called with (what, done, total).

    Raises:
        ConfigError: a count below 1, or no example.
        BundleError: no model that gives features.
        DataError: an example that cannot be read, no pictures, or features of another model.
    """
    if count < 1:
        raise ConfigError(f"-n is 1 or more, not {count}")
    named = [query] if isinstance(query, str | Path) else list(query)
    queries = tuple(str(each) for each in named)
    if not queries:
        raise ConfigError("no example was given; name a picture to search by")
    ensure_features(path, tell=tell)
    embedder = load_embedder(Path(path))
    direction = _direction(embedder, queries)
    source = FeatureSource(embedder, _names(sources), progress)
    own = {os.path.realpath(each) for each in queries}
    nearest = Nearest(direction, count + len(own))
    paths: list[str] = []
    for batch in source:
        nearest.add(batch.features)
        paths += batch.paths
    found = nearest.result()
    matches = [
        Match(paths[row], round(max(0.0, float(similarity)), 6))
        for row, similarity in zip(found.rows[0], found.similarities[0], strict=True)
        if os.path.realpath(paths[row]) not in own
    ]
    return Search(queries, tuple(matches[:count]), len(paths), source.failures)


def _direction(embedder: Embedder, queries: Sequence[str]) -> FloatArray:
    """float32 [1, F]: the mean of the examples' directions."""
    images = []
    for name in queries:
        try:
            images.append(embedder.prepare(read_picture(Path(name)), name))
        except ImageError as error:
            raise DataError(
                f"the example {name} cannot be read: {error.reason}; name a picture"
            ) from error
    unit = unit_rows(np.concatenate([embedder.run(image[None]) for image in images]))
    return np.asarray(unit.mean(axis=0, keepdims=True))


def _names(sources: str | Path | Iterable[str | Path]) -> list[str]:
    named = [sources] if isinstance(sources, str | Path) else sources
    return [str(name) for name in named]
