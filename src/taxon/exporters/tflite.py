"""TFLite for LiteRT: uint8 [1, H, W, 3] in, outputs by name, in float32, float16 or eight bits."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from taxon.bundle.artefact import read_artefact
from taxon.bundle.layout import ARTEFACT_FILE
from taxon.core.errors import BundleError, TaxonError
from taxon.core.versions import made_with
from taxon.exporters.converter_environment import (
    CONVERTER_VERSION,
    converter_python,
    run_converter,
)
from taxon.exporters.job import ExportJob, Written, input_size, tensor_outputs
from taxon.exporters.parity import compare_outputs, run_all
from taxon.exporters.parity_report import ParityReport
from taxon.exporters.tflite_metadata import LABELS_FILE, attach_metadata
from taxon.exporters.tflite_quantise import EIGHT_BITS, HALF, REFUSED_FILE, VARIANTS
from taxon.exporters.tflite_trial import try_file
from taxon.inference.litert import SIGNATURE, LiteRtBackend

FILE_NAME = "model.tflite"
FORMAT = "tflite"


def export_tflite(job: ExportJob, folder: Path) -> Written:
    """Write model.tflite in float32.

    Raises:
        MissingDependencyError: the converter cannot be installed.
        TaxonError: the converter refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        converted = Path(temporary) / FILE_NAME
        _convert(job, converted)
        attach_metadata(converted, folder / FILE_NAME, job.bundle.spec)
    return _written(job)


def export_tflite_fp16(job: ExportJob, folder: Path) -> Written:
    """Write model.tflite with weights in float16; arithmetic stays in float32.

    Raises:
        MissingDependencyError, TaxonError: as for `export_tflite`.
    """
    with _float_file(job, folder) as float_file, _quantised(job, float_file, [HALF]) as files:
        if HALF in files.refused:
            raise TaxonError(f"{job.bundle.spec.backbone}: {files.refused[HALF]}")
        shutil.copyfile(files.path(HALF), folder / FILE_NAME)
        rival = _rival(float_file)
    written = _written(job, details={"variant": HALF, "what": VARIANTS[HALF]})
    return replace(written, rival=rival)


def export_tflite_int8(job: ExportJob, folder: Path) -> Written:
    """Write model.tflite in eight bits: the first variant whose answers hold on validation.

    They are tried in the order of how much they leave to eight bits; where none holds, the one
    with the fewest changed answers is written, and its comparison with the model refuses it.

    Raises:
        MissingDependencyError, TaxonError: as for `export_tflite`; or no variant runs.
        DataError: there are no pictures to calibrate on.
    """
    with (
        _float_file(job, folder) as float_file,
        _quantised(job, float_file, EIGHT_BITS, calibrate=True) as files,
    ):
        chosen, tried = _choose(job, float_file, files)
        shutil.copyfile(files.path(chosen), folder / FILE_NAME)
        rival = _rival(float_file)
    details = {
        "variant": chosen,
        "what": VARIANTS[chosen],
        "tried": [trial.found() for trial in tried],
    }
    notes = _choice_note(tried, chosen)
    return replace(_written(job, details=details), notes=notes, rival=rival)


def _rival(float_file: Path) -> LiteRtBackend:
    backend = LiteRtBackend(float_file)
    backend.name = "litert in float32"
    return backend


def _convert(job: ExportJob, file: Path) -> None:
    bundle = job.bundle
    doing = f"{bundle.spec.backbone} could not be converted to TFLite"
    python = converter_python(job.tell)
    arguments: list[str | Path] = [bundle.path.resolve(), file]
    if job.options.frame is not None:
        arguments += [str(side) for side in job.options.frame]
    run_converter(python, "taxon.exporters.tflite_convert", arguments, doing)


@contextmanager
def _float_file(job: ExportJob, folder: Path) -> Iterator[Path]:
    """Yield the model in float32: the artefact beside `folder` where it is fresh, or a new one."""
    beside = folder.parent / FORMAT
    if (beside / ARTEFACT_FILE).is_file():
        try:
            info = read_artefact(beside)
            if info.spec == job.bundle.spec and info.frame == job.options.frame:
                yield beside / info.file
                return
        except BundleError as error:
            job.tell(f"not started from the TFLite that is there: {error}")
    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        export_tflite(job, Path(temporary))
        yield Path(temporary) / FILE_NAME


