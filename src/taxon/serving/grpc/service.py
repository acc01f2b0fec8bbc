"""The methods of `inference.GRPCInferenceService`: a message in, a message out, or an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from taxon.core.versions import taxon_version
from taxon.serving import repository
from taxon.serving.binary import float_bytes
from taxon.serving.computing.batch import Row
from taxon.serving.desk import Desk
from taxon.serving.grpc.schema import MESSAGES
from taxon.serving.models.served import Served
from taxon.serving.protocol import (
    Input,
    Numbers,
    Pictures,
    chosen_outputs,
    metadata_of,
    output_values,
    pictures_of,
    require_input,
)
from taxon.serving.refusals import BadRequest

# Tensors as bytes are part of this form of the protocol, and no extension.
EXTENSIONS = ["model_repository"]
Method = Callable[[Desk, Any, float], Awaitable[Any]]


async def _server_live(desk: Desk, request: Any, deadline: float) -> Any:
    return MESSAGES["ServerLiveResponse"](live=True)


async def _server_ready(desk: Desk, request: Any, deadline: float) -> Any:
    return MESSAGES["ServerReadyResponse"](ready=desk.table.ready)


async def _server_metadata(desk: Desk, request: Any, deadline: float) -> Any:
    return MESSAGES["ServerMetadataResponse"](
        name="taxon", version=taxon_version(), extensions=EXTENSIONS
    )


async def _model_ready(desk: Desk, request: Any, deadline: float) -> Any:
    served = desk.table.find(request.name, request.version)
    return MESSAGES["ModelReadyResponse"](ready=served.engine.ready)


async def _model_metadata(desk: Desk, request: Any, deadline: float) -> Any:
    metadata = metadata_of(desk, desk.table.find(request.name, request.version))
    return MESSAGES["ModelMetadataResponse"](**metadata.model_dump())


async def _model_infer(desk: Desk, request: Any, deadline: float) -> Any:
    async with desk.table.use(request.model_name, request.model_version) as served:
        identity, most = request.id, desk.settings.max_queue
        # A number of `contents` takes as long as a pixel of a picture: off the event loop.
        names, pictures = await desk.take_apart(
            request.ByteSize(), partial(_parse, request, served, most)
        )
        del request  # what is needed of it is in `pictures`
        rows = await desk.rows(served, pictures, deadline)
        return _answer(identity, served, names, rows)


async def _repository_index(desk: Desk, request: Any, deadline: float) -> Any:
    entries = [
        entry.model_dump()
        for entry in repository.entries(desk)
        if entry.state == repository.READY or not request.ready
    ]
    return MESSAGES["RepositoryIndexResponse"](models=entries)


async def _repository_model_load(desk: Desk, request: Any, deadline: float) -> Any:
    await repository.load(desk, request.model_name)
    return MESSAGES["RepositoryModelLoadResponse"]()


async def _repository_model_unload(desk: Desk, request: Any, deadline: float) -> Any:
    await repository.unload(desk, request.model_name)
    return MESSAGES["RepositoryModelUnloadResponse"]()


# Each takes NAMERequest and returns NAMEResponse.
METHODS: dict[str, Method] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ServerMetadata": _server_metadata,
    "ModelReady": _model_ready,
    "ModelMetadata": _model_metadata,
    "ModelInfer": _model_infer,
    "RepositoryIndex": _repository_index,
    "RepositoryModelLoad": _repository_model_load,
    "RepositoryModelUnload": _repository_model_unload,
}


def _parse(request: Any, served: Served, most: int) -> tuple[tuple[str, ...], Pictures]:
    """The outputs that are wanted, and what the one input holds; raises `BadRequest`."""
    require_input([tensor.name for tensor in request.inputs])
    names = chosen_outputs((output.name for output in request.outputs), served)
    (tensor,), contents = request.inputs, request.inputs[0].contents
    return names, pictures_of(
        Input(
            tensor.name,
            tensor.datatype,
            list(tensor.shape),
            _raw(request),
            lambda: _numbers(contents.uint_contents),
            lambda: list(contents.bytes_contents),
        ),
        served,
        most,
    )


def _raw(request: Any) -> memoryview | None:
    """The bytes of the one input; None where it has contents."""
    raw = request.raw_input_contents
    if not raw:
        return None
    if len(raw) != 1:
        raise BadRequest(f"one input has {len(raw)} raw_input_contents; send one")
    if request.inputs[0].HasField("contents"):
        raise BadRequest("the input has both contents and raw_input_contents; send one")
    return memoryview(raw[0])


def _numbers(values: Sequence[int]) -> Numbers:
    return np.fromiter(values, np.uint32, len(values))


def _answer(identity: str, served: Served, names: Sequence[str], rows: Sequence[Row]) -> Any:
    values = [output_values(rows, name) for name in names]
    return MESSAGES["ModelInferResponse"](
        model_name=served.name,
        model_version=served.version,
        id=identity,
        outputs=[
            {"name": name, "datatype": "FP32", "shape": list(value.shape)}
            for name, value in zip(names, values, strict=True)
        ],
        raw_output_contents=[float_bytes(value) for value in values],
    )
