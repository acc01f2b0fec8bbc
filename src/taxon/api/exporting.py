"""Export a bundle and prove that the artefact is equal to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxon.bundle import ArtefactInfo, Bundle, read_bundle
from taxon.bundle.artefact import artefact_folder, read_artefact
from taxon.bundle.golden import read_golden
from taxon.bundle.layout import ARTEFACT_FILE
from taxon.bundle.read import read_model
from taxon.core.errors import BundleError, CheckFailed, ConfigError, nearest
from taxon.core.files import atomic_folder, write_json
from taxon.core.fingerprint import sha256_file
from taxon.data import Columns, data_path, load_manifest
from taxon.exporters import ParityReport, compare_backends, compare_golden
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.models.stack import require_torch_stack

FORMATS = ("onnx",)


def export(
    path: str | Path, formats: str | Sequence[str] = "onnx", *, out: str | Path | None = None
) -> list[ArtefactInfo]:
    """Export a model folder and verify each artefact on the golden pictures.

    Args:
        formats: one or several of `onnx`.
        out: a folder that gets one sub-folder a format; None is the bundle's `artefacts`.

    Raises:
        ConfigError: an unknown format.
        CheckFailed: an artefact is not equal to the model; it was moved to `rejected/`.
    """
    formats = [formats] if isinstance(formats, str) else formats
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        received = unknown[0] if unknown else ""
        raise ConfigError(
            f"unknown format '{received}'; allowed: {', '.join(FORMATS)}."
            f"{nearest(received, FORMATS)}"
        )
    require_torch_stack()
    bundle = read_bundle(Path(path))
    return [
        _export_onnx(bundle, Path(out) / name if out else artefact_folder(bundle.path, name))
        for name in formats
    ]


def _export_onnx(bundle: Bundle, folder: Path) -> ArtefactInfo:
    from taxon.exporters.onnx import export_onnx

    with atomic_folder(folder, replace_if=ARTEFACT_FILE) as temporary:
        file = export_onnx(bundle, temporary)
        backend = OnnxRuntimeBackend(file)
        report = compare_golden(backend, read_golden(bundle.path), bundle.spec)
        info = _describe(bundle, file, report)
        write_json(temporary / ARTEFACT_FILE, info.model_dump(mode="json"))
        if not report.passed:
            rejected = folder.parent / "rejected" / folder.name
            with atomic_folder(rejected, replace_if=ARTEFACT_FILE) as copy:
                shutil.copytree(temporary, copy, dirs_exist_ok=True)
            raise CheckFailed(f"{report.sentence()}; the artefact was moved to {rejected}")
    return info


def _describe(bundle: Bundle, file: Path, report: ParityReport) -> ArtefactInfo:
    spec = bundle.spec
    size = f"[N, 3, {spec.preprocessing.height}, {spec.preprocessing.width}]"
    classes = f"float32 [N, {len(spec.label_space.names)}]"
    return ArtefactInfo(
        format="onnx",
        file=file.name,
        sha256=sha256_file(file),
        spec=spec,
        inputs={"images": f"uint8 {size}, RGB"},
        outputs={
            "probabilities": classes,
            "logits": classes,
            **({} if spec.policy.scope is None else {"scope": "float32 [N]"}),
        },
        parity=report.model_dump(mode="json"),
    )


def verify(
    path: str | Path,
    artefact: str | Path | None = None,
    *,
    data: str | Path | None = None,
    columns: Columns | None = None,
) -> list[ParityReport]:
    """Compare an artefact with the model: on the golden pictures, and on `data` where given.

    Args:
        artefact: an artefact's folder or an .onnx file; None is the bundle's own ONNX.

    Raises:
        BundleError: no model folder, or no artefact there.
        CheckFailed: the artefact was altered, comes from another model or another state of it,
            or carries other class names, preprocessing or thresholds.
    """
    bundle = read_bundle(Path(path))
    backend = _artefact_backend(bundle, Path(artefact) if artefact is not None else None)
    carried = backend.spec()
    if carried.fingerprint != bundle.spec.fingerprint:
        raise CheckFailed(
            f"the artefact was exported from another model than {path} (fingerprints "
            f"{carried.fingerprint[:12]} and {bundle.spec.fingerprint[:12]}); "
            f"export again: taxon export {path} --to onnx"
        )
    if carried != bundle.spec:
        raise CheckFailed(
            f"the artefact carries other class names, preprocessing or thresholds than {path}; "
            f"export again: taxon export {path} --to onnx"
        )
    reports = [compare_golden(backend, read_golden(bundle.path), bundle.spec)]
    if data is not None:
        reports.append(_compare_on_data(bundle, backend, data_path(data), columns))
    return reports


def _artefact_backend(bundle: Bundle, artefact: Path | None) -> OnnxRuntimeBackend:
    """Load the very file that was named; a folder's file is checked against artefact.json."""
    if artefact is not None and artefact.is_file():
        return OnnxRuntimeBackend(artefact)
    folder = artefact or artefact_folder(bundle.path, "onnx")
    if not folder.exists():
        raise BundleError(
            f"no artefact at {folder}; make one: taxon export {bundle.path} --to onnx"
        )
    info = read_model(folder / ARTEFACT_FILE, ArtefactInfo)
    try:
        read_artefact(folder)
    except BundleError as error:
        raise CheckFailed(str(error)) from error
    return OnnxRuntimeBackend(folder / info.file)


def _compare_on_data(
    bundle: Bundle, backend: OnnxRuntimeBackend, data: Path, columns: Columns | None
) -> ParityReport:
    require_torch_stack()
    from taxon.data.loading.loader import evaluation_batches
    from taxon.inference.pytorch import PyTorchBackend

    spec = bundle.spec
    manifest = load_manifest(data, columns, label_space=spec.label_space)
    targets: Any = manifest.targets() if spec.label_space.task == "multiclass" else None
    return compare_backends(
        backend,
        PyTorchBackend(bundle),
        evaluation_batches(manifest.records, spec.preprocessing, batch_size=32),
        [record.id for record in manifest.records],
        spec,
        targets=targets,
    )
