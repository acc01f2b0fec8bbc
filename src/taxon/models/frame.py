"""The resize as a part of the exported graph: whole pictures of one size go in."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from taxon.models.classifier import InferenceModule
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.resampling import frame_resize


class FrameModule(nn.Module):
    """uint8 [N, 3, h, w] of one fixed size -> what the graph gives for the resized picture.

    Args:
        module: the graph.
        frame: (width, height) of the pictures.
        preprocessing: how they are brought to the model's size.
    """

    def __init__(
        self, module: InferenceModule, frame: tuple[int, int], preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.module = module
        resize = frame_resize(frame, preprocessing)
        self.rows_first = resize.rows_first
        self.register_buffer("columns", torch.from_numpy(resize.columns.T.copy()))
        self.register_buffer("rows", torch.from_numpy(resize.rows))
        self.register_buffer("background", torch.from_numpy(resize.background))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, columns = cast(torch.Tensor, self.rows), cast(torch.Tensor, self.columns)
        if self.rows_first:
            small = _levels(_levels(rows @ images.float()) @ columns)
        else:
            small = _levels(rows @ _levels(images.float() @ columns))
        return cast(
            tuple[torch.Tensor, ...], self.module(small + cast(torch.Tensor, self.background))
        )


def _levels(values: torch.Tensor) -> torch.Tensor:
    """Whole levels, 0 to 255, as Pillow keeps them between its two passes."""
    return torch.floor(torch.clamp(values, 0.0, 255.0) + 0.5)
