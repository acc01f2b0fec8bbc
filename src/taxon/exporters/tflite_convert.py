"""Convert a bundle to TFLite; run by the converter's own Python (`converter_environment`).

python -m taxon.exporters.tflite_convert BUNDLE FILE [WIDTH HEIGHT]

With a width and a height, whole pictures of that size go in, and the resize is in the graph.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from taxon.bundle import Bundle, read_bundle
from taxon.exporters.onnx import exportable_module
from taxon.inference.litert import SIGNATURE
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT
from taxon.models.classifier import InferenceModule, Normalise
from taxon.models.frame import FrameModule


def convertible_module(
    bundle: Bundle, frame: tuple[int, int] | None = None
) -> tuple[nn.Module, torch.Tensor]:
    """Return the module to be converted, and an example of its input: uint8 [1, H, W, 3].

    It gives the outputs by name, and computes what the core graph computes.

    Args:
        frame: (width, height) of whole pictures, where the resize shall be in the graph.
    """
    spec = bundle.spec.preprocessing
    core = exportable_module(bundle)
    flatten_linear_layers(core)
    fix_input_size(core, (spec.height, spec.width))
    module: nn.Module
    module = ChannelsLast(core) if frame is None else FramesLast(FrameModule(core, frame, spec))
    width, height = frame or (spec.width, spec.height)
    return module.eval(), torch.zeros((1, height, width, 3), dtype=torch.uint8)


class ChannelsLast(nn.Module):
    """The core graph with channels last, as TFLite has them: uint8 [1, H, W, 3] in.

    The picture is normalised as it lies and only then turned, which the converter takes out again
    with the turns of its convolutions; one that is turned first stays turned.
    """

    def __init__(self, core: InferenceModule) -> None:
        super().__init__()
        self.core = core
        self.normalise = core.normalise
        core.normalise = cast(Normalise, nn.Identity())
        for name in ("mean", "factor"):
            constant = cast(torch.Tensor, getattr(self.normalise, name))
            setattr(self.normalise, name, constant.view(1, 1, 1, 3))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return _named(self.core(self.normalise(images).permute(0, 3, 1, 2)))


class FramesLast(nn.Module):
    """Whole pictures with channels last: uint8 [1, h, w, 3] in."""

    def __init__(self, frames: FrameModule) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return _named(self.frames(images.permute(0, 3, 1, 2)))


def _named(outputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    return dict(zip((*OUTPUTS, SCOPE_OUTPUT), outputs, strict=False))


class FlatLinear(nn.Linear):
    """A linear layer on [..., F] that computes one matrix product on [M, F], with equal values.

    As they stand, linear layers on [N, H, W, F] (ConvNeXt's) become a product of matrices that the
    converter then refuses: "'tfl.batch_matmul' op found invalid output rank".
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        flat = super().forward(values.reshape(-1, self.in_features))
        return flat.reshape(*values.shape[:-1], self.out_features)


def flatten_linear_layers(module: nn.Module) -> None:
    """Put a `FlatLinear` in place of each linear layer; the weights are the same tensors."""
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                with torch.device("meta"):
                    flat = FlatLinear(layer.in_features, layer.out_features)
                flat.weight, flat.bias = layer.weight, layer.bias
                setattr(parent, name, flat)


def fix_input_size(module: nn.Module, size: tuple[int, int]) -> None:
    """Let vision transformers that take any size take this one only, (height, width).

    Exported as they stand, they bring their position embeddings to the size of the picture at each
    call, to the same values every time, by a bicubic resize that TFLite does not have.
    """
    for part in module.modules():
        if getattr(part, "dynamic_img_size", False):
            transformer = cast(Any, part)
            transformer.set_input_size(img_size=size)
            transformer.dynamic_img_size = False
            transformer.patch_embed.flatten = True


def main(bundle: str, file: str, *frame: str) -> None:
    """Write the bundle as a .tflite file: float32, one picture a call."""
    import litert_torch

    size = (int(frame[0]), int(frame[1])) if frame else None
    module, example = convertible_module(read_bundle(Path(bundle)), size)
    with torch.no_grad():
        converted = litert_torch.signature(
            SIGNATURE, module, sample_kwargs={"images": example}
        ).convert()
    converted.export(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
