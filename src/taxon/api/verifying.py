"""Verify: is an artefact that lies somewhere still equal to the model?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taxon.api.artefact_checks import Reference, check_artefact
from taxon.api.export_pictures import OwnPictures
from taxon.bundle import Bundle, ModelSpec, read_bundle
from taxon.bundle.artefact import (
    Precision,
    artefact_folder,
    folder_of,
    read_artefact,
    read_info,
)
from taxon.bundle.hub import local_folder
from taxon.core.errors import BundleError, CheckFailed
from taxon.data import Columns, Manifest, data_path, load_manifest
from taxon.exporters import ParityReport, artefact_reports, compare_backends
from taxon.exporters.parity_report import MAX_DROP
from taxon.inference import Backend
from taxon.inference.artefacts import open_artefact
from taxon.inference.backend import CarriesSpec, gives_features
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.models.stack import require_torch_stack


def verify(
    path: str | Path,
    artefact: str | Path | None = None,
    *,
    data: str | Path | None = None,
    columns: Columns | None = None,
    max_drop: float | None = None,
) -> list[ParityReport]:
    """Compare an artefact with the model: on the golden pictures, and on `data` where given.

    Args:
        path: the model folder, or `hf:user/name[@revision]`.
        artefact: an artefact's folder or the file in it; None is the bundle's own ONNX.
        data: a labelled folder or table.
        columns: the columns of a table.
        max_drop: what macro-F1 may lose by fewer bits, 0 to 1; None: what it was exported with.

    Raises:
        BundleError: no model folder, or no artefact there.
        CheckFailed: the artefact was altered, comes from another model or another state of it,
            or carries other class names, preprocessing or thresholds.
    """
    bundle = read_bundle(local_folder(path))
    opened = _open(bundle, Path(artefact) if artefact is not None else None)
    manifest = None
    if data is not None:
        require_torch_stack()
        manifest = load_manifest(data_path(data), columns, label_space=bundle.spec.label_space)
    own = None
    if data is not None and opened.frame is not None:
        own = OwnPictures(bundle, data_path(data), columns, frame=opened.frame)
    if max_drop is None:
        max_drop = opened.max_drop
    reports = check_artefact(
        opened.backend,
        bundle,
        opened.precision,
        Reference(bundle, own.compared() if own else None),
        frame=opened.frame,
        max_drop=max_drop,
    )
    if manifest is not None and opened.frame is None:
        reports.append(_compare_on_data(bundle, opened, manifest, max_drop))
    return reports


def _compare_on_data(
    bundle: Bundle, opened: _Opened, manifest: Manifest, max_drop: float
) -> ParityReport:
    """All pictures of a data set, however many: batch by batch."""
    from taxon.data.loading.loader import evaluation_batches
    from taxon.inference.pytorch import PyTorchBackend

    spec = bundle.spec
    return compare_backends(
        opened.backend,
        PyTorchBackend(bundle, gives_features=gives_features(opened.backend)),
        evaluation_batches(manifest.records, spec.preprocessing, batch_size=32),
        [record.id for record in manifest.records],
        spec,
        targets=manifest.targets(),
        precision=opened.precision,
        max_drop=max_drop,
    )


@dataclass(frozen=True)
class _Opened:
    """An artefact with its backend; `frame` is (width, height) where it takes whole pictures."""

    backend: Backend
    precision: Precision
    frame: tuple[int, int] | None = None
    max_drop: float = MAX_DROP


def _open(bundle: Bundle, artefact: Path | None) -> _Opened:
    """Load the very file that was named; a folder's files are checked against artefact.json."""
    if artefact is not None and artefact.is_file() and artefact.suffix == ".onnx":
        alone = OnnxRuntimeBackend(artefact)
        _require_same(bundle, alone.spec(), "onnx")
        return _Opened(alone, alone.precision, alone.frame)
    folder = artefact_folder(bundle.path, "onnx") if artefact is None else folder_of(artefact)
    if not folder.exists():
        raise BundleError(
            f"no artefact at {folder}; make one: taxon export {bundle.path} --to onnx"
        )
    info = read_info(folder)
    try:
        read_artefact(folder)
    except BundleError as error:
        raise CheckFailed(str(error)) from error
    _require_same(bundle, info.spec, info.format)
    backend = open_artefact(folder, info)
    # What the file itself carries counts too: it is what travels.
    if isinstance(backend, CarriesSpec):
        _require_same(bundle, backend.spec(), info.format)
    allowed = [report.allowed_drop for report in artefact_reports(info)]
    return _Opened(backend, info.precision, info.frame, max(allowed, default=MAX_DROP))


def _require_same(bundle: Bundle, carried: ModelSpec, format_name: str) -> None:
    again = f"export again: taxon export {bundle.path} --to {format_name}"
    if carried.fingerprint != bundle.spec.fingerprint:
        raise CheckFailed(
            f"the artefact was exported from another model than {bundle.path} (fingerprints "
            f"{carried.fingerprint[:12]} and {bundle.spec.fingerprint[:12]}); {again}"
        )
    if carried != bundle.spec:
        raise CheckFailed(
            f"the artefact carries other class names, preprocessing or thresholds than "
            f"{bundle.path}; {again}"
        )
