"""Several batches at once, each on a part of the cores; a lone one on all, where that is faster.

The threads of one computation wait for each other at every layer, and where pictures are decoded
meanwhile they wait long. With work for all cores it is cheaper to compute several batches side by
side (benchmarks/RESULTS.md); a lone batch is answered sooner by all cores together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from taxon.core.figures import measured_once
from taxon.core.predictions import ImageBatch
from taxon.core.versions import made_with
from taxon.inference.backend import Backend, Outputs
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

CACHE = "lanes"
_GAIN = 0.9  # of the time of a lane, that all cores must save to be worth the weights again
_MEASURED_SECONDS = 0.15
_FEWEST = 3  # calls
_MOST = 4  # with more cores a lane has several: one core alone would take long for its batch


@dataclass(frozen=True)
class Lanes:
    """A backend that may compute several batches at once.

    Attributes:
        alone: computes a batch on all cores.
        shared: computes it on a part of them; several threads may call it.
        count: how many batches at once keep the cores busy.
        threads: that compute one of them; 0: not known.
    """

    alone: Backend
    shared: Backend
    count: int
    threads: int

    @property
    def name(self) -> str:
        """How logs and reports call it."""
        return self.alone.name

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W], on all cores."""
        return self.alone.run(images)


def with_lanes(backend: Backend, image_size: tuple[int, int], fingerprint: str) -> Backend:
    """Let a backend compute several batches at once, where it can: ONNX Runtime on several cores.

    A small network is computed no faster by several cores together; then one of the lanes computes
    a lone batch too. Otherwise its weights are in memory twice.

    Args:
        image_size: (height, width) in pixels of what it takes.
        fingerprint: of the model; what was measured is kept under it.
    """
    if not isinstance(backend, OnnxRuntimeBackend):
        return backend
    if backend.threads == 1:
        return Lanes(backend, backend, 1, 1)
    count = min(_MOST, backend.threads)
    threads = max(1, backend.threads // count)
    open_one = partial(OnnxRuntimeBackend, backend.file, name=backend.name)
    shared = open_one(threads=threads)
    alone = backend if backend.spinning else open_one(threads=backend.threads, spinning=True)
    picture = np.zeros((1, 3, *image_size), np.uint8)
    key = {
        "model": fingerprint,
        "backend": backend.name,
        "image size": image_size,
        "threads": backend.threads,
        "versions": made_with("onnxruntime"),
    }
    seconds = measured_once(
        CACHE,
        key,
        lambda: dict(zip(("alone", "shared"), _seconds((alone, shared), picture), strict=True)),
    )
    faster = seconds["alone"] < _GAIN * seconds["shared"]
    return Lanes(alone if faster else shared, shared, count, threads)


def _seconds(backends: Sequence[Backend], picture: ImageBatch) -> list[float]:
    """What each takes for a picture, in the fastest of calls in turn: others may have the cores."""
    times: list[list[float]] = [[] for _ in backends]
    started = time.perf_counter()
    while len(times[0]) < _FEWEST or time.perf_counter() - started < _MEASURED_SECONDS:
        for found, backend in zip(times, backends, strict=True):
            begun = time.perf_counter()
            backend.run(picture)
            found.append(time.perf_counter() - begun)
    # The first call takes the memory.
    return [min(found[1:]) for found in times]


def lanes_of(backend: Backend) -> Lanes:
    """The lanes of a backend; one alone where it was given none."""
    return backend if isinstance(backend, Lanes) else Lanes(backend, backend, 1, 0)


def sessions_of(backend: Backend) -> tuple[Backend, ...]:
    """All that compute for a backend: each may be compared with what is expected."""
    if not isinstance(backend, Lanes):
        return (backend,)
    return (backend.shared,) if backend.alone is backend.shared else (backend.alone, backend.shared)
