"""Which runtime computes an ONNX artefact: ONNX Runtime, or OpenVINO where it is faster here."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from taxon.bundle import ArtefactInfo
from taxon.core.cache import cache_folder
from taxon.core.errors import OutputError, TaxonError
from taxon.core.files import write_json
from taxon.core.fingerprint import sha256_json
from taxon.core.machine import machine_fingerprint
from taxon.core.versions import made_with
from taxon.inference.backend import Backend
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.inference.timing import take_turns

CACHE = "runtime-choice"
_BATCH = 4  # between a quiet server's and a busy one's
_SECONDS = 0.5
_log = logging.getLogger("taxon.serving")

Opener = Callable[[], Backend]


def open_faster(
    folder: Path, info: ArtefactInfo, threads: int | None = None
) -> tuple[Backend, str]:
    """Open an ONNX artefact with the runtime that computes it faster on this machine.

    What was measured is kept in the cache, so that the next start opens the faster one at once.

    Args:
        folder: where artefact.json lies; its hashes were checked.
        threads: that compute one batch; None: one a core.

    Returns:
        The backend, and the reason for it in words.
    """
    file = folder / info.file
    openers: dict[str, Opener] = {
        "onnxruntime": partial(OnnxRuntimeBackend, file, threads=threads),
    }
    if importlib.util.find_spec("openvino") is not None:
        openers["openvino"] = partial(_openvino, file, threads)
    if len(openers) == 1:
        return openers["onnxruntime"](), "ONNX Runtime (OpenVINO is not installed)"
    key = {
        "model": info.spec.fingerprint,
        "frame": info.frame,
        "machine": machine_fingerprint(),
        "versions": made_with("onnxruntime", "openvino"),
        "threads": threads,
    }
    return _fastest(openers, info, sha256_json(key))


def _openvino(file: Path, threads: int | None) -> Backend:
    # Imported here: it takes as long as all the rest of a start.
    from taxon.inference.openvino import OpenVinoBackend

    return OpenVinoBackend(file, threads=threads)


def _fastest(openers: dict[str, Opener], info: ArtefactInfo, key: str) -> tuple[Backend, str]:
    known = _read(key)
    if known is not None and known.keys() <= openers.keys():
        return openers[min(known, key=known.__getitem__)](), _words(known)
    opened: dict[str, Backend] = {}
    for name, opener in openers.items():
        try:
            opened[name] = opener()
        except TaxonError as error:  # the other one may well load it
            _log.warning("%s is no choice for %s: %s", name, info.spec.name, error)
    if not opened:
        openers["onnxruntime"]()  # says why
    times = _measure(opened, info)
    _write(key, times)
    return opened[min(times, key=times.__getitem__)], _words(times)


def _measure(opened: dict[str, Backend], info: ArtefactInfo) -> dict[str, float]:
    """Milliseconds a picture, in the median."""
    width, height = info.frame or (info.spec.preprocessing.width, info.spec.preprocessing.height)
    shape = (_BATCH, 3, height, width)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    calls = {name: partial(backend.run, pictures) for name, backend in opened.items()}
    times = take_turns(calls, seconds=_SECONDS)
    return {name: round(float(np.median(found)) / _BATCH, 3) for name, found in times.items()}


def _words(times: dict[str, float]) -> str:
    ordered = sorted(times.items(), key=lambda item: item[1])
    said = ", ".join(f"{name} {milliseconds:g} ms" for name, milliseconds in ordered)
    return f"{ordered[0][0]}, measured here in batches of {_BATCH}, a picture: {said}"


def _read(key: str) -> dict[str, float] | None:
    """What was measured before; None where nothing was, or the cache cannot be used."""
    try:
        text = (cache_folder(CACHE) / f"{key}.json").read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, OutputError):
        return None
    if (
        isinstance(found, dict)
        and found
        and all(isinstance(each, float) for each in found.values())
    ):
        return found
    return None


def _write(key: str, times: dict[str, float]) -> None:
    try:
        write_json(cache_folder(CACHE) / f"{key}.json", times)
    except (OSError, OutputError) as error:  # a read-only disk: it is measured again next time
        _log.info("the choice of a runtime is not kept: %s", error)