def _written(job: ExportJob, details: Mapping[str, Any] | None = None) -> Written:
    width, height = input_size(job.bundle, job.options.frame)
    size = f"{height}, {width}"
    # One picture a call: what mobile runtimes plan their memory for.
    outputs = {name: text.replace("N", "1") for name, text in tensor_outputs(job.bundle).items()}
    return Written(
        file=FILE_NAME,
        inputs={"images": f"uint8 [1, {size}, 3], RGB, channels last"},
        outputs=outputs,
        adapter=(
            f"one picture a call, channels last; inputs and outputs by name in the signature "
            f"{SIGNATURE}; {LABELS_FILE} in an archive at the end of the file"
        ),
        made_with={**made_with("torch", "ai-edge-litert"), "litert-torch": CONVERTER_VERSION},
        details=details or {},
    )


@dataclass(frozen=True)
class _Quantised:
    """The variants that the quantiser could make, in a folder, and why it could not make others."""

    folder: Path
    refused: Mapping[str, str]

    def path(self, variant: str) -> Path:
        return self.folder / f"{variant}.tflite"


@contextmanager
def _quantised(
    job: ExportJob, float_file: Path, variants: Sequence[str], *, calibrate: bool = False
) -> Iterator[_Quantised]:
    """Yield quantised files, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        folder = Path(temporary)
        arguments: list[str | Path] = [float_file.resolve(), folder, ",".join(variants)]
        if calibrate:
            np.save(folder / "training.npy", job.pictures.training())
            arguments.append(folder / "training.npy")
        doing = f"{job.bundle.spec.backbone} could not be quantised for TFLite"
        module = "taxon.exporters.tflite_quantise"
        run_converter(converter_python(job.tell), module, arguments, doing)
        quantised = _Quantised(folder, json.loads((folder / REFUSED_FILE).read_bytes()))
        for variant in variants:
            if variant not in quantised.refused:
                path = quantised.path(variant)
                attach_metadata(path, path, job.bundle.spec)
        yield quantised


@dataclass(frozen=True)
class _Trial:
    """One variant that was tried.

    Attributes:
        failure: why it does not run; empty where it does.
        report: the comparison with float32 on the validation pictures; None where it does not run.
    """

    variant: str
    failure: str = ""
    report: ParityReport | None = None

    def found(self) -> dict[str, Any]:
        """For artefact.json."""
        if self.report is None:
            return {"variant": self.variant, "failure": self.failure}
        figures = {"changed_answers": self.report.changed_decisions, "of": self.report.pictures}
        return {
            "variant": self.variant,
            "holds": self.report.passed,
            **figures,
            "macro_f1": self.report.macro_f1,
        }


def _choose(job: ExportJob, float_file: Path, files: _Quantised) -> tuple[str, list[_Trial]]:
    """The first variant whose answers hold, else the one with the fewest changed answers."""
    pictures = job.pictures.validation()
    np.save(files.folder / "validation.npy", pictures.images)
    expected = run_all(LiteRtBackend(float_file), pictures.images)
    tried: list[_Trial] = []
    for variant in EIGHT_BITS:
        try:
            if variant in files.refused:
                raise BundleError(files.refused[variant])
            actual = try_file(files.path(variant), files.folder / "validation.npy")
        except BundleError as error:
            tried.append(_Trial(variant, failure=str(error)))
            continue
        report = compare_outputs(
            expected,
            actual,
            list(pictures.names),
            job.bundle.spec,
            artefact=variant,
            reference="float32",
            precision="int8",
            targets=pictures.targets,
            max_drop=job.options.max_drop,
        )
        tried.append(_Trial(variant, report=report))
        job.tell(f"eight bits, {variant}: {report.sentence()}")
        if report.passed:
            return variant, tried
    runs = {trial.variant: trial.report.changed_decisions for trial in tried if trial.report}
    if not runs:
        reasons = "; ".join(f"{trial.variant}: {trial.failure}" for trial in tried)
        raise TaxonError(f"no variant in eight bits runs in LiteRT: {reasons}")
    return min(runs, key=runs.__getitem__), tried


def _choice_note(tried: Sequence[_Trial], chosen: str) -> tuple[str, ...]:
    """Say what did not hold; nothing where the first one did."""
    failed = ", ".join(trial.variant for trial in tried if trial.report is None)
    moved = ", ".join(trial.variant for trial in tried if trial.report and not trial.report.passed)
    reasons = [f"too many answers changed with {moved}"] if moved else []
    reasons += [f"LiteRT does not run {failed}"] if failed else []
    return (f"{chosen} was taken: {'; '.join(reasons)}",) if reasons else ()
