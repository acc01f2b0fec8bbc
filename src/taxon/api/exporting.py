"""Export a bundle and prove that the artefact is equal to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxon.bundle import ArtefactInfo, Bundle, read_bundle
from taxon.bundle.artefact import artefact_folder, read_artefact, require_fresh
from taxon.bundle.golden import read_golden
from taxon.bundle.layout import ARTEFACT_FILE
from taxon.core.errors import CheckFailed, ConfigError, nearest
from taxon.core.files import atomic_folder, replace_folder, write_json
from taxon.core.fingerprint import sha256_file
from taxon.data import Columns, load_manifest
from taxon.exporters import ParityReport, compare_backends, compare_golden
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.models.stack import require_torch_stack

FORMATS = ("onnx",)


def export(path: Path, formats: Sequence[str], *, out: Path | None = None) -> list[ArtefactInfo]:
    """Export a model folder and verify each artefact on the golden pictures.

    Args:
        formats: of `onnx`.
        out: a folder that gets one sub-folder a format; None is the bundle's `artefacts`.

    Raises:
        ConfigError: an unknown format.
        CheckFailed: an artefact is not equal to the model; it was moved to `rejected/`.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        received = unknown[0] if unknown else ""
        raise ConfigError(
            f"unknown format '{received}'; allowed: {', '.join(FORMATS)}."
            f"{nearest(received, FORMATS)}"
        )
    require_torch_stack()
    bundle = read_bundle(path)
    return [
        _export_onnx(bundle, (out / name) if out else artefact_folder(path, name))
        for name in formats
    ]


def _export_onnx(bundle: Bundle, folder: Path) -> ArtefactInfo:
    from taxon.exporters.onnx import export_onnx

    with atomic_folder(folder, overwrite=True) as temporary:
        file = export_onnx(bundle, temporary)
        backend = OnnxRuntimeBackend(file)
        report = compare_golden(backend, read_golden(bundle.path), bundle.spec)
        info = _describe(bundle, file, report)
        write_json(temporary / ARTEFACT_FILE, info.model_dump(mode="json"))
        if not report.passed:
            rejected = folder.parent / "rejected" / folder.name
            rejected.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(temporary, rejected.with_name(f".{rejected.name}.tmp"))
            replace_folder(rejected.with_name(f".{rejected.name}.tmp"), rejected)
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
        outputs={"probabilities": classes, "logits": classes},
        parity=report.model_dump(mode="json"),
    )


def verify(
    path: Path,
    artefact: Path | None = None,
    *,
    data: Path | None = None,
    columns: Columns | None = None,
) -> list[ParityReport]:
    """Compare an artefact with the model: on the golden pictures, and on `data` where given.

    Args:
        artefact: an artefact's folder; None is the bundle's own ONNX.

    Raises:
        BundleError: altered, or exported from another model.
    """
    bundle = read_bundle(path)
    folder = artefact or artefact_folder(path, "onnx")
    info = read_artefact(folder.parent if folder.is_file() else folder)
    require_fresh(info, bundle)
    file = (folder.parent if folder.is_file() else folder) / info.file
    backend = OnnxRuntimeBackend(file)
    carried = backend.spec()
    if carried != bundle.spec:
        raise CheckFailed(
            f"{file} carries other class names, preprocessing or thresholds than {path}; "
            f"export again: taxon export {path} --to {info.format}"
        )
    reports = [compare_golden(backend, read_golden(path), bundle.spec)]
    if data is not None:
        reports.append(_compare_on_data(bundle, backend, data, columns))
    return reports


def _compare_on_data(
    bundle: Bundle, backend: OnnxRuntimeBackend, data: Path, columns: Columns | None
) -> ParityReport:
    require_torch_stack()
    from taxon.data.loader import evaluation_batches
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
