"""Several batches at once: a lone one on all cores, several each on a part of them.

The threads of one computation wait for each other at every layer, and where pictures are decoded
meanwhile they wait long. With work for all cores it is cheaper to compute several batches side by
side (benchmarks/RESULTS.md); a lone batch is answered sooner by all cores together.
"""

from __future__ import annotations

import threading

from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Backend, Outputs
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

_MOST = 4  # with more cores a lane has several: one core alone would take long for its batch


class Lanes:
    """A backend that computes several batches at once.

    Args:
        alone: computes a batch while there is no other.
        shared: computes it while there are others; several threads may call it.
        count: how many batches at once keep the cores busy.
    """

    def __init__(self, alone: Backend, shared: Backend, count: int) -> None:
        self.name = alone.name
        self.alone = alone
        self.shared = shared
        self.count = count
        self._running = 0
        self._lock = threading.Lock()

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        with self._lock:
            backend = self.shared if self._running else self.alone
            self._running += 1
        try:
            return backend.run(images)
        finally:
            with self._lock:
                self._running -= 1


def with_lanes(backend: Backend) -> Backend:
    """Let a backend compute several batches at once, where it can: ONNX Runtime on several cores.

    Its weights are then in memory twice.
    """
    if not isinstance(backend, OnnxRuntimeBackend) or backend.threads == 1:
        return backend
    count = min(_MOST, backend.threads)
    shared = OnnxRuntimeBackend(
        backend.file, name=backend.name, threads=max(1, backend.threads // count)
    )
    return Lanes(backend, shared, count)
