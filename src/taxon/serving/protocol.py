"""The tensors of the Open Inference Protocol V2 (REST): their models and conversions.

See https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException, Path
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from taxon.core.predictions import FloatArray, ImageBatch
from taxon.decision import DecisionPolicy
from taxon.serving.batcher import Row
from taxon.serving.binary import (
    SIZE,
    Parts,
    elements_of,
    images_from,
    take_apart,
    tensor_bytes,
)
from taxon.serving.engine import TooMany, Upload
from taxon.serving.simple_json import require_simple
from taxon.serving.table import Served
from taxon.serving.uploads import EXAMPLE_PICTURE, first_fault, from_base64

MODEL_NAME = Path(description="the model's name", examples=["clothing"])
IMAGES = "images"
IMAGE_BYTES = "image_bytes"
OUTPUTS = ("probabilities", "logits")
Pictures = ImageBatch | list[Upload]
_MOST_NUMBERS = 4_000_000  # in JSON: reading more takes seconds, in which nobody else is answered
_FEW = 16  # inputs, outputs or dimensions: none has as many
SCOPE = "scope"  # FP32 [N], of models that flag what is out of scope


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


class TensorMetadata(BaseModel):
    """The name, type and shape of an input or output; -1 is any number of pictures."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a client needs to know to call the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def output_names(policy: DecisionPolicy) -> tuple[str, ...]:
    """Return the names of a model's outputs."""
    return OUTPUTS if policy.scope is None else (*OUTPUTS, SCOPE)


def parse_request(
    body: bytes, declared: str | None, served: Served, most: int
) -> tuple[InferenceRequest, Pictures]:
    """Parse and check a request.

    Args:
        declared: the header of the binary extension, where it was sent.
        most: pictures that a request may bring.

    Returns:
        The request, and what its one input holds.

    Raises:
        HTTPException: 400, not JSON, not a request, or with other inputs or outputs than
            the model has; 413, more than a request can have.
        TooMany: more pictures.
    """
    parts = take_apart(body, declared)
    rows = 3 * (served.engine.description.image_size[0] + 1) + 1  # lists in a nested picture
    require_simple(
        parts.json,
        objects=4 * _FEW,
        lists=most * rows + 4 * _FEW,
        strings=most + 8 * _FEW,
        values=_MOST_NUMBERS,
    )
    try:
        request = InferenceRequest.model_validate_json(parts.json)
    except ValidationError as error:
        raise HTTPException(400, first_fault(error)) from error
    tensor = _only_input(request)
    names = output_names(served.spec.policy)
    for output in request.outputs:
        if output.name not in names:
            raise HTTPException(
                400, f"unknown output '{output.name}'; the outputs are {', '.join(names)}"
            )
    data = _binary_data(parts, tensor)
    if tensor.name == IMAGES:
        return request, _images(tensor, data, served.engine.description.image_size)
    return request, _uploads(tensor, data, most)


def wants_binary(request: InferenceRequest, name: str) -> bool:
    """Whether an output is to follow the JSON as bytes."""
    for output in request.outputs:
        if output.name == name and "binary_data" in output.parameters:
            return bool(output.parameters["binary_data"])
    return bool(request.parameters.get("binary_data_output"))


def output_values(rows: Sequence[Row], name: str) -> FloatArray:
    """An output, float32 [N, C], or [N] for the scope."""
    return np.array([getattr(row, name) for row in rows], np.float32)


def _only_input(request: InferenceRequest) -> InputTensor:
    if len(request.inputs) != 1:
        raise HTTPException(
            400,
            f"the request has {len(request.inputs)} inputs; send exactly one, "
            f"'{IMAGES}' or '{IMAGE_BYTES}'",
        )
    tensor = request.inputs[0]
    if tensor.name not in (IMAGES, IMAGE_BYTES):
        raise HTTPException(
            400, f"unknown input '{tensor.name}'; the inputs are '{IMAGES}' and '{IMAGE_BYTES}'"
        )
    return tensor


def _binary_data(parts: Parts, tensor: InputTensor) -> memoryview | None:
    """The bytes of the input after the JSON; None where its data stand in it."""
    size = tensor.parameters.get(SIZE)
    if size is None:
        if len(parts.binary):
            raise HTTPException(
                400, f"{len(parts.binary)} bytes follow the JSON; no input says {SIZE}"
            )
        if tensor.data is None:
            raise HTTPException(400, f"input '{tensor.name}' has no data and no {SIZE}")
        return None
    if tensor.data is not None:
        raise HTTPException(400, f"input '{tensor.name}' has both data and {SIZE}; send one")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise HTTPException(400, f"{SIZE} of '{tensor.name}' is no number of bytes")
    (data,) = tensor_bytes(parts, [size])
    return data


def _images(
    tensor: InputTensor, data: memoryview | None, image_size: tuple[int, int]
) -> ImageBatch:
    _require_type(tensor, "UINT8")
    height, width = image_size
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != (3, height, width):
        raise HTTPException(
            400,
            f"input '{IMAGES}' has shape {tensor.shape}; allowed is [N, 3, {height}, {width}] "
            "with N at least 1 (prepared pictures; send files as "
            f"'{IMAGE_BYTES}' and the server prepares them)",
        )
    if data is not None:
        return images_from(data, shape, IMAGES)
    return _images_from_json(tensor, shape)


def _images_from_json(tensor: InputTensor, shape: tuple[int, ...]) -> ImageBatch:
    # As objects the values keep their types: a plain conversion would turn true into 1 and
    # 1.5 or "1" into something else, silently.
    values = np.array(tensor.data, dtype=object)
    kinds = set(map(type, values.ravel()))
    if list in kinds:
        raise HTTPException(400, f"the data of '{IMAGES}' is nested unevenly")
    if kinds - {int}:
        odd = sorted(kind.__name__ for kind in kinds - {int})[0]
        raise HTTPException(
            400, f"the data of '{IMAGES}' has a {odd} in it; allowed are whole numbers, 0 to 255"
        )
    if values.shape not in (shape, (prod(shape),)):
        raise HTTPException(
            400,
            f"the data of '{IMAGES}' has shape {list(values.shape)}, its declared shape is "
            f"{tensor.shape}; send it nested in that shape, or flat with {prod(shape)} values",
        )
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 255:
        wrong = lowest if lowest < 0 else highest
        raise HTTPException(
            400, f"the data of '{IMAGES}' has the value {wrong}; allowed is 0 to 255"
        )
    return values.astype(np.uint8).reshape(shape)


def _uploads(tensor: InputTensor, data: memoryview | None, most: int) -> list[Upload]:
    _require_type(tensor, "BYTES")
    if tensor.shape and tensor.shape[0] > most:
        raise TooMany(f"{tensor.shape[0]} pictures in one request; at most {most} are allowed")
    names = (f"{IMAGE_BYTES}[{place}]" for place in count())
    if data is None:
        values = tensor.data or []
        pictures = [
            Upload(name, from_base64(value, name))
            for name, value in zip(names, values, strict=False)
        ]
    else:
        elements = elements_of(data, IMAGE_BYTES, most)
        pictures = [Upload(name, each) for name, each in zip(names, elements, strict=False)]
    if not pictures or tensor.shape not in ([len(pictures)], [len(pictures), 1]):
        raise HTTPException(
            400,
            f"input '{IMAGE_BYTES}' has shape {tensor.shape} and {len(pictures)} values; "
            "allowed is [N], with N values and N at least 1",
        )
    return pictures


def _require_type(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise HTTPException(
            400, f"input '{tensor.name}' has datatype '{tensor.datatype}'; allowed is '{datatype}'"
        )
