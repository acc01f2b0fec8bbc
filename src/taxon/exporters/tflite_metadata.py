"""What a .tflite file carries beside its graph: the specification, and labels as an archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.text import one_line
from taxon.inference.onnx_runtime import SPEC_KEY

LABELS_FILE = "labels.txt"
_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes; the schema demands it for every buffer


def attach_metadata(source: Path, target: Path, spec: ModelSpec) -> None:
    """Copy a .tflite file and put class names, preprocessing and policy into the copy.

    The specification, as JSON, is a metadata entry of the model, `taxon.spec`. The class names are
    also appended as `labels.txt` in an archive, one a line, where TFLite's tools look for them.
    """
    import flatbuffers
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT, Model, ModelT

    content = source.read_bytes()
    model = ModelT.InitFromObj(Model.GetRootAs(content))
    entries = [entry for entry in model.metadata or [] if entry.name != SPEC_KEY.encode()]
    text = np.frombuffer(spec.model_dump_json().encode(), np.uint8)
    model.buffers.append(BufferT(data=text))
    model.metadata = [*entries, MetadataT(name=SPEC_KEY, buffer=len(model.buffers) - 1)]
    model.description = f"{spec.name}, exported by taxon"
    for buffer in model.buffers:
        if buffer.offset > 1:  # the quantiser writes them behind the graph
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        if isinstance(buffer.data, np.ndarray):
            buffer.Pack = _AlignedPacking(buffer)
    builder = flatbuffers.Builder(len(content) + len(text))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    target.write_bytes(builder.Output())
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(
            LABELS_FILE, "".join(f"{one_line(name)}\n" for name in spec.label_space.names)
        )


class _AlignedPacking:
    """Write a buffer where its address is a multiple of 16, which the generated code leaves out.

    Args:
        buffer: a `BufferT` whose data are uint8 [K].
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def __call__(self, builder: Any) -> int:
        from ai_edge_litert import schema_py_generated as schema

        data = self._buffer.data.tobytes()
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        builder.vectorNumElems = len(data)
        place = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, place)
        return int(schema.BufferEnd(builder))
