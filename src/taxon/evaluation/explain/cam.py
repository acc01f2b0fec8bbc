"""Grad-CAM, by the package `grad-cam`; the only module here that imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import nn

from taxon.core.predictions import ImageBatch
from taxon.inference.occlusion import Heat
from taxon.models.classifier import InferenceModule

Reshape = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Layer:
    """Where the map is read: a layer, and how its output becomes [N, channels, h, w]."""

    module: nn.Module
    reshape: Reshape | None = None


class GradCam:
    """Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks".

    The maps of the last layer that still has a place for each part of the picture, weighted by
    how much the class's logit grows with each; of several classes, its lead over the next one,
    since a network may tell two classes by the logit of one.

    Args:
        module: the trained model.
        size: height and width of its input.

    Raises:
        LookupError: no layer of the network gives maps that can be read.
    """

    name = "Grad-CAM"
    words = (
        "the maps of the last layer that still knows places, weighted by how much the class "
        "grows with each"
    )

    def __init__(self, module: InferenceModule, size: tuple[int, int]) -> None:
        layer = last_layer(module, size)
        if layer is None:
            raise LookupError("the network has no layer that Grad-CAM could read")
        self._task = module.task
        # Nothing but the way from this layer to the answer is differentiated. The hook comes before
        # those of the package, which then see what it gives.
        module.requires_grad_(False)
        layer.module.register_forward_hook(_start_here)
        self._cam = GradCAM(_Logits(module), [layer.module], reshape_transform=layer.reshape)
        try:
            self.heat(np.zeros((3, *size), np.uint8), 0)
        except (RuntimeError, ValueError, IndexError) as error:
            # Of some architectures the output cannot be watched, or is no map after all.
            raise LookupError(f"Grad-CAM cannot read the network: {error}") from error

    def heat(self, image: ImageBatch, column: int) -> Heat:
        """Explain a class; `image` is uint8 [3, H, W]."""
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
        found = self._cam(input_tensor=tensor, targets=[self._target(column)])
        heat = np.asarray(found[0], np.float32)
        return Heat(heat, "" if heat.any() else "no place speaks for the class")

    def _target(self, column: int) -> Callable[[torch.Tensor], torch.Tensor]:
        if self._task == "multilabel":
            return lambda logits: logits[column]

        def lead(logits: torch.Tensor) -> torch.Tensor:
            others = torch.cat([logits[:column], logits[column + 1 :]])
            return logits[column] - others.max()

        return lead


def _start_here(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
    return output.detach().requires_grad_()


class _Logits(nn.Module):
    """The graph with its logits alone: those of a class grow when it becomes more probable."""

    def __init__(self, module: InferenceModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.module(images)[1])


def last_layer(module: InferenceModule, size: tuple[int, int]) -> Layer | None:
    """Find the layer whose maps Grad-CAM reads; None where there is none.

    In a transformer with tokens it is the norm before the last attention, since behind it only
    the class token may count; elsewhere the last layer whose output is a picture of more than one
    place, in the second half of the network: what tokens are made of at its start tells little.

    Args:
        size: height and width of the input.
    """
    network = cast(Any, module.classifier.backbone)
    tokens = _tokens(network)
    if tokens is not None:
        return tokens
    last_channels = getattr(network, "output_fmt", "NCHW") == "NHWC"
    places = slice(1, 3) if last_channels else slice(2, 4)
    called: list[nn.Module | None] = []  # None where the output is no map

    def look(layer: nn.Module, _: object, output: object) -> None:
        is_map = (
            isinstance(output, torch.Tensor)
            and output.ndim == 4
            and _is_picture(output.shape[places], size)
        )
        called.append(layer if is_map else None)

    hooks = [layer.register_forward_hook(look) for layer in network.modules()]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, *size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    late = [layer for layer in called[len(called) // 2 :] if layer is not None]
    if not late:
        return None
    return Layer(late[-1], _channels_first if last_channels else None)


def _is_picture(places: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether these are more places than one, as high and wide as the input: an attention's are
    tokens by channels."""
    height, width = places
    ratio, expected = height / width, size[0] / size[1]
    return height * width > 1 and 0.8 < ratio / expected < 1.25


def _channels_first(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 3, 1, 2)


def _tokens(network: Any) -> Layer | None:
    """The last attention's norm of timm's vision transformers."""
    embedding, blocks = (getattr(network, name, None) for name in ("patch_embed", "blocks"))
    grid = getattr(embedding, "grid_size", None)
    norm = getattr(blocks[-1], "norm1", None) if isinstance(blocks, nn.Sequential) else None
    if norm is None or grid is None or not hasattr(network, "num_prefix_tokens"):
        return None
    height, width = grid
    first = int(network.num_prefix_tokens)

    def reshape(output: torch.Tensor) -> torch.Tensor:
        places = output[:, first:]
        return places.reshape(len(places), height, width, -1).permute(0, 3, 1, 2)

    return Layer(norm, reshape)
