"""Frames between the server and its computing processes: a JSON header and bytes beside it.

    4 bytes   length of the header, big-endian
    header    UTF-8 JSON; `sizes` has the lengths of the parts
    parts     pictures, or float32 values, as the header says

Both ends are of one release and start together; the format is no interface. Pictures are parts of
their own so that neither end has to join them or take them apart: each would be a copy.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.errors import (
    BundleError,
    CheckFailed,
    ConfigError,
    ImageError,
    InputError,
    MissingDependencyError,
)
from taxon.core.predictions import FloatArray
from taxon.serving.computing.batch import Row
from taxon.serving.computing.engine import Answer, Description
from taxon.serving.computing.errors import ComputationFailed, DeadlinePassed, Overloaded, TooMany

_LENGTH = struct.Struct(">I")
_ERRORS: dict[str, type[Exception]] = {
    "overloaded": Overloaded,
    "deadline": DeadlinePassed,
    "failed": ComputationFailed,
    "too-many": TooMany,
    "check": CheckFailed,
    "bundle": BundleError,
    "config": ConfigError,
    "dependency": MissingDependencyError,
    "input": InputError,
}


@dataclass(frozen=True)
class Frame:
    """One message."""

    header: dict[str, Any]
    parts: Sequence[bytes | memoryview] = ()


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Wait for the next message.

    Raises:
        asyncio.IncompleteReadError: the other end is gone.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    header = json.loads(await reader.readexactly(length))
    return Frame(header, [await reader.readexactly(size) for size in header["sizes"]])


def write_frame(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Send a message; the stream buffers what the other end does not take at once."""
    sizes = [len(part) for part in frame.parts]
    header = json.dumps({**frame.header, "sizes": sizes}).encode()
    writer.writelines([_LENGTH.pack(len(header)), header, *frame.parts])


def error_frame(number: int, error: Exception) -> Frame:
    """What says that a request failed; of an error that nobody foresaw, that it is one."""
    kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), "failed")
    more = (
        {"reason": error.reason, "seconds": error.seconds} if isinstance(error, Overloaded) else {}
    )
    return Frame({"id": number, "error": kind, "text": str(error), **more})


def error_of(header: dict[str, Any]) -> Exception:
    """The error that `error_frame` wrote."""
    if header["error"] == "overloaded":
        return Overloaded(header["text"], header["reason"], header["seconds"])
    return _ERRORS[header["error"]](header["text"])


def described_frame(number: int, description: Description) -> Frame:
    """The answer to a request to open a model."""
    told = {
        "spec": description.spec.model_dump(mode="json"),
        "image_size": description.image_size,
        "frame": description.frame,
        "platform": description.platform,
        "seconds_each": description.seconds_each,
        "lone_seconds": description.lone_seconds,
    }
    return Frame({"id": number, "description": told})


def description_of(frame: Frame) -> Description:
    """The description that `described_frame` wrote."""
    told = frame.header["description"]
    height, width = told["image_size"]
    return Description(
        ModelSpec.model_validate(told["spec"]),
        (height, width),
        None if told["frame"] is None else (told["frame"][0], told["frame"][1]),
        told["platform"],
        told["seconds_each"],
        told["lone_seconds"],
    )


def answers_frame(number: int, answers: Sequence[Answer | ImageError]) -> Frame:
    """The answers to a request, in its order."""
    told: list[dict[str, Any]] = []
    values: list[FloatArray] = []
    for each in answers:
        if isinstance(each, ImageError):
            told.append({"source": each.source, "reason": each.reason, "kind": each.kind})
            continue
        row = each.row
        told.append(
            {
                "decode": each.decode_seconds,
                "queue": row.queue_seconds,
                "infer": row.infer_seconds,
                "batch": row.batch_size,
                "first": row.first,
                "scope": row.scope is not None,
                "classes": len(row.logits),
                "statistics": len(each.statistics),
            }
        )
        scope = [] if row.scope is None else [row.scope]
        values += [row.logits, row.probabilities, np.array(scope), each.statistics]
    floats = np.concatenate(values).astype(np.float32).tobytes() if values else b""
    return Frame({"id": number, "answers": told}, [floats])


def answers_of(frame: Frame) -> list[Answer | ImageError]:
    """The answers that `answers_frame` wrote."""
    values = np.frombuffer(frame.parts[0], np.float32)
    answers: list[Answer | ImageError] = []
    for told in frame.header["answers"]:
        if "reason" in told:
            answers.append(ImageError(told["source"], told["reason"], told["kind"]))
            continue
        sizes = [told["classes"], told["classes"], int(told["scope"]), told["statistics"]]
        *parts, values = np.split(values, np.cumsum(sizes))
        logits, probabilities, scope, statistics = parts
        row = Row(
            logits,
            probabilities,
            float(scope[0]) if told["scope"] else None,
            told["queue"],
            told["infer"],
            told["batch"],
            told["first"],
        )
        answers.append(Answer(row, told["decode"], statistics))
    return answers
