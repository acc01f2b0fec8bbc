"""The tensors of the Open Inference Protocol V2 (REST, JSON): their models and conversions.

See https://github.com/kserve/open-inference-protocol. The binary extension is not offered.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taxon.core.predictions import ImageBatch
from taxon.decision import DecisionPolicy
from taxon.serving.batcher import Row
from taxon.serving.pipeline import Upload

IMAGES = "images"
IMAGE_BYTES = "image_bytes"
OUTPUTS = ("probabilities", "logits")
SCOPE = "scope"  # FP32 [N], of models that flag what is out of scope


class InputTensor(BaseModel):
    """An input: `images` (UINT8 [N, 3, H, W]) or `image_bytes` (BYTES [N], base64 in JSON)."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] = Field(description="Row-major values, nested or flat.")


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
                        "data": ["/9j/4AAQSkZJRg..."],
                    }
                ],
                "outputs": [{"name": "probabilities"}],
            }
        }
    )

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] = []


class OutputTensor(BaseModel):
    """An output, FP32 [N, C] (`scope` [N]), its values flat in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferenceAnswer(BaseModel):
    """The answer to an inference request; `id` is there when the request had one."""

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


def parse_request(body: bytes, names: Sequence[str]) -> tuple[InferenceRequest, InputTensor]:
    """Parse and check a request, its tensor's data apart.

    Returns:
        The request, and its one input.

    Raises:
        HTTPException: 400, not JSON, not a request, or with other inputs or outputs than
            the model has.
    """
    try:
        request = InferenceRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise HTTPException(400, f"{place}: {first['msg'].lower()}") from error
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
    for output in request.outputs:
        if output.name not in names:
            raise HTTPException(
                400, f"unknown output '{output.name}'; the outputs are {', '.join(names)}"
            )
    wishes = [tensor.parameters, *(output.parameters for output in request.outputs)]
    if any(wish.get("binary_data") or "binary_data_size" in wish for wish in wishes):
        raise HTTPException(400, "binary_data is not supported here; use JSON tensors")
    return request, tensor


def images_of(tensor: InputTensor, height: int, width: int) -> ImageBatch:
    """Convert the input `images` to uint8 [N, 3, height, width].

    Raises:
        HTTPException: 400, another type or shape, or values that are not whole numbers from
            0 to 255.
    """
    _require_type(tensor, "UINT8")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != (3, height, width):
        raise HTTPException(
            400,
            f"input '{IMAGES}' has shape {tensor.shape}; allowed is [N, 3, {height}, {width}] "
            "with N at least 1 (prepared pictures; send files as "
            f"'{IMAGE_BYTES}' and the server prepares them)",
        )
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


def uploads_of(tensor: InputTensor) -> list[Upload]:
    """Convert the input `image_bytes` to named pictures.

    Raises:
        HTTPException: 400, another type or shape, or not base64.
    """
    _require_type(tensor, "BYTES")
    if not tensor.data or tensor.shape != [len(tensor.data)]:
        raise HTTPException(
            400,
            f"input '{IMAGE_BYTES}' has shape {tensor.shape} and {len(tensor.data)} values; "
            "allowed is [N], with N values and N at least 1",
        )
    return [
        Upload(name, _from_base64(value, name))
        for name, value in ((f"{IMAGE_BYTES}[{n}]", value) for n, value in enumerate(tensor.data))
    ]


def output_tensors(
    rows: Sequence[Row], wanted: Sequence[RequestedOutput], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the wanted outputs (all of `names`, when none is) as plain `OutputTensor`s."""
    names = [output.name for output in wanted] or names
    tensors = []
    for name in dict.fromkeys(names):
        values = np.array([getattr(row, name) for row in rows], np.float32)
        tensors.append(
            {
                "name": name,
                "shape": list(values.shape),
                "datatype": "FP32",
                "data": values.ravel().tolist(),
            }
        )
    return tensors


def _require_type(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise HTTPException(
            400, f"input '{tensor.name}' has datatype '{tensor.datatype}'; allowed is '{datatype}'"
        )


def _from_base64(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise HTTPException(
            400, f"{name} is a {type(value).__name__}; allowed is a picture's bytes in base64"
        )
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"{name} is not base64 ({error})") from error
