"""A Triton model repository that `taxon export` wrote: its ONNX, held against its configuration.

The configuration is read by a few lines of our own: Triton's schema comes with its client, which
nothing else here needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taxon.core.errors import BundleError
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

CONFIG_FILE = "config.pbtxt"
LABELS_FILE = "labels.txt"
MODEL_FILE = "1/model.onnx"  # of version 1
# ONNX Runtime's words for the types, and Triton's.
_TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
_TOKEN = re.compile(
    r'\s+|#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<word>[A-Za-z0-9_.+-]+)|(?P<sign>[\[\]{}:,])'
)
Message = dict[str, list[Any]]


def open_repository(model: Path) -> OnnxRuntimeBackend:
    """Load the ONNX of a repository's only model.

    Args:
        model: the folder with config.pbtxt.

    Raises:
        BundleError: a file is missing or damaged, or configuration, labels and ONNX do not agree.
    """
    backend = OnnxRuntimeBackend(model / MODEL_FILE)
    file = model / CONFIG_FILE
    try:
        config = read_config(file.read_text(encoding="utf-8"))
        labels = (model / LABELS_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BundleError(f"cannot read {error.filename}: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{file} is damaged: {error}; export it again") from error
    inputs, outputs = backend.tensors()
    for kind, given, real in (
        ("input", _tensors(config, "input"), inputs),
        ("output", _tensors(config, "output"), outputs),
    ):
        expected = {name: (_TYPES.get(type_, type_), shape[1:]) for name, type_, shape in real}
        if given != expected:
            raise BundleError(
                f"{file} names the {kind}s {given}, and the ONNX beside it has {expected}; "
                "export it again"
            )
    if config.get("name") != [model.name]:
        raise BundleError(f"{file} names the model {config.get('name')}, its folder {model.name}")
    names = len(backend.spec().label_space.names)
    if len(labels) != names:
        raise BundleError(f"{model / LABELS_FILE} has {len(labels)} labels; the model has {names}")
    return backend


def read_config(text: str) -> Message:
    """Read protobuf's text format: field -> its values; a message is again such a table.

    Raises:
        ValueError: it is not of that format.
    """
    tokens = _tokens(text)
    message = _message(tokens, "")
    if next(tokens, None) is not None:
        raise ValueError("it goes on after its end")
    return message


def _message(tokens: Iterator[str], end: str) -> Message:
    """Fields up to `end`."""
    fields: Message = {}
    for name in tokens:
        if name == end:
            return fields
        if name == ",":
            continue
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError(f"{name} stands where a field's name should")
        fields.setdefault(name, []).extend(_values(tokens, name))
    if end:
        raise ValueError(f"it ends before its last {end}")
    return fields


def _values(tokens: Iterator[str], name: str) -> list[Any]:
    token = next(tokens, "")
    if token == ":":
        token = next(tokens, "")
    if token != "[":
        return [_value(token, tokens, name)]
    values: list[Any] = []
    for token in tokens:
        if token == "]":
            return values
        if token != ",":
            values.append(_value(token, tokens, name))
    raise ValueError(f"the list of {name} does not end")


def _value(token: str, tokens: Iterator[str], name: str) -> Any:
    if token == "{":
        return _message(tokens, "}")
    if token.startswith('"'):
        # Octal escapes are of the bytes of UTF-8.
        return re.sub(
            rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), token[1:-1].encode()
        ).decode()
    if not token or token in "]}:,":
        raise ValueError(f"{name} has no value")
    return int(token) if re.fullmatch(r"[+-]?\d+", token) else token


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"unexpected {text[place]!r}")
        place = found.end()
        if found.lastgroup is not None:
            yield found[0]


def _tensors(config: Message, kind: str) -> dict[str, tuple[str, list[Any]]]:
    """Name -> type and shape without the batch, as the graph has it."""
    tensors = {}
    for each in config.get(kind, []):
        shape = each["reshape"][0].get("shape", []) if "reshape" in each else each.get("dims", [])
        name, type_ = each.get("name", [""])[0], each.get("data_type", [""])[0]
        tensors[name] = (type_, shape)
    return tensors
