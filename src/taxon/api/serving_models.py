"""Open a model to serve it: by the backend that was asked for, checked on its golden pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from taxon.bundle import ArtefactInfo, Bundle, read_bundle
from taxon.bundle.artefact import (
    accepted_artefact,
)
from taxon.bundle.golden import differing_inputs, read_golden
from taxon.bundle.layout import ARTEFACT_FILE, BUNDLE_FILE
from taxon.core.errors import CheckFailed, ConfigError
from taxon.core.figures import measured_once
from taxon.core.versions import made_with
from taxon.exporters import compare_golden
from taxon.inference import Predictor, load_predictor
from taxon.inference.artefacts import open_artefact
from taxon.inference.backend import Backend
from taxon.inference.lanes import sessions_of, with_lanes
from taxon.inference.runtime_choice import open_faster
from taxon.serving.computing.local_engine import LocalEngine, measure_costs
from taxon.serving.settings import ServingSettings

AUTO = "auto"
BATCH_COSTS = "batch-costs"  # in the cache
TORCH = "torch"
_log = logging.getLogger("taxon.serving")


@dataclass(frozen=True)
class BackendChoice:
    """What computes the models of a server.

    Attributes:
        name: `auto`: the ONNX artefact, in ONNX Runtime or in OpenVINO, whichever is faster here;
            `torch`; or the name of an artefact in the model folder, such as `onnx-int8`.
        device: for `torch`: `cpu`, `cuda` or `mps`.
        threads: that compute a batch; None: one a core.
    """

    name: str = AUTO
    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.device != "cpu" and self.name != TORCH:
            raise ConfigError(
                f"device '{self.device}' is for PyTorch, and the backend is '{self.name}'; type "
                f"--backend {TORCH} --device {self.device}"
            )


def is_model(path: Path) -> bool:
    """Whether a model can be opened at a path."""
    if path.suffix == ".onnx":
        return path.is_file()
    return any((path / name).is_file() for name in (BUNDLE_FILE, ARTEFACT_FILE))


def open_engine(
    path: Path,
    choice: BackendChoice,
    settings: ServingSettings,
    threads: int | None = None,
    *,
    refuses: bool = True,
) -> LocalEngine:
    """Open the model at a path, and what computes it in this process; raises what `open_checked`
    raises.

    Args:
        threads: that decode; None: one a core.
        refuses: whether it refuses what is too much.
    """
    predictor = open_checked(path, choice, settings.max_pixels)
    largest = settings.max_batch_size
    key = {
        "model": predictor.spec.fingerprint,
        "choice": asdict(choice),
        "backend": predictor.backend.name,
        "image size": predictor.image_size,
        "largest": largest,
        "versions": made_with("onnxruntime", "openvino", "torch"),
    }
    costs = measured_once(
        BATCH_COSTS,
        key,
        lambda: {str(size): each for size, each in measure_costs(predictor, largest).items()},
    )
    by_size = {int(size): each for size, each in costs.items()}
    return LocalEngine(predictor, settings, threads, by_size, refuses=refuses)


def open_checked(path: Path, choice: BackendChoice, max_pixels: int) -> Predictor:
    """Open the model at a path, and compare it with its golden outputs where it has them.

    An artefact outside of its model folder has none; its hashes are checked.

    Raises:
        BundleError: nothing there that can be served.
        CheckFailed: it does not give the golden outputs on this machine.
        ConfigError: a choice that only a model folder has.
    """
    if not (path / BUNDLE_FILE).is_file():
        if choice.name != AUTO:
            raise ConfigError(
                f"{path} is an artefact, which its own runtime computes; --backend {choice.name} "
                "is for model folders"
            )
        return _for_many(load_predictor(path, threads=choice.threads)).limited_to(max_pixels)
    bundle = read_bundle(path)
    golden = read_golden(path)
    inexact = differing_inputs(golden, bundle.spec.preprocessing)

    def check(backend: Backend, info: ArtefactInfo | None) -> None:
        if info is not None and info.frame is not None:
            return  # the golden inputs are prepared pictures
        precision = "float32" if info is None else info.precision
        report = compare_golden(backend, golden, bundle.spec, precision=precision, inexact=inexact)
        if not report.passed:
            raise CheckFailed(f"refused to serve: {report.sentence()}")

    predictor, info = _open(bundle, choice, check)
    for_many = _for_many(predictor)
    for backend in sessions_of(for_many.backend):
        if backend is not predictor.backend:
            check(backend, info)
    return for_many.limited_to(max_pixels)


def _for_many(predictor: Predictor) -> Predictor:
    """The predictor as a server wants it."""
    backend = with_lanes(predictor.backend, predictor.image_size, predictor.spec.fingerprint)
    return Predictor(predictor.spec, backend, frame=predictor.frame)


def _open(
    bundle: Bundle, choice: BackendChoice, check: Callable[[Backend, ArtefactInfo | None], None]
) -> tuple[Predictor, ArtefactInfo | None]:
    """What computes a model folder, checked, and the artefact that it computes, if it is one."""
    if choice.name == TORCH:
        predictor = load_predictor(
            bundle.path, backend="torch", device=choice.device, threads=choice.threads
        )
        check(predictor.backend, None)
        return predictor, None
    folder, info = chosen_artefact(bundle, choice)
    if choice.name == AUTO:
        backend, reason = open_faster(
            folder, info, choice.threads, check=lambda each: check(each, info)
        )
        _log.info("%s is computed by %s", bundle.spec.name, reason)
    else:
        backend = open_artefact(folder, info, choice.threads)
        check(backend, info)
    return Predictor(bundle.spec, backend, frame=info.frame), info


def chosen_artefact(bundle: Bundle, choice: BackendChoice) -> tuple[Path, ArtefactInfo]:
    """Return the artefact of a model folder that is to be served, and its folder.

    Raises:
        BundleError: it is absent, altered, of another state of the model, or was rejected.
    """
    name = "onnx" if choice.name == AUTO else choice.name
    return accepted_artefact(bundle, name)
