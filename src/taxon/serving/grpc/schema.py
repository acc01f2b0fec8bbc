"""The messages of `inference.GRPCInferenceService`, built when this module is imported.

The table holds what this server reads and writes, by the names, numbers and types of the protocol;
what else a client sends (parameters, other kinds of contents) protocol buffers pass over. Built at
run time, the messages fit every version of protobuf, where generated code fits some; in a pool of
their own, they may stand beside another package's messages of the same names.

See https://github.com/kserve/open-inference-protocol for the protocol, and
https://github.com/triton-inference-server/common for the repository's part of it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_TABLE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": "string name = 1; string version = 2",
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name = 1; string version = 2; repeated string extensions = 3",
    "ModelMetadataRequest": "string name = 1; string version = 2",
    "ModelMetadataResponse": "string name = 1; repeated string versions = 2; string platform = 3; "
    "repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5",
    "TensorMetadata": "string name = 1; string datatype = 2; repeated int64 shape = 3",
    "ModelInferRequest": "string model_name = 1; string model_version = 2; string id = 3; "
    "repeated InferInputTensor inputs = 5; repeated InferRequestedOutputTensor outputs = 6; "
    "repeated bytes raw_input_contents = 7",
    "InferInputTensor": "string name = 1; string datatype = 2; repeated int64 shape = 3; "
    "InferTensorContents contents = 5",
    "InferRequestedOutputTensor": "string name = 1",
    "InferTensorContents": "repeated uint32 uint_contents = 4; repeated bytes bytes_contents = 8",
    "ModelInferResponse": "string model_name = 1; string model_version = 2; string id = 3; "
    "repeated InferOutputTensor outputs = 5; repeated bytes raw_output_contents = 6",
    "InferOutputTensor": "string name = 1; string datatype = 2; repeated int64 shape = 3",
    "RepositoryIndexRequest": "bool ready = 2",
    "RepositoryIndexResponse": "repeated ModelIndex models = 1",
    "ModelIndex": "string name = 1; string version = 2; string state = 3; string reason = 4",
    "RepositoryModelLoadRequest": "string model_name = 2",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "string model_name = 2",
    "RepositoryModelUnloadResponse": "",
}
_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
}


def _field(text: str) -> Any:
    """A field from `[repeated] TYPE NAME = NUMBER`."""
    *repeated, kind, name, _, number = text.split()
    many = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = FieldDescriptorProto(name=name, number=int(number), label=many)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    return field


def _build() -> dict[str, Any]:
    """The class of each message, by its name."""
    messages = [
        DescriptorProto(name=name, field=map(_field, filter(None, fields.split("; "))))
        for name, fields in _TABLE.items()
    ]
    pool = DescriptorPool()
    pool.Add(
        FileDescriptorProto(
            name="open_inference.proto", package=PACKAGE, syntax="proto3", message_type=messages
        )
    )
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _TABLE
    }


MESSAGES = _build()
