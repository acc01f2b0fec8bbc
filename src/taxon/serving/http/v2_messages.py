"""The Open Inference Protocol V2 over REST: its messages, parsed and checked.

`binary` has the tensors that follow the JSON as bytes.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from taxon.serving.binary import SIZE, Parts, take_apart, tensor_bytes
from taxon.serving.http.simple_json import require_simple
from taxon.serving.http.uploads import EXAMPLE_PICTURE, first_fault, from_base64
from taxon.serving.models.served import Served
from taxon.serving.protocol import (
    IMAGE_BYTES,
    Input,
    Numbers,
    Pictures,
    chosen_outputs,
    pictures_of,
    require_input,
)
from taxon.serving.refusals import BadRequest

_MOST_NUMBERS = 1_000_000  # in JSON: while they are read, a tenth of a second, no one is answered
_FEW = 16  # inputs, outputs or dimensions: none has as many


class InputTensor(BaseModel):
    """An input: `images` (UINT8 [N, 3, H, W]) or `image_bytes` (BYTES [N], base64 in JSON)."""

    name: str
    shape: Annotated[list[int], Field(max_length=_FEW), FailFast()]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(
        default=None, description="Row-major values, nested or flat; absent where bytes follow."
    )


class RequestedOutput(BaseModel):
    """The name of an output that is wanted."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(BaseModel):
    """The body of an inference request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "42",
                "inputs": [
                    {
                        "name": IMAGE_BYTES,
                        "shape": [1],
                        "datatype": "BYTES",
                        "data": [EXAMPLE_PICTURE],
                    }
                ],
                "outputs": [{"name": "probabilities"}],
            }
        }
    )

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: Annotated[list[InputTensor], Field(max_length=_FEW), FailFast()]
    outputs: Annotated[list[RequestedOutput], Field(max_length=_FEW), FailFast()] = []


class OutputTensor(BaseModel):
    """An output, FP32 [N, C] (`scope` [N]), its values flat in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferenceAnswer(BaseModel):
    """The answer to an inference request; `id` is there when the request had one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model_name": "clothing",
                "model_version": "3f6c01d2",
                "id": "42",
                "outputs": [
                    {
                        "name": "probabilities",
                        "shape": [1, 3],
                        "datatype": "FP32",
                        "data": [0.9, 0.07, 0.03],
                    }
                ],
            }
        }
    )

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def parse_request(
    body: bytes, declared: str | None, served: Served, most: int
) -> tuple[InferenceRequest, Pictures]:
    """Parse and check a request.

    Args:
        declared: the header of the binary extension, where it was sent.
        most: pictures that a request may bring.

    Returns:
        The request without its input, and what that holds.

    Raises:
        BadRequest: not JSON, not a request, or with other inputs or outputs than the model has.
        TooMany: more pictures, or more of anything, than a request may bring.
    """
    parts = take_apart(body, declared)
    height, width = served.engine.description.image_size
    rows = 3 * (height + 1) + 1  # lists in a nested picture
    require_simple(
        parts.json,
        objects=4 * _FEW,
        lists=most * rows + 4 * _FEW,
        strings=most + 8 * _FEW,
        values=max(_MOST_NUMBERS, 3 * height * width + 8 * _FEW),  # a large picture alone is more
    )
    try:
        request = InferenceRequest.model_validate_json(parts.json)
    except ValidationError as error:
        raise BadRequest(first_fault(error)) from error
    require_input([tensor.name for tensor in request.inputs])
    chosen_outputs((output.name for output in request.outputs), served)
    pictures = pictures_of(_input(request.inputs[0], parts), served, most)
    return request.model_copy(update={"inputs": []}), pictures


def wants_binary(request: InferenceRequest, name: str) -> bool:
    """Whether an output is to follow the JSON as bytes."""
    for output in request.outputs:
        if output.name == name and "binary_data" in output.parameters:
            return bool(output.parameters["binary_data"])
    return bool(request.parameters.get("binary_data_output"))


def _input(tensor: InputTensor, parts: Parts) -> Input:
    values = tensor.data or []
    return Input(
        tensor.name,
        tensor.datatype,
        tensor.shape,
        _binary_data(tensor, parts),
        lambda: _numbers(values, tensor.name),
        lambda: [
            from_base64(value, f"{tensor.name}[{place}]") for place, value in enumerate(values)
        ],
    )


def _binary_data(tensor: InputTensor, parts: Parts) -> memoryview | None:
    """The bytes of the input after the JSON; None where its data stand in it."""
    size = tensor.parameters.get(SIZE)
    if size is None:
        if len(parts.binary):
            raise BadRequest(f"{len(parts.binary)} bytes follow the JSON; no input says {SIZE}")
        if tensor.data is None:
            raise BadRequest(f"input '{tensor.name}' has no data and no {SIZE}")
        return None
    if tensor.data is not None:
        raise BadRequest(f"input '{tensor.name}' has both data and {SIZE}; send one")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise BadRequest(f"{SIZE} of '{tensor.name}' is no number of bytes")
    (data,) = tensor_bytes(parts, [size])
    return data


def _numbers(data: list[Any], name: str) -> Numbers:
    # As objects the values keep their types: a plain conversion would turn true into 1 and
    # 1.5 or "1" into something else, silently.
    values = np.array(data, dtype=object)
    kinds = set(map(type, values.ravel()))
    if list in kinds:
        raise BadRequest(f"the data of '{name}' is nested unevenly")
    if kinds - {int}:
        odd = sorted(kind.__name__ for kind in kinds - {int})[0]
        raise BadRequest(
            f"the data of '{name}' has a {odd} in it; allowed are whole numbers, 0 to 255"
        )
    return values
