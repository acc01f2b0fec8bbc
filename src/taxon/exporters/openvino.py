"""OpenVINO IR: in float32, with half-precision weights, and in eight bits by NNCF."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.bundle.artefact import Precision
from taxon.core.errors import OutputError, TaxonError
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.openvino_int8 import quantise
from taxon.inference.openvino import SPEC_PATH, OpenVinoBackend

if TYPE_CHECKING:
    import openvino

FOLDER = "model"
FILE_NAME = "model/model.xml"


def export_openvino(job: ExportJob, folder: Path) -> Written:
    """Write model/model.xml and model.bin in float32."""
    return _write(job, folder, _convert(job), "float32")


def export_openvino_half(job: ExportJob, folder: Path) -> Written:
    """Write the same with weights in float16; the processor computes in what it does best."""
    return _write(job, folder, _convert(job), "float16")


def export_openvino_int8(job: ExportJob, folder: Path) -> Written:
    """Write the same in eight bits by NNCF, calibrated on training pictures, biases corrected.

    Layers return to float, the most harmful first, until the answers on the validation pictures
    are within the budget.

    Raises:
        CheckFailed: the budget cannot be kept.
        DataError: there are no pictures to calibrate on.
    """
    model = _convert(job)
    rival = _float_rival(model, job)
    quantised, sentence, details = quantise(job, model, rival)
    written = _write(job, folder, quantised, "int8")
    return replace(
        written,
        notes=(*written.notes, sentence),
        made_with={**written.made_with, **made_with("nncf")},
        details={"quantisation": details},
        rival=rival,
    )


def _convert(job: ExportJob) -> openvino.Model:
    import openvino

    source = job.float_onnx()
    try:
        return openvino.convert_model(source)
    except Exception as error:  # RuntimeError and OpenVINO's own kinds
        raise TaxonError(f"OpenVINO refuses the model: {error}") from error


def _float_rival(model: openvino.Model, job: ExportJob) -> OpenVinoBackend:
    """The same network in float32, which the smaller ones are compared with for speed."""
    import openvino

    with tempfile.TemporaryDirectory(prefix="taxon-") as scratch:
        file = Path(scratch) / "model.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        return OpenVinoBackend(file, "float32")


def _write(job: ExportJob, folder: Path, model: openvino.Model, precision: Precision) -> Written:
    import openvino

    model.set_rt_info(job.bundle.spec.model_dump_json(), SPEC_PATH)
    file = folder / FILE_NAME
    file.parent.mkdir(parents=True)
    try:
        openvino.save_model(model, file, compress_to_fp16=precision == "float16")
    except RuntimeError as error:  # a full disk, among others; it is no OSError
        raise OutputError(f"cannot write {file}: {str(error).splitlines()[-1]}") from error
    notes: tuple[str, ...] = ()
    if precision != "float32":
        arithmetic = OpenVinoBackend(file, precision).arithmetic
        notes = (f"What is not in eight bits is computed in {arithmetic} on this processor.",)
        if precision == "float16":
            notes = (
                f"The weights take half the space; this processor computes in {arithmetic} (those "
                "with AVX512-BF16 or AMX take bfloat16 by themselves, which is faster).",
            )
    return Written(
        file=FOLDER,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("torch", "onnx", "openvino"),
        notes=notes,
        rival=None if precision == "float32" else _float_rival(model, job),
    )
