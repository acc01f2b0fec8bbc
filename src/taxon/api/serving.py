"""Serve: a model over HTTP, checked on its golden pictures before the first request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taxon.bundle.golden import read_golden
from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.errors import CheckFailed
from taxon.exporters import compare_golden
from taxon.inference import load_predictor
from taxon.serving import ServingSettings
from taxon.serving import serve as run_server


def serve(
    path: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: ServingSettings | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a model folder or an exported artefact until SIGTERM or Ctrl-C; imports no torch.

    Args:
        path: a model folder with an ONNX artefact, an artefact's folder or an .onnx file.
        host, port: where to listen; port 0 takes a free one.
        settings: batching and limits.
        on_ready: called with the URL when requests are accepted.

    Raises:
        BundleError: nothing there that can be served.
        CheckFailed: the artefact does not give the golden outputs on this machine.
        InputError: the address cannot be used.
    """
    predictor = load_predictor(Path(path), backend="onnx")
    if (Path(path) / BUNDLE_FILE).is_file():
        report = compare_golden(predictor.backend, read_golden(Path(path)), predictor.spec)
        if not report.passed:
            raise CheckFailed(f"refused to serve: {report.sentence()}")
    settings = settings or ServingSettings()
    limited = predictor.limited_to(settings.max_pixels)
    run_server(limited, host=host, port=port, settings=settings, on_ready=on_ready)
