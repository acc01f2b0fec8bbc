"""The binary tensor extension of the Open Inference Protocol V2: raw tensors after the JSON.

The header `Inference-Header-Content-Length` says where the JSON ends; the tensors follow in the
order of the inputs, each as long as its parameter `binary_data_size` says, little-endian. A BYTES
tensor is a row of elements, each after its length in four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from taxon.core.predictions import FloatArray, ImageBatch
from taxon.core.text import whole_number
from taxon.serving.computing.errors import TooMany
from taxon.serving.refusals import BadRequest

HEADER = "inference-header-content-length"
SIZE = "binary_data_size"
SCHEMA = {
    "type": "string",
    "format": "binary",
    "description": "the JSON, as long as Inference-Header-Content-Length says, and then tensors",
}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Parts:
    """A body, taken apart: the JSON, and what follows it."""

    json: bytes
    binary: memoryview


def take_apart(body: bytes, declared: str | None) -> Parts:
    """Divide a body by the header's value; None: all of it is JSON.

    Raises:
        BadRequest: the value is no length within the body.
    """
    if declared is None:
        return Parts(body, memoryview(b""))
    length = whole_number(declared)
    if length is None or length > len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is '{declared[:20]}'; it must be the length of the "
            f"JSON at the start of the body, which has {len(body)} bytes",
        )
    return Parts(body[:length], memoryview(body)[length:])


def tensor_bytes(parts: Parts, sizes: Sequence[int]) -> list[memoryview]:
    """Divide what follows the JSON among the inputs that are binary.

    Raises:
        BadRequest: more or less than they say.
    """
    if sum(sizes) != len(parts.binary):
        raise BadRequest(
            f"the binary inputs have {sum(sizes)} bytes by their {SIZE}, and "
            f"{len(parts.binary)} follow the JSON",
        )
    ends = np.cumsum([0, *sizes]).tolist()
    return [parts.binary[start:end] for start, end in pairwise(ends)]


def elements_of(data: memoryview, name: str, most: int) -> list[memoryview]:
    """Take the elements of a BYTES tensor apart.

    Raises:
        BadRequest: a length that goes beyond the end.
        TooMany: more than `most` elements.
    """
    elements: list[memoryview] = []
    start = 0
    while start < len(data):
        if len(elements) == most:
            raise TooMany(f"more than {most} pictures in one request; send them in several")
        if start + _LENGTH.size > len(data):
            raise BadRequest(f"the binary data of '{name}' end within a length")
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if start + size > len(data):
            raise BadRequest(
                f"an element of '{name}' has {size} bytes, and {len(data) - start} are left"
            )
        elements.append(data[start : start + size])
        start += size
    return elements


def images_from(data: memoryview, shape: Sequence[int], name: str) -> ImageBatch:
    """A UINT8 tensor of this shape.

    Raises:
        BadRequest: another number of bytes.
    """
    wanted = prod(shape)
    if len(data) != wanted:
        raise BadRequest(
            f"the binary data of '{name}' have {len(data)} bytes; its shape has {wanted}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def float_bytes(values: FloatArray) -> bytes:
    """FP32 values as the extension has them."""
    return np.ascontiguousarray(values, "<f4").tobytes()
