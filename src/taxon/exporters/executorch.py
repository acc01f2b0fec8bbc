"""ExecuTorch (.pte) with XNNPACK: PyTorch's own runtime for phones and small devices."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from taxon.bundle import Bundle
from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, Written, tensor_inputs, tensor_outputs
from taxon.exporters.torch_export import trace
from taxon.inference.executorch import LARGEST_BATCH, SPEC_METHOD

if TYPE_CHECKING:
    from executorch.exir import EdgeProgramManager

Result = TypeVar("Result")
FILE_NAME = "model.pte"


def export_executorch(job: ExportJob, folder: Path) -> Written:
    """Write model.pte: float32, batches of 1 to 8, the spec as a method that returns it.

    Where ExecuTorch makes the batch of a network a constant (YOLO11's), it takes one picture a
    call.

    Raises:
        TaxonError: ExecuTorch refuses the model.
    """
    largest = LARGEST_BATCH
    edge = _lowered(job.bundle, largest)
    if not _batch_varies(edge):
        largest = 1
        edge = _lowered(job.bundle, largest)
    with atomic_file(folder / FILE_NAME) as temporary:
        temporary.write_bytes(_quietly(job.bundle, edge.to_executorch).buffer)
    return Written(
        file=FILE_NAME,
        inputs=tensor_inputs(job.bundle),
        outputs=tensor_outputs(job.bundle),
        adapter=f"N is 1 to {largest}: its memory is planned for that many"
        if largest > 1
        else "N is 1: ExecuTorch made the batch of this network a constant",
        made_with=made_with("torch", "executorch"),
    )


def _lowered(bundle: Bundle, largest_batch: int) -> EdgeProgramManager:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = trace(bundle, largest_batch=largest_batch)
    return _quietly(
        bundle,
        partial(
            to_edge_transform_and_lower,
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={SPEC_METHOD: bundle.spec.model_dump_json()},
        ),
    )


def _batch_varies(edge: EdgeProgramManager) -> bool:
    """Whether the pictures that go in may be of any number; its last input, after the weights."""
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    graph = edge.exported_program("forward").graph
    *_, images = (node for node in graph.nodes if node.op == "placeholder")
    return not is_concrete_int(images.meta["val"].shape[0])


def _quietly(bundle: Bundle, convert: Callable[[], Result]) -> Result:
    logging.getLogger("executorch").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert()
    except Exception as error:  # ExecuTorch's own kinds, and those of torch.export
        raise TaxonError(
            f"{bundle.spec.backbone} could not be exported to ExecuTorch: {error}"
        ) from error
