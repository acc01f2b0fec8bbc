"""ExecuTorch (.pte) with XNNPACK: PyTorch's own runtime for phones and small devices."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.torch_export import trace
from taxon.inference.executorch import LARGEST_BATCH, SPEC_METHOD

FILE_NAME = "model.pte"


def export_executorch(job: ExportJob, folder: Path) -> Written:
    """Write model.pte: float32, batches of 1 to 8, the spec as a method that returns it.

    Raises:
        TaxonError: ExecuTorch refuses the model.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = trace(job.bundle, largest_batch=LARGEST_BATCH)
    logging.getLogger("executorch").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lowered = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={SPEC_METHOD: job.bundle.spec.model_dump_json()},
            ).to_executorch()
    except Exception as error:  # ExecuTorch's own kinds, and those of torch.export
        raise TaxonError(
            f"{job.bundle.spec.backbone} could not be exported to ExecuTorch: {error}"
        ) from error
    with atomic_file(folder / FILE_NAME) as temporary:
        temporary.write_bytes(lowered.buffer)
    return Written(
        file=FILE_NAME,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        adapter=f"N is 1 to {LARGEST_BATCH}: its memory is planned for that many",
        made_with=made_with("torch", "executorch"),
    )
