"""A program of torch.export (.pt2): the graph of PyTorch itself, for services that have torch."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from taxon.bundle import Bundle
from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.onnx import exportable_module
from taxon.inference.torch_program import SPEC_FILE

FILE_NAME = "model.pt2"
LARGEST_BATCH = 1024


def export_torch_program(job: ExportJob, folder: Path) -> Written:
    """Write model.pt2: batch dynamic, float32, the spec in an extra file of the archive."""
    path = write_program(job.bundle, folder)
    return Written(
        file=path.name,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        made_with=made_with("torch"),
    )


def write_program(bundle: Bundle, folder: Path) -> Path:
    """Write model.pt2 into a folder and return its path.

    Raises:
        TaxonError: torch.export refuses the model.
    """
    program = trace(bundle, largest_batch=LARGEST_BATCH)
    # Into memory first: where the disk is full, torch's own writer ends the process.
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={SPEC_FILE: bundle.spec.model_dump_json()})
    path = folder / FILE_NAME
    with atomic_file(path) as temporary:
        temporary.write_bytes(stream.getbuffer())
    return path


def trace(bundle: Bundle, *, largest_batch: int) -> ExportedProgram:
    """Return the graph as a program: uint8 [N, 3, H, W] in, N from 1 to `largest_batch`.

    With a largest batch of one, N is the constant 1.

    Raises:
        TaxonError: torch.export refuses the model.
    """
    spec = bundle.spec.preprocessing
    # Two pictures: with one, torch.export would take the batch for a constant.
    example = torch.zeros((min(2, largest_batch), 3, spec.height, spec.width), dtype=torch.uint8)
    varies = {0: Dim("N", min=1, max=largest_batch)} if largest_batch > 1 else {}
    with torch.no_grad():
        try:
            return torch.export.export(
                exportable_module(bundle), (example,), dynamic_shapes={"images": varies}
            )
        except Exception as error:  # torch.export has many kinds of its own
            raise TaxonError(
                f"{bundle.spec.backbone} could not be exported by torch.export: {error}"
            ) from error
