"""Core ML: a picture in, class labels and calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taxon.bundle import Bundle, ModelSpec
from taxon.core.errors import CheckFailed, DataError, TaxonError
from taxon.core.predictions import ImageBatch
from taxon.core.versions import made_with
from taxon.exporters.coreml_words import describe, limits, outputs_in_words
from taxon.exporters.framing_words import VISION_OPTION, framing_in_words
from taxon.exporters.job import ExportJob, Written
from taxon.exporters.onnx import exportable_module
from taxon.exporters.parity import compare_outputs, run_all
from taxon.exporters.parity_report import CHANGED_SHARE
from taxon.inference import Backend, Outputs
from taxon.inference.coreml import (
    INPUT,
    LABEL,
    CoreMLBackend,
    import_coremltools,
    load_package,
    on_apple,
    quiet,
)
from taxon.inference.mil import Program, read_program
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT
from taxon.inference.pytorch import PyTorchBackend

FILE_NAME = "model.mlpackage"
SYSTEMS = "iOS 15, macOS 12 and later"
# Of a classifier, the tensor out of which Core ML makes the probabilities by name.
_TENSOR = "class_probabilities"
_STEM = 2  # convolutions
_STEM_NOTE = (
    f"The first {_STEM} convolutions stay in float32, in which Apple's Neural Engine does not "
    "compute: they run beside it, and the rest may run on it."
)
Graph = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


def export_coreml(job: ExportJob, folder: Path) -> Written:
    """Write model.mlpackage in float32."""
    return _export(job, folder, half=False)


def export_coreml_fp16(job: ExportJob, folder: Path) -> Written:
    """Write model.mlpackage with half-precision weights and arithmetic.

    Where that changes too many answers on the validation part, the beginning of the network stays
    in float32: what is rounded there, everything after it has to bear.
    """
    written = _export(job, folder, half=True)
    changed = _changed_share(job, written.backend or CoreMLBackend(folder / written.file))
    if changed <= CHANGED_SHARE["float16"]:
        return written
    job.tell(
        f"coreml-fp16: {changed:.1%} of the answers on the validation part changed, so the first "
        f"{_STEM} convolutions, and what lies before them, stay in float32"
    )
    return _export(job, folder, half=True, whole_stem=True)


def _changed_share(job: ExportJob, backend: Backend) -> float:
    """The share of validation pictures with another answer; 0 where none is there any more."""
    try:
        pictures = job.pictures.validation()
    except DataError:
        return 0.0
    reference = PyTorchBackend(job.bundle)
    report = compare_outputs(
        run_all(reference, pictures.images),
        run_all(backend, pictures.images),
        list(pictures.names),
        job.bundle.spec,
        artefact=backend.name,
        reference=reference.name,
        precision="float16",
    )
    return report.changed_decisions / report.pictures


def _export(job: ExportJob, folder: Path, *, half: bool, whole_stem: bool = False) -> Written:
    bundle, spec = job.bundle, job.bundle.spec
    package = folder / FILE_NAME
    coremltools = import_coremltools()
    with quiet(), torch.no_grad():
        precision = _precision(coremltools, half, whole_stem)
        model, way, graph = _converted(coremltools, bundle, precision)
        _finished(coremltools, model, bundle).save(str(package))
    program = read_program(load_package(package), package)
    backend, checked = _stand_in(package, program, way, graph, spec, half=half)
    size = f"{spec.preprocessing.width}x{spec.preprocessing.height}"
    return Written(
        file=package.name,
        inputs={INPUT: f"a picture, RGB, {size}; its levels, 0 to 255, are normalised inside"},
        outputs=outputs_in_words(spec),
        adapter=f"a picture in place of uint8 [N, 3, H, W]. {framing_in_words(spec.preprocessing)}",
        made_with=made_with("torch", "coremltools"),
        notes=(*checked, *limits(spec, half), *((_STEM_NOTE,) if whole_stem else ())),
        details={
            "systems": SYSTEMS,
            "converted_from": way,
            "operations": program.counts,
            "kept_in_float32": f"the first {_STEM} convolutions" if whole_stem else "",
            "vision_crop_and_scale": VISION_OPTION[spec.preprocessing.resize],
        },
        backend=backend,
    )


def _decomposed(module: torch.nn.Module, example: torch.Tensor) -> tuple[Any, Graph]:
    program = torch.export.export(module, (example,)).run_decompositions({})
    return program, program.module()


def _traced(module: torch.nn.Module, example: torch.Tensor) -> tuple[Any, Graph]:
    traced = torch.jit.trace(module, example)  # type: ignore[no-untyped-call]
    return traced, traced


# A ViT whose position embeddings could take other sizes resizes them in what torch.export sees,
# and coremltools knows no such operation; a trace leaves out what does nothing at this size.
_WAYS = {"torch.export": _decomposed, "torch.jit.trace": _traced}


def _precision(coremltools: Any, half: bool, whole_stem: bool) -> Any:
    """What coremltools shall round: nothing, everything, or what comes after the stem."""
    if not whole_stem:
        return coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32
    return coremltools.transform.FP16ComputePrecision(op_selector=_after_stem)


def _after_stem(operation: Any) -> bool:
    """Whether an operation of coremltools' program comes after the first convolutions."""
    operations = list(operation.enclosing_block.operations)
    stem = [each for each in operations if each.op_type == "conv"][:_STEM]
    return not stem or operations.index(operation) > operations.index(stem[-1])


