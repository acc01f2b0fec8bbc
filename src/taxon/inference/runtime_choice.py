"""Which runtime computes an ONNX artefact: ONNX Runtime, or OpenVINO where it is faster here."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from taxon.bundle import ArtefactInfo
from taxon.core.errors import reason_of
from taxon.core.figures import keep_figures, kept_figures
from taxon.core.predictions import ImageBatch
from taxon.core.versions import made_with
from taxon.inference.backend import Backend
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.inference.timing import take_turns

CACHE = "runtime-choice"
_BATCH = 4  # between a quiet server's and a busy one's
_SECONDS = 0.5
_log = logging.getLogger("taxon.inference")

Opener = Callable[[], Backend]
Check = Callable[[Backend], None]


def open_faster(
    folder: Path, info: ArtefactInfo, threads: int | None = None, *, check: Check | None = None
) -> tuple[Backend, str]:
    """Open an ONNX artefact with the runtime that computes it faster on this machine.

    What was measured is kept in the cache, so that the next start opens the faster one at once. A
    runtime that does not load it, compute it or pass the check is no choice.

    Args:
        folder: where artefact.json lies; its hashes were checked.
        threads: that compute one batch; None: one a core.
        check: raises where a backend does not give what is expected.

    Returns:
        The backend, and the reason for it in words.

    Raises what ONNX Runtime or its check raise, where no runtime is left.
    """
    file = folder / info.file
    openers: dict[str, Opener] = {
        "onnxruntime": partial(OnnxRuntimeBackend, file, threads=threads, spinning=True),
    }
    if importlib.util.find_spec("openvino") is not None:
        openers["openvino"] = partial(_openvino, file, threads)
    key = {
        "model": info.spec.fingerprint,
        "frame": info.frame,
        "versions": made_with("onnxruntime", "openvino"),
        "threads": threads,
    }
    return _fastest(openers, info, key, check)


def _openvino(file: Path, threads: int | None) -> Backend:
    # Imported here: it takes as long as all the rest of a start.
    from taxon.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(file, threads=threads)


def _fastest(
    openers: dict[str, Opener],
    info: ArtefactInfo,
    key: Mapping[str, object],
    check: Check | None,
) -> tuple[Backend, str]:
    known = kept_figures(CACHE, key) if len(openers) > 1 else None
    if known is not None and known.keys() <= openers.keys():
        name = min(known, key=known.__getitem__)
        opened, _ = _opened({name: openers[name]}, info, check)
        if opened:
            return opened[name], _words(known)
    opened, errors = _opened(openers, info, check)
    if not opened:
        raise errors["onnxruntime"]
    if len(opened) == 1:
        ((name, backend),) = opened.items()
        return backend, f"{name}, the one that can"
    times = _measure(opened, info)
    keep_figures(CACHE, key, times)
    return opened[min(times, key=times.__getitem__)], _words(times)


def _opened(
    openers: dict[str, Opener], info: ArtefactInfo, check: Check | None
) -> tuple[dict[str, Backend], dict[str, Exception]]:
    """Those that open, compute and pass the check; and why the others do not."""
    opened: dict[str, Backend] = {}
    errors: dict[str, Exception] = {}
    for name, opener in openers.items():
        try:
            backend = opener()
            backend.run(_pictures(info, 1))
            if check is not None:
                check(backend)
            opened[name] = backend
        except Exception as error:  # whatever a runtime raises: another one may well do it
            _log.warning("%s is no choice for %s: %s", name, info.spec.name, reason_of(error))
            errors[name] = error
    return opened, errors


def _measure(opened: dict[str, Backend], info: ArtefactInfo) -> dict[str, float]:
    """Milliseconds a picture, in the median."""
    pictures = _pictures(info, _BATCH)
    calls = {name: partial(backend.run, pictures) for name, backend in opened.items()}
    times = take_turns(calls, seconds=_SECONDS)
    return {name: round(float(np.median(found)) / _BATCH, 3) for name, found in times.items()}


def _pictures(info: ArtefactInfo, count: int) -> ImageBatch:
    width, height = info.frame or (info.spec.preprocessing.width, info.spec.preprocessing.height)
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def _words(times: dict[str, float]) -> str:
    ordered = sorted(times.items(), key=lambda item: item[1])
    said = ", ".join(f"{name} {milliseconds:g} ms" for name, milliseconds in ordered)
    return f"{ordered[0][0]}, measured here in batches of {_BATCH}, a picture: {said}"
