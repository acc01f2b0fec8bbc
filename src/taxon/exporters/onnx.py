"""ONNX: uint8 [N, 3, H, W] in, probabilities and logits out, the spec in the metadata."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from taxon.bundle import Bundle, ModelSpec
from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT, SPEC_KEY
from taxon.models.classifier import InferenceModule
from taxon.models.restore import restore_inference_module

OPSET = 20
FILE_NAME = "model.onnx"
# Two pictures: with one, torch.export would take the batch for a constant.
_EXAMPLE_BATCH = 2


def export_onnx(job: ExportJob, folder: Path) -> Written:
    """Write model.onnx: batch dynamic, float32, checked, class names and policy in its metadata."""
    path = write_onnx(job.bundle, folder)
    return Written(
        file=path.name,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("torch", "onnx", "onnxscript"),
    )


def write_onnx(bundle: Bundle, folder: Path) -> Path:
    """Write model.onnx into a folder and return its path.

    Input `images`, outputs `probabilities`, `logits` and, where the policy flags what is out of
    scope, `scope`; batch dynamic; float32.

    Raises:
        TaxonError: the exporter or ONNX's checker refuses the model.
    """
    spec = bundle.spec
    module = exportable_module(bundle)
    size = (_EXAMPLE_BATCH, 3, spec.preprocessing.height, spec.preprocessing.width)
    example = torch.zeros(size, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                input_names=["images"],
                output_names=[*OUTPUTS, *([SCOPE_OUTPUT] if spec.policy.scope else [])],
                verbose=False,
            )
        except Exception as error:  # torch.onnx raises its own and torch.export's kinds
            raise TaxonError(f"{spec.backbone} could not be exported to ONNX: {error}") from error
    assert program is not None
    path = folder / FILE_NAME
    with atomic_file(path) as temporary:
        program.save(temporary, external_data=False)
        _finish(temporary, spec)
    return path


def exportable_module(bundle: Bundle) -> InferenceModule:
    """Restore the graph for a converter: nothing in it is changed in place.

    The values are the same; torch.export takes much longer to see that nothing else is changed.
    """
    module = restore_inference_module(bundle)
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return module


def _finish(path: Path, spec: ModelSpec) -> None:
    """Check the file and put the class names, preprocessing and policy into its metadata."""
    import onnx

    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's own error, or a shape inference error
        raise TaxonError(f"ONNX's checker refuses the exported model: {error}") from error
    # Traces of the exporter (source lines, node scopes) would double the file's size.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.producer_name = "taxon"
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.model_dump_json()})
    onnx.save(model, path)


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
