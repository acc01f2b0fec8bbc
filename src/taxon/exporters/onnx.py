"""ONNX: uint8 [N, 3, H, W] in, probabilities and logits out, the spec in the metadata."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx
import torch

from taxon.bundle import Bundle
from taxon.core.errors import TaxonError
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, input_size, tensor_inputs, tensor_outputs
from taxon.exporters.onnx_graph import save_checked
from taxon.inference.onnx_runtime import FEATURES_OUTPUT, OUTPUTS, SCOPE_OUTPUT
from taxon.models.classifier import InferenceModule
from taxon.models.frame import FrameModule
from taxon.models.restore import restore_inference_module

OPSET = 20
FILE_NAME = "model.onnx"
# Two pictures: with one, torch.export would take the batch for a constant.
_EXAMPLE_BATCH = 2


def export_onnx(job: ExportJob, folder: Path) -> Written:
    """Write model.onnx: batch dynamic, float32, checked, class names and policy in its metadata."""
    path = write_onnx(job.bundle, folder, frame=job.options.frame)
    return Written(
        file=path.name,
        inputs=tensor_inputs(job.bundle, job.options.frame),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("torch", "onnx", "onnxscript"),
    )


def export_onnx_features(job: ExportJob, folder: Path) -> Written:
    """Write model.onnx as `export_onnx` does, with one output more: `features`, float32 [N, F]."""
    path = write_onnx(job.bundle, folder, gives_features=True)
    size = feature_count(path)
    return Written(
        file=path.name,
        inputs=tensor_inputs(job.bundle),
        outputs={**tensor_outputs(job.bundle), FEATURES_OUTPUT: f"float32 [N, {size}]"},
        made_with=made_with("torch", "onnx", "onnxscript"),
        notes=(
            f"It also gives the {size} pooled features that go into the head, for search and for "
            "the choice of what to label next.",
        ),
        details={"feature_count": size},
    )


def write_onnx(
    bundle: Bundle,
    folder: Path,
    *,
    frame: tuple[int, int] | None = None,
    gives_features: bool = False,
) -> Path:
    """Write model.onnx into a folder and return its path.

    Input `images`, outputs `probabilities`, `logits` and, where the policy flags what is out of
    scope, `scope`, and `features` where they are asked for; batch dynamic; float32.

    Raises:
        TaxonError: the exporter or ONNX's checker refuses the model.
    """
    spec = bundle.spec
    core = exportable_module(bundle, gives_features=gives_features)
    module = core if frame is None else FrameModule(core, frame, spec.preprocessing)
    width, height = input_size(bundle, frame)
    example = torch.zeros((_EXAMPLE_BATCH, 3, height, width), dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                input_names=["images"],
                output_names=[
                    *OUTPUTS,
                    *([SCOPE_OUTPUT] if spec.policy.scope else []),
                    *([FEATURES_OUTPUT] if gives_features else []),
                ],
                verbose=False,
            )
        except Exception as error:  # torch.onnx raises its own and torch.export's kinds
            raise TaxonError(f"{spec.backbone} could not be exported to ONNX: {error}") from error
    assert program is not None
    path = folder / FILE_NAME
    with tempfile.TemporaryDirectory(prefix="taxon-") as scratch:
        raw = Path(scratch) / FILE_NAME
        program.save(raw, external_data=False)
        model = onnx.load(raw)
    save_checked(model, path, spec, frame=frame)
    return path


def feature_count(file: Path) -> int:
    """Return F of an ONNX file whose output `features` is [N, F]."""
    graph = onnx.load(file).graph
    output = next(each for each in graph.output if each.name == FEATURES_OUTPUT)
    return int(output.type.tensor_type.shape.dim[1].dim_value)


def exportable_module(bundle: Bundle, *, gives_features: bool = False) -> InferenceModule:
    """Restore the graph for a converter: nothing in it is changed in place.

    The values are the same; torch.export takes much longer to see that nothing else is changed.
    """
    module = restore_inference_module(bundle, gives_features=gives_features)
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports progress on standard output, in the log and as warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
