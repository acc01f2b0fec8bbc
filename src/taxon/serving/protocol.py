"""The Open Inference Protocol V2, whatever carries it: its tensors, their checks and conversions.

See https://github.com/kserve/open-inference-protocol. `v2_messages` has the form of REST,
`grpc.schema` that of gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from pydantic import BaseModel

from taxon.core.predictions import FloatArray, ImageBatch
from taxon.decision import DecisionPolicy
from taxon.serving.binary import elements_of, images_from
from taxon.serving.computing.batch import Row
from taxon.serving.computing.engine import Upload
from taxon.serving.computing.errors import TooMany
from taxon.serving.desk import Desk
from taxon.serving.models.served import Served
from taxon.serving.refusals import BadRequest

IMAGES = "images"
IMAGE_BYTES = "image_bytes"
OUTPUTS = ("probabilities", "logits")
SCOPE = "scope"  # FP32 [N], of models that flag what is out of scope
Pictures = ImageBatch | list[Upload]
Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]
_MOST = 2**31  # pictures in a shape; lengths computed from more have no meaning
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx"}  # Triton's word for it


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


@dataclass(frozen=True)
class Input:
    """An input as it came: its data as bytes, or as values, which are read when all else is right.

    Attributes:
        raw: the data in the protocol's binary form; None where they are values.
        numbers: reads the values of an UINT8 tensor: whole numbers, in the tensor's shape or flat.
        elements: reads the values of a BYTES tensor.
    """

    name: str
    datatype: str
    shape: list[int]
    raw: memoryview | None
    numbers: Callable[[], Numbers]
    elements: Callable[[], list[bytes]]


def metadata_of(desk: Desk, served: Served) -> ModelMetadata:
    """Return a model's inputs and outputs."""
    spec, platform = served.spec, served.engine.description.platform
    size = [-1, 3, *served.engine.description.image_size]
    classes = [-1, len(spec.label_space.names)]
    return ModelMetadata(
        name=served.name,
        versions=[model.version for model in desk.table if model.name == served.name],
        platform=_PLATFORMS.get(platform, platform),
        inputs=[
            TensorMetadata(name=IMAGES, datatype="UINT8", shape=size),
            TensorMetadata(name=IMAGE_BYTES, datatype="BYTES", shape=[-1]),
        ],
        outputs=[
            TensorMetadata(name=name, datatype="FP32", shape=[-1] if name == SCOPE else classes)
            for name in output_names(spec.policy)
        ],
    )


def output_names(policy: DecisionPolicy) -> tuple[str, ...]:
    """Return the names of a model's outputs."""
    return OUTPUTS if policy.scope is None else (*OUTPUTS, SCOPE)


def chosen_outputs(requested: Iterable[str], served: Served) -> tuple[str, ...]:
    """Return the outputs to answer with: those that are requested, once each, or else all.

    Raises:
        BadRequest: the model has no output of a requested name.
    """
    names = output_names(served.spec.policy)
    chosen = tuple(dict.fromkeys(requested))
    for name in chosen:
        if name not in names:
            raise BadRequest(f"unknown output '{name}'; the outputs are {', '.join(names)}")
    return chosen or names


def require_input(names: Sequence[str]) -> None:
    """Check the names of a request's inputs.

    Raises:
        BadRequest: not exactly one, or one that the models do not have.
    """
    if len(names) != 1:
        raise BadRequest(
            f"the request has {len(names)} inputs; send exactly one, '{IMAGES}' or '{IMAGE_BYTES}'"
        )
    if names[0] not in (IMAGES, IMAGE_BYTES):
        raise BadRequest(
            f"unknown input '{names[0]}'; the inputs are '{IMAGES}' and '{IMAGE_BYTES}'"
        )


def pictures_of(tensor: Input, served: Served, most: int) -> Pictures:
    """Return what an input holds: uint8 [N, 3, H, W], or files of pictures.

    Raises:
        BadRequest: another type or shape than the model takes, or data that do not fit them.
        TooMany: more than `most` files.
    """
    wanted = "UINT8" if tensor.name == IMAGES else "BYTES"
    if tensor.datatype != wanted:
        raise BadRequest(
            f"input '{tensor.name}' has datatype '{tensor.datatype}'; allowed is '{wanted}'"
        )
    if tensor.name == IMAGES:
        return _images(tensor, served.engine.description.image_size)
    return _uploads(tensor, most)


def output_values(rows: Sequence[Row], name: str) -> FloatArray:
    """An output, float32 [N, C], or [N] for the scope."""
    return np.array([getattr(row, name) for row in rows], np.float32)


def _images(tensor: Input, image_size: tuple[int, int]) -> ImageBatch:
    height, width = image_size
    shape = tuple(tensor.shape)
    if len(shape) != 4 or not 1 <= shape[0] <= _MOST or shape[1:] != (3, height, width):
        raise BadRequest(
            f"input '{IMAGES}' has shape {tensor.shape}; allowed is [N, 3, {height}, {width}] "
            "with N at least 1 (prepared pictures; send files as "
            f"'{IMAGE_BYTES}' and the server prepares them)"
        )
    if tensor.raw is not None:
        return images_from(tensor.raw, shape, IMAGES)
    values = tensor.numbers()
    if values.shape not in (shape, (prod(shape),)):
        raise BadRequest(
            f"the data of '{IMAGES}' has shape {list(values.shape)}, its declared shape is "
            f"{tensor.shape}; send it nested in that shape, or flat with {prod(shape)} values"
        )
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > 255:
        wrong = lowest if lowest < 0 else highest
        raise BadRequest(f"the data of '{IMAGES}' has the value {wrong}; allowed is 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _uploads(tensor: Input, most: int) -> list[Upload]:
    if tensor.shape and tensor.shape[0] > most:
        raise TooMany(f"{tensor.shape[0]} pictures in one request; at most {most} are allowed")
    raw = tensor.raw
    elements: Sequence[bytes | memoryview] = (
        tensor.elements() if raw is None else elements_of(raw, IMAGE_BYTES, most)
    )
    if not elements or tensor.shape not in ([len(elements)], [len(elements), 1]):
        raise BadRequest(
            f"input '{IMAGE_BYTES}' has shape {tensor.shape} and {len(elements)} values; "
            "allowed is [N], with N values and N at least 1"
        )
    return [Upload(f"{IMAGE_BYTES}[{place}]", each) for place, each in enumerate(elements)]
