"""The program inside a Core ML package (MIL), read and evaluated without Apple's runtime.

Core ML runs on Apple's systems alone. What a package holds is open, though: a list of operations in
a protocol buffer, and their weights in a file beside it. Both are read back here from what was
saved, and evaluated one operation after the other with PyTorch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from taxon.core.errors import BundleError
from taxon.inference.mil_operations import LISTS, OPERATIONS

# Within a package.
WEIGHTS = Path("Data/com.apple.CoreML/weights")
# How MIL calls the types of what flows between operations and of their attributes.
_TYPES = {
    "FLOAT16": np.float16,
    "FLOAT32": np.float32,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "STRING": np.str_,
}
Array = npt.NDArray[Any]
Value = Any  # a float32 tensor, or a number, word or list of an attribute


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        kind: in MIL's words, say `conv`.
        inputs: parameter -> names of values, several where the parameter is a list.
        outputs: names of values.
        half: whether the program keeps the results in float16.
    """

    kind: str
    inputs: Mapping[str, str | tuple[str, ...]]
    outputs: tuple[str, ...]
    half: bool

    @property
    def reads(self) -> list[str]:
        """Names of all values that go in."""
        return [
            each
            for name in self.inputs.values()
            for each in ((name,) if isinstance(name, str) else name)
        ]


@dataclass(frozen=True)
class Program:
    """A program of one function.

    Attributes:
        constants: name -> value; float16 is kept as float32, which holds the same numbers.
        operations: in the order of computation.
        outputs: names of what is given out.
        classes: of a classifier, in the order of its probabilities; else empty.
    """

    constants: Mapping[str, Value]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How often each operation occurs."""
        return dict(Counter(operation.kind for operation in self.operations).most_common())

    @property
    def unknown(self) -> list[str]:
        """Operations that cannot be evaluated here."""
        return sorted(set(self.counts) - set(OPERATIONS))

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Evaluate the program for float32 tensors, and return its outputs by name.

        Each operation computes in float32; where the program says float16, its results are rounded
        to that.
        """
        values: dict[str, Value] = {**self.constants, **inputs}
        # How often a value is still wanted: what nobody wants is let go, or all would be kept.
        wanted = Counter(self.outputs)
        for operation in self.operations:
            wanted.update(operation.reads)
        with torch.inference_mode():
            for operation in self.operations:
                arguments = {
                    parameter: values[name]
                    if isinstance(name, str)
                    else [values[each] for each in name]
                    for parameter, name in operation.inputs.items()
                }
                results = OPERATIONS[operation.kind](**arguments)
                parts = results if isinstance(results, tuple) else (results,)
                for name, part in zip(operation.outputs, parts, strict=True):
                    values[name] = part.half().float() if operation.half else part
                wanted.subtract(operation.reads)
                for name in operation.reads:
                    if not wanted[name]:
                        values.pop(name, None)
        return {name: values[name] for name in self.outputs}


def read_program(model: Any, package: Path) -> Program:
    """Read the program of a Core ML model and its weights.

    Args:
        model: what `coremltools.utils.load_spec` returns.
        package: the .mlpackage that it was loaded from.

    Raises:
        BundleError: it is no ML program of one function, or its weights cannot be read.
    """
    if not model.HasField("mlProgram") or list(model.mlProgram.functions) != ["main"]:
        raise BundleError(f"{package} is no ML program of one function; export it again")
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    reader = _Reader(package)
    constants: dict[str, Value] = {}
    operations, classes = [], ()
    for place, entry in enumerate(block.operations):
        if entry.type == "const":
            constants[entry.outputs[0].name] = reader.value(entry.attributes["val"])
            continue
        inputs: dict[str, str | tuple[str, ...]] = {}
        for parameter, argument in entry.inputs.items():
            names = []
            for bound in argument.arguments:
                name = bound.name
                if bound.WhichOneof("binding") == "value":  # written where it is used
                    name = f"{place}.{parameter}"
                    constants[name] = reader.value(bound.value)
                names.append(name)
            inputs[parameter] = tuple(names) if parameter in LISTS else names[0]
        if entry.type == "classify":
            classes = tuple(constants[str(inputs["classes"])])
        half = _type_name(entry.outputs[0].type) == "FLOAT16"
        names = [output.name for output in entry.outputs]
        operations.append(Operation(entry.type, inputs, tuple(names), half))
    return Program(constants, tuple(operations), tuple(block.outputs), classes)


class _Reader:
    """Reads values out of the protocol buffer and out of the file of weights."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._readers: dict[str, Any] = {}

    def value(self, stored: Any) -> Value:
        """A float tensor, or the number, word or list of an attribute.

        Raises:
            BundleError: of a type that no exported model has, or not readable.
        """
        if stored.type.WhichOneof("type") == "listType":
            return [self.value(each) for each in stored.immediateValue.list.values]
        name = _type_name(stored.type)
        if name not in _TYPES:
            raise BundleError(f"{self._package} holds a value of type {name}, unknown here")
        if stored.WhichOneof("value") == "blobFileValue":
            array = self._from_file(stored.blobFileValue, name)
        else:
            array = _immediate(stored.immediateValue.tensor, name)
        shape = [axis.constant.size for axis in stored.type.tensorType.dimensions]
        array = array.reshape(shape)
        if name in ("FLOAT16", "FLOAT32") and array.ndim:
            return torch.from_numpy(array.astype(np.float32))
        return array.tolist()

    def _from_file(self, stored: Any, name: str) -> Array:
        from coremltools.libmilstoragepython import _BlobStorageReader

        file = self._package / WEIGHTS / Path(stored.fileName).name
        try:
            if file.name not in self._readers:
                self._readers[file.name] = _BlobStorageReader(str(file))
            reader = self._readers[file.name]
            if name == "FLOAT16":  # its bits
                return np.asarray(reader.read_fp16_data(stored.offset)).view(np.float16)
            if name == "FLOAT32":
                return np.asarray(reader.read_float_data(stored.offset))
            return np.asarray(reader.read_int32_data(stored.offset))
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{file} cannot be read: {error}; export it again") from error


def _immediate(stored: Any, name: str) -> Array:
    kind = stored.WhichOneof("value")
    values = getattr(stored, kind).values
    if kind == "bytes":
        return np.frombuffer(values, _TYPES[name])
    return np.array(list(values), _TYPES[name])


def _type_name(stored: Any) -> str:
    from coremltools.proto import MIL_pb2

    if stored.WhichOneof("type") != "tensorType":
        return "none of a tensor"
    return str(MIL_pb2.DataType.Name(stored.tensorType.dataType))
