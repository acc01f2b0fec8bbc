"""The operations of Core ML programs (MIL) that image classifiers consist of, in PyTorch.

Each function has MIL's own parameters, as `coremltools.converters.mil` documents them for iOS 15.
All tensors are float32; whole numbers, truths and words are plain Python values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taxon.core.errors import BundleError

# Parameters that are a list of values.
LISTS = ("values",)


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    pad_type: str,
    dilations: Sequence[int],
    groups: int,
    bias: Tensor | None = None,
    pad: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    sizes = [
        (kernel - 1) * step + 1 for kernel, step in zip(weight.shape[2:], dilations, strict=True)
    ]
    padded = functional.pad(x, _border(x, sizes, strides, pad_type, pad))
    return functional.conv2d(padded, weight, bias, list(strides), 0, list(dilations), groups)


def _border(
    x: Tensor, sizes: Sequence[int], strides: Sequence[int], pad_type: str, pad: Sequence[int]
) -> list[int]:
    """Left, right, top and bottom of what is put around a picture, as PyTorch orders them."""
    if pad_type == "valid":
        return [0, 0, 0, 0]
    if pad_type == "custom":
        top, bottom, left, right = pad
        return [left, right, top, bottom]
    if pad_type not in ("same", "same_lower"):
        raise BundleError(f"unknown padding '{pad_type}' of a Core ML program")
    border = []
    for length, size, stride in reversed(list(zip(x.shape[2:], sizes, strides, strict=True))):
        missing = max((-(-length // stride) - 1) * stride + size - length, 0)
        less, more = missing // 2, missing - missing // 2
        border += [less, more] if pad_type == "same" else [more, less]
    return border


def _avg_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    exclude_padding_from_average: bool,
    ceil_mode: bool,
) -> Tensor:
    border = _border(x, kernel_sizes, strides, pad_type, pad)
    return functional.avg_pool2d(
        x,
        list(kernel_sizes),
        list(strides),
        _both_sides(border),
        ceil_mode,
        count_include_pad=not exclude_padding_from_average,
    )


def _max_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    border = _border(x, kernel_sizes, strides, pad_type, pad)
    return functional.max_pool2d(
        x, list(kernel_sizes), list(strides), _both_sides(border), ceil_mode=ceil_mode
    )


def _both_sides(border: Sequence[int]) -> list[int]:
    """The border of height and width, where it is the same on both sides."""
    left, right, top, bottom = border
    if left != right or top != bottom:
        raise BundleError("a Core ML program pools with another border on each side")
    return [top, left]


def _pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0) -> Tensor:
    """MIL names the first axis first, PyTorch the last one."""
    pairs = [(pad[place], pad[place + 1]) for place in range(0, len(pad), 2)]
    ends = [end for pair in reversed(pairs) for end in pair]
    if mode == "constant":
        return functional.pad(x, ends, value=constant_val)
    return functional.pad(x, ends, mode=mode)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _layer_norm(
    x: Tensor,
    axes: Sequence[int],
    epsilon: float,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    if sorted(axis % x.ndim for axis in axes) != list(range(x.ndim - len(axes), x.ndim)):
        raise BundleError("a Core ML program normalises other axes than the last ones")
    return functional.layer_norm(x, list(x.shape[-len(axes) :]), gamma, beta, epsilon)


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def _split(
    x: Tensor, axis: int, split_sizes: list[int] | None = None, num_splits: int | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is None:
        assert num_splits is not None
        return tuple(torch.chunk(x, num_splits, axis))
    return torch.split(x, split_sizes, axis)


def _concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise BundleError("a Core ML program interleaves what it puts together; unknown here")
    return torch.cat(values, axis)


def _expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = x.unsqueeze(axis)
    return x


def _slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    nothing = [False] * x.ndim
    parts: list[int | slice] = []
    for axis in range(x.ndim):
        if (squeeze_mask or nothing)[axis]:
            parts.append(begin[axis])
            continue
        first = None if (begin_mask or nothing)[axis] else begin[axis]
        last = None if (end_mask or nothing)[axis] else end[axis]
        parts.append(slice(first, last, None if stride is None else stride[axis]))
    return x[tuple(parts)]


def _classify(probabilities: Tensor, classes: list[str]) -> tuple[Tensor, Tensor]:
    """The place of the class that is named, and the probabilities, which Core ML puts by name."""
    return probabilities.argmax(dim=1), probabilities


def _sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0.0)


def _l2_norm(x: Tensor, axes: list[int], keep_dims: bool) -> Tensor:
    return x.square().sum(axes, keepdim=keep_dims).sqrt()


# What takes the place of each operation; names of parameters are MIL's.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "cast": lambda x, dtype: x,
    "classify": _classify,
    "clip": lambda x, alpha, beta: x.clamp(alpha, beta),
    "concat": _concat,
    "conv": _conv,
    "expand_dims": _expand_dims,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "maximum": lambda x, y: torch.maximum(x, torch.as_tensor(y)),
    "mul": lambda x, y: x * y,
    "pad": _pad,
    "real_div": lambda x, y: x / y,
    "reduce_l2_norm": _l2_norm,
    "reduce_log_sum_exp": lambda x, axes, keep_dims: torch.logsumexp(x, axes, keepdim=keep_dims),
    "reduce_max": lambda x, axes, keep_dims: x.amax(axes, keepdim=keep_dims),
    "reduce_mean": lambda x, axes, keep_dims: x.mean(axes, keepdim=keep_dims),
    "reduce_sum": lambda x, axes, keep_dims: x.sum(axes, keepdim=keep_dims),
    "relu": lambda x: torch.relu(x),
    "reshape": lambda x, shape: x.reshape(shape),
    "sigmoid": lambda x: torch.sigmoid(x),
    "sigmoid_hard": _sigmoid_hard,
    "silu": lambda x: functional.silu(x),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis: torch.softmax(x, axis),
    "softplus": lambda x: functional.softplus(x),
    "split": _split,
    "sqrt": lambda x: torch.sqrt(x),
    "squeeze": lambda x, axes: x.squeeze(tuple(axes)),
    "stack": lambda values, axis: torch.stack(values, axis),
    "sub": lambda x, y: x - y,
    "thresholded_relu": _thresholded_relu,
    "tile": lambda x, reps: x.repeat(reps),
    "transpose": lambda x, perm: x.permute(perm),
}
