"""Several batches at once: a lone one on all cores, several each on a part of them.

The threads of one computation wait for each other at every layer, and where pictures are decoded
meanwhile they wait long. With work for all cores it is cheaper to compute several batches side by
side (benchmarks/RESULTS.md); a lone batch is answered sooner by all cores together.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Backend, Outputs
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

_MOST = 4  # with more cores a lane has several: one core alone would take long for its batch


@dataclass(frozen=True)
class Lanes:
    """A backend that may compute several batches at once.

    Attributes:
        alone: computes a batch on all cores.
        shared: computes it on a part of them; several threads may call it.
        count: how many batches at once keep the cores busy.
    """

    alone: Backend
    shared: Backend
    count: int

    @property
    def name(self) -> str:
        """How logs and reports call it."""
        return self.alone.name

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W], on all cores."""
        return self.alone.run(images)


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


def sessions_of(backend: Backend) -> tuple[Backend, ...]:
    """All that compute for a backend: each may be compared with what is expected."""
    return (backend.alone, backend.shared) if isinstance(backend, Lanes) else (backend,)
