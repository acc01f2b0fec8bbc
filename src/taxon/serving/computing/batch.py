"""One batch: its pictures, each prepared where it is computed, and the rows that come of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from taxon.core.errors import TaxonError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Outputs
from taxon.serving.computing.errors import ComputationFailed

_log = logging.getLogger("taxon.serving")
# Gives a picture, uint8 [3, H, W], in the thread that computes it; it may have to decode it first.
Source = Callable[[], ImageBatch]


def prepared(image: ImageBatch) -> Source:
    """A picture that is prepared already."""
    return lambda: image


@dataclass(frozen=True)
class Row:
    """The outputs for one picture: float32 [C] each, probabilities calibrated, and its scope where
    the model gives one; and how it came about.

    Attributes:
        queue_seconds: from its arrival in the queue until its batch was begun.
        infer_seconds: that its batch took.
        batch_size: pictures in its batch.
        first: whether it is the first of its batch, so that batches can be counted.
    """

    logits: FloatArray
    probabilities: FloatArray
    scope: float | None = None
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0
    batch_size: int = 1
    first: bool = True


def results_of(
    run: Callable[[ImageBatch], Outputs], sources: Sequence[Source], queued: Sequence[float]
) -> list[Row | TaxonError]:
    """Prepare pictures and compute them: a row for each, or why it has none. Whatever a source or
    the backend raises, the server goes on.

    Args:
        queued: the seconds that each picture waited.
    """
    pictures = [_tried(source) for source in sources]
    images = [each for each in pictures if not isinstance(each, TaxonError)]
    waited = [
        seconds
        for seconds, each in zip(queued, pictures, strict=True)
        if not isinstance(each, TaxonError)
    ]
    rows: Iterator[Row | TaxonError]
    try:
        rows = iter(_rows(run, images, waited) if images else ())
    except ComputationFailed as error:
        failures = [failure_of(error) for _ in images]  # each its own: it is raised in another task
        rows = iter(failures)
    return [each if isinstance(each, TaxonError) else next(rows) for each in pictures]


def _tried(source: Source) -> ImageBatch | TaxonError:
    try:
        return source()
    except TaxonError as error:
        return error
    except Exception as error:
        _log.exception("a picture could not be prepared")
        return failure_of(error)


def failure_of(error: Exception) -> ComputationFailed:
    """The failure of one picture by an error that befell several, which is its cause."""
    failure = ComputationFailed(str(error))
    failure.__cause__ = error.__cause__ or error
    return failure


def _rows(
    run: Callable[[ImageBatch], Outputs], images: Sequence[ImageBatch], queued: Sequence[float]
) -> list[Row]:
    """Compute a batch.

    Raises:
        ComputationFailed: it failed, and was logged.
    """
    started = time.perf_counter()
    try:
        outputs = run(np.stack(images))
        if len(outputs.logits) != len(images):
            count = len(outputs.logits)
            raise ValueError(f"the backend gave {count} rows for {len(images)} pictures")
        seconds = time.perf_counter() - started
        return [
            Row(
                outputs.logits[at],
                outputs.probabilities[at],
                None if outputs.scope is None else float(outputs.scope[at]),
                waited,
                seconds,
                len(images),
                at == 0,
            )
            for at, waited in enumerate(queued)
        ]
    except Exception as error:
        _log.exception("a batch of %d failed", len(images))
        raise ComputationFailed(f"the backend failed: {error}") from error
