"""Pooled features: the backbone's own, or statistics of every block's output."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from taxon.config import Pooling
from taxon.core.errors import ConfigError
from taxon.models.backbones import Backbone

_PLACES = 3  # a side of what is averaged before the extremes are taken
_SAFE = 1e-6  # the slope of a square root is infinite at 0


class BlockStatistics(nn.Module):
    """Statistics over space of each block's output: [N, 3, H, W] -> [N, F].

    Mean, standard deviation, and the extremes of averages of 3x3 places: something small that
    stands out moves an extreme, and hardly the mean. With `with_last`, the network's own pooled
    features come first.

    Textures and small marks show in early blocks; the last layer, made for the objects of
    ImageNet, has let go of them (compare Evci et al. 2022, Head2Toe).
    """

    def __init__(self, network: nn.Module, *, with_last: bool) -> None:
        super().__init__()
        self.network = network
        self.with_last = with_last

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        network = cast(Any, self.network)
        if self.with_last:
            final, maps = network.forward_intermediates(images)
            parts = [network.forward_head(final)]
        else:
            maps, parts = network.forward_intermediates(images, intermediates_only=True), []
        for block in maps:
            mean = block.mean((2, 3))
            # The difference of two means would lose the digits of small variances.
            variance = (block - mean[:, :, None, None]).square().mean((2, 3))
            smooth = functional.avg_pool2d(
                block, _PLACES, stride=1, padding=_PLACES // 2, count_include_pad=False
            )
            highest, lowest = _highest(smooth), -_highest(-smooth)
            parts += [mean, torch.sqrt(variance + _SAFE), highest, lowest]
        return torch.cat(parts, dim=1)


def _highest(maps: torch.Tensor) -> torch.Tensor:
    """As `maps.amax((2, 3))`, several times faster on maps with their channels last."""
    return functional.adaptive_max_pool2d(maps, 1).flatten(1)


def gives_blocks(backbone: Backbone) -> bool:
    """Whether the architecture gives out its blocks' outputs."""
    return hasattr(backbone.module, "forward_intermediates")


def build_features(backbone: Backbone, pooling: Pooling) -> tuple[nn.Module, int]:
    """Return the network up to the pooled features [N, F], and F.

    Raises:
        ConfigError: the architecture does not give out its blocks' outputs.
    """
    if pooling == "last":
        return backbone.module, backbone.features
    if not gives_blocks(backbone):
        raise ConfigError(
            f"pooling '{pooling}' needs the outputs of single blocks, and '{backbone.name}' does "
            "not give them; use pooling=last"
        )
    features = BlockStatistics(backbone.module, with_last=pooling == "all")
    _, height, width = backbone.settings.get("input_size") or (3, 224, 224)
    was_training = backbone.module.training
    device = next(backbone.module.parameters()).device  # a GPU, if it computed features before
    with torch.no_grad():
        count = features.eval()(torch.zeros(1, 3, height, width, device=device)).shape[1]
    features.train(was_training)
    return features, int(count)
