"""Suggest: which pictures to label next, the ones that would teach the model most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taxon.api.feature_sources import FeatureSource, Progress
from taxon.api.features import ensure_features
from taxon.api.labelled import LabelledContents
from taxon.api.suggestion_pool import Pool
from taxon.core.errors import ConfigError, DataError, ImageError, nearest
from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import FloatArray
from taxon.core.text import counted
from taxon.data.duplicates.distinct import distinct
from taxon.data.look import Look, look_into
from taxon.inference import load_embedder
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import read_picture
from taxon.similarity import METHODS, Method, margin_uncertainty, select, tag_uncertainty

DEFAULT_METHOD: Method = "clusters"  # chosen by benchmarks/suggest.py (docs/adr/0028)


@dataclass(frozen=True)
class Suggestion:
    """A picture to label.

    Attributes:
        path: as the source names it.
        uncertainty: of the model, 0 to 1: of classes, how little the most probable one is ahead;
            of tags, the mean entropy of their yes or no.
        reason: between what the model is unsure, with probabilities.
    """

    path: str
    uncertainty: float
    reason: str


@dataclass(frozen=True)
class Suggestions:
    """What to label next.

    Attributes:
        pictures: in the order in which they are worth it.
        looked_at: how many pictures they were chosen from.
        labelled: pictures that were left out, since the run has them.
        near_duplicates: pictures that were left out, since one like them is suggested.
        failures: path -> why a picture could not be read.
        notes: what else is to be known, a sentence each.
    """

    pictures: tuple[Suggestion, ...]
    looked_at: int
    labelled: int
    near_duplicates: int
    failures: dict[str, str]
    notes: tuple[str, ...]


def suggest(
    path: str | Path,
    sources: str | Path | Iterable[str | Path],
    *,
    count: int = 200,
    method: Method = DEFAULT_METHOD,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Suggestions:
    """Choose pictures that the model is unsure of and that differ from each other.

    Pictures that the run has already, by their content, are left out. Of near-duplicates one is
    suggested.

    Args:
        path: a model folder, which gets the artefact that gives features if it lacks it (needs
            torch once), or such an artefact alone.
        sources: files, folders and glob patterns, or a folder of parts that `taxon embed` wrote.
        count: how many to suggest.
        method: see `taxon.similarity.select`.
        seed: of what is drawn.
        tell: is told what is written into the model folder.
        progress: called with (what, done, total).

    Raises:
        ConfigError: a count below 1, or no such method.
        BundleError: no model that gives features.
        DataError: no pictures, none that is new, or features of another model.
    """
    if count < 1:
        raise ConfigError(f"-n is 1 or more, not {count}")
    method_of(method)
    ensure_features(path, tell=tell)
    embedder = load_embedder(Path(path))
    spec = embedder.spec
    named = [sources] if isinstance(sources, str | Path) else sources
    source = FeatureSource(embedder, [str(name) for name in named], progress)
    labelled = LabelledContents(Path(path))
    pool = Pool()
    for batch in source:
        new = labelled.left_out(batch)
        answers = new.probabilities
        if answers is None:
            answers = embedder.head.run(new.features).probabilities
        pool.add(new, answers, uncertainty_of(answers, spec.label_space.task))
    if not len(pool):
        raise DataError(_nothing_new(labelled.count, source.failures))
    chosen = _Chooser(pool, spec.preprocessing, method, seed).choose(count)
    return Suggestions(
        pictures=tuple(_suggestion(pool, row, spec.label_space) for row in chosen.rows),
        looked_at=pool.seen,
        labelled=labelled.count,
        near_duplicates=chosen.near_duplicates,
        failures=source.failures,
        notes=(*labelled.notes, *chosen.notes),
    )


def method_of(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ConfigError: there is none of this name.
    """
    for method in METHODS:
        if method == name:
            return method
    raise ConfigError(
        f"unknown method '{name}'; allowed: {', '.join(METHODS)}.{nearest(name, METHODS)}"
    )


def uncertainty_of(probabilities: FloatArray, task: Task) -> FloatArray:
    """How unsure the model is of each picture, float32 [N], 0 to 1."""
    if task == "multilabel":
        return tag_uncertainty(probabilities)
    return margin_uncertainty(probabilities)


@dataclass(frozen=True)
class _Chosen:
    rows: tuple[int, ...]
    near_duplicates: int
    notes: tuple[str, ...]


class _Chooser:
    """Chooses, drops what looks like one that was chosen before, and chooses more in its place."""

    def __init__(self, pool: Pool, spec: Preprocessing, method: Method, seed: int) -> None:
        self._pool, self._spec, self._method, self._seed = pool, spec, method, seed
        self._looks: dict[int, Look | None] = {}

    def choose(self, count: int) -> _Chosen:
        wanted = count
        while True:
            order = self._order(wanted)
            kept = self._distinct(order)
            if len(kept) >= count or wanted >= len(self._pool):
                break
            wanted += 2 * (wanted - len(kept))
        rows = tuple(kept[:count])
        passed = order[: order.index(rows[-1]) + 1] if len(kept) >= count else order
        unseen = sum(self._looks[row] is None for row in rows)
        notes = []
        if unseen:
            notes.append(
                f"{counted(unseen, 'suggested picture', 'suggested pictures')} cannot be read as "
                "files here: near-duplicates among them were not looked for"
            )
        return _Chosen(rows, len(passed) - len(rows), tuple(notes))

    def _order(self, wanted: int) -> list[int]:
        pool = self._pool
        rows = select(
            pool.features,
            pool.probabilities,
            pool.uncertainty,
            wanted,
            method=self._method,
            seed=self._seed,
        )
        return [int(row) for row in rows]

    def _distinct(self, order: Sequence[int]) -> list[int]:
        """Those of which none before them is a near-duplicate; what is no file here is kept."""
        from concurrent.futures import ThreadPoolExecutor

        from taxon.core.cores import available_cores

        new = [row for row in order if row not in self._looks]
        with ThreadPoolExecutor(available_cores()) as threads:
            self._looks |= dict(zip(new, threads.map(self._look, new), strict=True))
        seen = [row for row in order if self._looks[row] is not None]
        looks = [look for row in seen if (look := self._looks[row]) is not None]
        features = self._pool.features[seen] - self._pool.features.mean(axis=0)
        kept = {seen[place] for place in distinct(looks, features)}
        return [row for row in order if self._looks[row] is None or row in kept]

    def _look(self, row: int) -> Look | None:
        path = self._pool.paths[row]
        try:
            return look_into(read_picture(Path(path)), self._spec, path)
        except ImageError:
            return None


def _suggestion(pool: Pool, row: int, space: LabelSpace) -> Suggestion:
    probabilities = pool.probabilities[row]
    if space.task == "multilabel":
        order = np.argsort(np.abs(probabilities - 0.5), kind="stable")[:2]
        words = " and ".join(f"{space.names[place]} {probabilities[place]:.2f}" for place in order)
    else:
        order = np.argsort(-probabilities, kind="stable")[:2]
        words = " or ".join(f"{space.names[place]} {probabilities[place]:.2f}" for place in order)
    return Suggestion(pool.paths[row], round(float(pool.uncertainty[row]), 6), words)


def _nothing_new(labelled: int, failures: dict[str, str]) -> str:
    parts = [f"{labelled} are in the run already"] if labelled else []
    parts += [f"{len(failures)} could not be read"] if failures else []
    return f"there is no picture to suggest: {' and '.join(parts)}; name a folder with new ones"
