"""Compare an artefact with the trained model, and time it; for `export` and `verify`."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np

from taxon.bundle import Bundle
from taxon.bundle.artefact import Precision, Speed
from taxon.bundle.golden import read_golden
from taxon.exporters import ParityReport, compare_golden
from taxon.exporters.job import Labelled
from taxon.exporters.parity import MAX_DROP, compare_outputs, run_all
from taxon.inference import Backend, Outputs
from taxon.inference.timing import take_turns
from taxon.preprocessing import Preprocessing

BATCHES = (1, 8)
SECONDS = 1.0


class Reference:
    """The trained model in PyTorch, and what it says of the user's pictures.

    Args:
        pictures: of the user; None where there are none.
    """

    def __init__(self, bundle: Bundle, pictures: Labelled | None) -> None:
        self._bundle = bundle
        self.pictures = pictures

    @cached_property
    def backend(self) -> Backend:
        """The model, loaded."""
        from taxon.inference.pytorch import PyTorchBackend

        return PyTorchBackend(self._bundle)

    @cached_property
    def outputs(self) -> Outputs:
        """Of all pictures, computed once for all artefacts."""
        assert self.pictures is not None
        return run_all(self.backend, self.pictures.images)


def check_artefact(
    backend: Backend,
    bundle: Bundle,
    precision: Precision,
    reference: Reference | None,
    max_drop: float = MAX_DROP,
) -> list[ParityReport]:
    """Compare on the golden pictures, and on the user's where there are any."""
    reports = [compare_golden(backend, read_golden(bundle.path), bundle.spec, precision=precision)]
    if reference is not None and reference.pictures is not None:
        pictures = reference.pictures
        reports.append(
            compare_outputs(
                reference.outputs,
                run_all(backend, pictures.images),
                list(pictures.names),
                bundle.spec,
                artefact=backend.name,
                reference=reference.backend.name,
                precision=precision,
                targets=pictures.targets,
                max_drop=max_drop,
            )
        )
    return reports


def measure_speed(
    backend: Backend, rival: Backend, preprocessing: Preprocessing
) -> tuple[Speed, ...]:
    """Time an artefact in turns with a rival, for batches of one and of eight."""
    shape = (3, preprocessing.height, preprocessing.width)
    measured = []
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, *shape), dtype=np.uint8)
        times = take_turns(
            {"artefact": partial(backend.run, images), "rival": partial(rival.run, images)},
            seconds=SECONDS,
        )
        ours, theirs = (float(np.median(times[name])) for name in ("artefact", "rival"))
        measured.append(
            Speed(
                batch=batch,
                p50_ms=round(ours, 3),
                p95_ms=round(float(np.percentile(times["artefact"], 95)), 3),
                rival=rival.name,
                rival_p50_ms=round(theirs, 3),
                ratio=round(ours / theirs, 3),
            )
        )
    return tuple(measured)