def _converted(coremltools: Any, bundle: Bundle, precision: Any) -> tuple[Any, str, Graph]:
    """Convert the graph: the model, the way that was taken, and what went in.

    Raises:
        TaxonError: coremltools takes it in neither way.
    """
    spec = bundle.spec
    module = exportable_module(bundle)
    example = torch.zeros(1, 3, spec.preprocessing.height, spec.preprocessing.width)
    reasons = []
    for way, capture in _WAYS.items():
        try:
            source, graph = capture(module, example)
            return _convert(coremltools, source, spec, precision), way, graph
        except Exception as error:  # torch and coremltools raise many kinds
            reason = str(error).strip() or type(error).__name__
            reasons.append(f"through {way}: {next(iter(reason.splitlines()))}")
    raise TaxonError(f"{spec.backbone} could not be converted to Core ML; {'; '.join(reasons)}")


def _convert(coremltools: Any, source: Any, spec: ModelSpec, precision: Any) -> Any:
    classifies = spec.label_space.task == "multiclass"
    shape = (1, 3, spec.preprocessing.height, spec.preprocessing.width)
    outputs = [_TENSOR if classifies else OUTPUTS[0], *OUTPUTS[1:]]
    if spec.policy.scope is not None:
        outputs.append(SCOPE_OUTPUT)
    target = coremltools.target.iOS15
    program = coremltools.convert(
        source,
        convert_to="milinternal",
        inputs=[
            coremltools.ImageType(name=INPUT, shape=shape, color_layout=coremltools.colorlayout.RGB)
        ],
        outputs=[coremltools.TensorType(name=name) for name in outputs],
        minimum_deployment_target=target,
        compute_precision=coremltools.precision.FLOAT32,  # it would be float16
    )
    # In two steps, because coremltools counts the outputs of a classifier wrongly where they were
    # named.
    program.functions["main"].output_types = None
    return coremltools.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=precision,
        classifier_config=coremltools.ClassifierConfig(
            list(spec.label_space.names),
            predicted_feature_name=LABEL,
            predicted_probabilities_output=_TENSOR,
        )
        if classifies
        else None,
        skip_model_load=True,
    )


def _finished(coremltools: Any, model: Any, bundle: Bundle) -> Any:
    """The model with our name for the probabilities, and with its metadata."""
    content = model.get_spec()
    coremltools.utils.rename_feature(content, f"{LABEL}_probs", OUTPUTS[0])
    finished = coremltools.models.MLModel(
        content, weights_dir=model.weights_dir, skip_model_load=True
    )
    describe(finished, bundle)
    return finished


def _stand_in(
    package: Path, program: Program, way: str, graph: Graph, spec: ModelSpec, *, half: bool
) -> tuple[Backend | None, tuple[str, ...]]:
    """What is compared with the trained model on this system, and what that does not prove."""
    if on_apple():
        return None, ()
    if program.unknown and half:
        raise CheckFailed(
            f"taxon cannot evaluate {', '.join(program.unknown)} of this program, so nothing here "
            "would prove its half precision; export coreml, or coreml-fp16 on a Mac"
        )
    if program.unknown:
        return _Converted(way, graph, spec), (
            f"Compared was the program of {way} that was converted, and not the package: taxon "
            f"cannot evaluate {', '.join(program.unknown)}. Type `taxon verify` on a Mac.",
        )
    return CoreMLBackend(package), (
        "Compared were the operations and weights that lie in the package, evaluated by taxon; "
        "Apple's runtime does not run on this system, and its speed was not measured. "
        "`taxon verify` on a Mac compares what Core ML itself computes.",
    )


class _Converted:
    """The program that was converted, picture by picture, where the package cannot be evaluated."""

    def __init__(self, way: str, graph: Graph, spec: ModelSpec) -> None:
        self.name = f"the program of {way} that Core ML was converted from"
        self._graph = graph
        self._has_scope = spec.policy.scope is not None

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        with torch.no_grad():
            rows = [self._graph(torch.from_numpy(image).float()[None]) for image in images]
        parts = [np.concatenate([np.asarray(row[place]) for row in rows]) for place in range(2)]
        probabilities, logits = parts
        if not self._has_scope:
            return Outputs(logits, probabilities)
        return Outputs(logits, probabilities, np.concatenate([np.asarray(row[2]) for row in rows]))
