"""A stand-in for the exporter where it is not what a test is about: the older one of torch.

`torch.onnx.export` with `torch.export` takes 3 to 11 seconds for a network, most of them for
symbols of its shapes; the older one, by tracing, takes a tenth of that and writes a graph with the
same inputs and outputs. What it writes is compared with the trained model as ever. Its graphs are
slower to run, and torch no longer develops it, so that the product does not use it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.onnx

_export = torch.onnx.export


class _Written:
    """What the exporter returns, as far as it is used."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def save(self, path: Path, *, external_data: bool) -> None:
        assert not external_data
        path.write_bytes(self._content)


def _quick_export(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    *,
    dynamic_shapes: dict[str, dict[int, Any]],
    input_names: list[str],
    output_names: list[str],
    opset_version: int,
    **_: Any,
) -> _Written:
    batch = {0: "N"}
    assert [list(axes) for axes in dynamic_shapes.values()] == [[0]]
    stream = io.BytesIO()
    _export(
        module,
        arguments,
        stream,
        dynamo=False,
        opset_version=opset_version,
        input_names=input_names,
        output_names=output_names,
        dynamic_axes=dict.fromkeys([*input_names, *output_names], batch),
    )
    return _Written(stream.getvalue())


@contextmanager
def quick_exporter() -> Iterator[None]:
    """Export with the stand-in."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.onnx, "export", _quick_export)
        yield


@contextmanager
def real_exporter() -> Iterator[None]:
    """Export as the product does, within `quick_exporter` too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.onnx, "export", _export)
        yield
