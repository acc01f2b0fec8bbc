"""Compare an artefact with the trained model, and time it; for `export` and `verify`."""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np

from taxon.bundle import Bundle
from taxon.bundle.artefact import Precision, Speed
from taxon.bundle.golden import GoldenSet, read_golden
from taxon.core.predictions import ImageBatch
from taxon.exporters import ParityReport, compare_golden
from taxon.exporters.job import Labelled
from taxon.exporters.parity import compare_outputs, run_all
from taxon.exporters.parity_report import MAX_DROP
from taxon.inference import Backend, Outputs
from taxon.inference.backend import gives_features
from taxon.inference.timing import take_turns
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.frames import Size, fit_frame
from taxon.preprocessing.transform import resize, to_chw

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
        """The model, loaded; it gives the features too, for artefacts that do."""
        from taxon.inference.pytorch import PyTorchBackend

        return PyTorchBackend(self._bundle, gives_features=True)

    @cached_property
    def outputs(self) -> Outputs:
        """Of all pictures, computed once for all artefacts."""
        assert self.pictures is not None
        return run_all(self.backend, self.pictures.images)


def check_artefact(
    backend: Backend,
    bundle: Bundle,
    precision: Precision,
    reference: Reference,
    *,
    frame: Size | None = None,
    max_drop: float = MAX_DROP,
) -> list[ParityReport]:
    """Compare on the golden pictures, and on the user's where there are any.

    Args:
        frame: (width, height), where the artefact takes whole pictures.
    """
    golden = read_golden(bundle.path)
    if frame is None:
        features = None
        if gives_features(backend):
            features = reference.backend.run(golden.images).features
        reports = [
            compare_golden(backend, golden, bundle.spec, precision=precision, features=features)
        ]
    else:
        # By the resize a level of 255 differs now and then: more than float32 allows for.
        precision = "float16" if precision == "float32" else precision
        reports = [_compare_golden_frames(backend, golden, bundle, precision, reference, frame)]
    pictures = reference.pictures
    if pictures is not None:
        inputs = pictures.images if pictures.frames is None else pictures.frames
        report = compare_outputs(
            reference.outputs,
            run_all(backend, inputs),
            list(pictures.names),
            bundle.spec,
            artefact=backend.name,
            reference=reference.backend.name,
            precision=precision,
            targets=pictures.targets,
            max_drop=max_drop,
        )
        reports.append(report)
    return reports


def _compare_golden_frames(
    backend: Backend,
    golden: GoldenSet,
    bundle: Bundle,
    precision: Precision,
    reference: Reference,
    frame: Size,
) -> ParityReport:
    """Golden pictures brought to the frame, with the resize in the graph and on the host."""
    spec = bundle.spec.preprocessing
    whole = [fit_frame(decode(data, spec, "golden"), frame) for data in golden.pictures]
    resized = np.stack([to_chw(resize(image, spec)) for image in whole])
    return compare_outputs(
        run_all(reference.backend, resized),
        run_all(backend, np.stack([to_chw(image) for image in whole])),
        [f"golden/{place:02d}.png" for place in range(len(whole))],
        bundle.spec,
        artefact=backend.name,
        reference=reference.backend.name,
        source="golden",
        precision=precision,
    )


def measure_speed(
    backend: Backend, rival: Backend, preprocessing: Preprocessing, frame: Size | None = None
) -> tuple[Speed, ...]:
    """Time an artefact in turns with a rival, for batches of one and of eight.

    Args:
        frame: (width, height), where the artefact takes whole pictures; the rival is given what
            it needs and is spared the resize.
    """
    size = (preprocessing.width, preprocessing.height)
    measured = []
    for batch in BATCHES:
        times = take_turns(
            {
                "artefact": partial(backend.run, _noise(batch, frame or size)),
                "rival": partial(rival.run, _noise(batch, size)),
            },
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


def _noise(batch: int, size: Size) -> ImageBatch:
    shape = (batch, 3, size[1], size[0])
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
