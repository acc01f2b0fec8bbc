"""A stand-in for a GPU on machines without one: tensors that refuse to meet tensors of the CPU.

It computes with the CPU's own kernels, so that a run has the very weights that it has on the CPU,
and fails wherever something was left on the CPU: the mistake that no test on a CPU sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from taxon.api import choosing, fine_tuning, starting
from taxon.config import TrainConfig
from taxon.inference import pytorch
from taxon.training.device import build_accelerator

# The one type of device that this build of torch lets tensors claim without having it.
DEVICE = torch.device("meta")
CPU = torch.device("cpu")
aten = torch.ops.aten


class Elsewhere(torch.Tensor):
    """Says that it is on `DEVICE`; what it holds is a tensor of the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    # By these two, torch knows that parameters can be exchanged for such tensors.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, torch.Tensor], context: None, size: object, stride: object
    ) -> Elsewhere:
        return Elsewhere(inner["held"])

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(operation, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what makes tensors on a device, and what moves them there."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(operation, args, kwargs or {})


def _carry_out(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU; the result is where the arguments are, or where it was sent to."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    if there:
        _require_one_device(operation, args, tensors)
    sent = kwargs.get("device")
    if sent is not None:
        there = torch.device(sent).type == DEVICE.type
        kwargs = {**kwargs, "device": CPU}
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    result = operation(*held_args, **held_kwargs)
    if operation is aten.copy_.default:
        return args[0]
    if not there:
        return result
    moved = tree_map(_moved, result)
    if sent is not None:
        return moved
    return return_and_correct_aliasing(operation, args, kwargs, moved)


def _require_one_device(operation: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """As CUDA: numbers without dimensions, sources of copies and indices may be on the CPU."""
    if operation in (aten.copy_.default, aten._to_copy.default):
        return
    if operation is aten.index.Tensor and isinstance(args[0], Elsewhere):
        return
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if here:
        shapes = [tuple(tensor.shape) for tensor in here]
        raise RuntimeError(f"{operation}: expected all tensors on one device, on the CPU: {shapes}")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _moved(value: Any) -> Any:
    return Elsewhere(value) if type(value) is torch.Tensor else value


@contextmanager
def on_other_device() -> Iterator[None]:
    """Everything that trains in here does so on the stand-in."""

    def build(device: str, config: TrainConfig) -> Accelerator:
        assert device == DEVICE.type
        return build_accelerator("cpu", config)

    with pytest.MonkeyPatch.context() as patched, _Mode():
        for module in (choosing, fine_tuning):
            patched.setattr(module, "build_accelerator", build)
        for module in (starting, fine_tuning):
            patched.setattr(module, "choose_device", lambda requested: DEVICE.type)
        patched.setattr(pytorch, "DEVICES", (*pytorch.DEVICES, DEVICE.type))
        patched.setattr(Accelerator, "device", property(lambda accelerator: DEVICE))
        yield
