"""The backbones that we know by name, with published figures. Reads without torch.

Source of the figures: timm's results tables (`results/results-imagenet.csv` for top-1 and
parameters, its benchmark tables for multiply-adds), as of August 2026 (MobileNetV4 and
EfficientNet-Lite1 to 4: an earlier version of the same tables, pytorch-image-models 7479d451, and
for MobileNetV4-Large timm's README), and for YOLO Ultralytics' documentation.
Each row names the exact weights, since one architecture has several: ConvNeXt-Tiny is 82.07 or
84.19 depending on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taxon.core.errors import ConfigError, nearest

Source = Literal["timm", "ultralytics"]


@dataclass(frozen=True)
class ZooEntry:
    """One known backbone.

    Attributes:
        name: what a user types.
        weights: the timm name and tag, or the file of Ultralytics, that it resolves to.
        top1: published ImageNet-1k top-1 of those weights at `input_size`, per cent.
        parameters: millions, with the ImageNet classifier.
        multiply_adds: billions at `input_size`.
        input_size: default side of the input in pixels.
        cpu_ms, t4_ms: published milliseconds a picture, with ONNX Runtime on a CPU and with
            TensorRT on a T4; None where there are none.
        licence: of the weights.
        source: the library that it comes from.
    """

    name: str
    weights: str
    top1: float
    parameters: float
    multiply_adds: float
    input_size: int
    cpu_ms: float | None = None
    t4_ms: float | None = None
    licence: str = "apache-2.0"
    source: Source = "timm"


def _yolo(
    size: str, top1: float, parameters: float, multiply_adds: float, cpu_ms: float, t4_ms: float
) -> ZooEntry:
    """A YOLO11 of one size.

    Top-1 and latencies are Ultralytics' own. Its table counts parameters for 80 classes, and
    operations to one digit: those two are counted here, with the ImageNet classifier.
    """
    return ZooEntry(
        f"yolo11{size}-cls",
        f"yolo11{size}-cls.pt",
        top1,
        parameters,
        multiply_adds,
        224,
        cpu_ms,
        t4_ms,
        "agpl-3.0",
        "ultralytics",
    )


ZOO: tuple[ZooEntry, ...] = (
    ZooEntry("efficientnet_b0", "efficientnet_b0.ra_in1k", 77.69, 5.29, 0.40, 224),
    ZooEntry("efficientnet_b4", "efficientnet_b4.ra2_in1k", 82.66, 19.34, 3.13, 320),
    ZooEntry("efficientnet_b7", "tf_efficientnet_b7.aa_in1k", 84.42, 66.35, 38.33, 600),
    ZooEntry("convnext_tiny", "convnext_tiny.in12k_ft_in1k", 84.19, 28.59, 4.47, 224),
    ZooEntry(
        "vit_base_patch16_224",
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        85.11,
        86.57,
        17.58,
        224,
    ),
    # For the edge.
    ZooEntry("mobilenetv3_large_100", "mobilenetv3_large_100.ra_in1k", 75.77, 5.48, 0.23, 224),
    ZooEntry("mobilenetv3_small_100", "mobilenetv3_small_100.lamb_in1k", 67.66, 2.54, 0.06, 224),
    ZooEntry(
        "mobilenetv4_conv_small", "mobilenetv4_conv_small.e2400_r224_in1k", 73.73, 3.77, 0.19, 224
    ),
    ZooEntry(
        "mobilenetv4_conv_medium", "mobilenetv4_conv_medium.e500_r256_in1k", 79.92, 9.72, 1.10, 256
    ),
    ZooEntry(
        "mobilenetv4_conv_large", "mobilenetv4_conv_large.e600_r384_in1k", 82.95, 32.59, 6.43, 384
    ),
    ZooEntry("efficientnet_lite0", "efficientnet_lite0.ra_in1k", 75.48, 4.65, 0.40, 224),
    ZooEntry("efficientnet_lite1", "tf_efficientnet_lite1.in1k", 76.67, 5.42, 0.62, 240),
    ZooEntry("efficientnet_lite2", "tf_efficientnet_lite2.in1k", 77.47, 6.09, 0.89, 260),
    ZooEntry("efficientnet_lite3", "tf_efficientnet_lite3.in1k", 79.83, 8.20, 1.65, 300),
    ZooEntry("efficientnet_lite4", "tf_efficientnet_lite4.in1k", 81.55, 13.01, 4.04, 380),
    _yolo("n", 70.0, 2.81, 0.20, 5.0, 1.1),
    _yolo("s", 75.4, 6.72, 0.74, 7.9, 1.3),
    _yolo("m", 77.3, 11.63, 2.41, 17.2, 2.0),
    _yolo("l", 78.3, 14.12, 3.02, 23.2, 2.8),
    _yolo("x", 79.5, 29.64, 6.76, 41.4, 3.8),
)

DEFAULT_ON_GPU = "convnext_tiny"
DEFAULT_ON_CPU = "mobilenetv3_large_100"
# 0.1 million parameters: of the tiny ones tried, the best after a minute on 600 pictures.
DEFAULT_FROM_SCRATCH = "test_efficientnet"


def resolve(name: str) -> str:
    """Return the library's name of a known backbone; any other name is returned as it is."""
    entry = find(name)
    if entry is None:
        return name
    return entry.weights if entry.source == "timm" else entry.name


def find(name: str) -> ZooEntry | None:
    """Return the known entry for a user's name, or for the name of the weights."""
    return next((entry for entry in ZOO if name in (entry.name, entry.weights)), None)


def default_backbone(device: str, *, pretrained: bool) -> tuple[str, str]:
    """Return the default backbone's name for a device, and the reason in words."""
    if not pretrained:
        return (
            DEFAULT_FROM_SCRATCH,
            "small enough to learn from random weights and hundreds of pictures",
        )
    if device == "cpu":
        return DEFAULT_ON_CPU, "trains and answers fast on a CPU"
    return DEFAULT_ON_GPU, "the most accurate of the mid-sized backbones, and there is a GPU"


def unknown_backbone(name: str, known: list[str]) -> ConfigError:
    """The error for a name that no library has."""
    return ConfigError(
        f"unknown backbone '{name}'.{nearest(name, known)} "
        "`taxon models` lists the recommended ones; any timm name works"
    )
