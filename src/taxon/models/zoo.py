"""The backbones that we know by name, with published figures. Reads without torch.

Source of the figures: timm's results tables (`results/results-imagenet.csv` for top-1 and
parameters, its benchmark tables for multiply-adds), as of August 2026. Each row names the exact
weights, since one architecture has several: ConvNeXt-Tiny is 82.07 or 84.19 depending on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxon.core.errors import ConfigError, nearest


@dataclass(frozen=True)
class ZooEntry:
    """One known backbone.

    Attributes:
        name: what a user types.
        weights: the timm name and tag that it resolves to.
        top1: published ImageNet-1k top-1 of those weights, per cent.
        parameters: millions, with the ImageNet classifier.
        multiply_adds: billions at `input_size`.
        input_size: default side of the input in pixels.
        licence: of the weights.
    """

    name: str
    weights: str
    top1: float
    parameters: float
    multiply_adds: float
    input_size: int
    licence: str = "apache-2.0"


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
    ZooEntry("mobilenetv3_large_100", "mobilenetv3_large_100.ra_in1k", 75.77, 5.48, 0.23, 224),
    ZooEntry("mobilenetv3_small_100", "mobilenetv3_small_100.lamb_in1k", 67.66, 2.54, 0.06, 224),
    ZooEntry("efficientnet_lite0", "efficientnet_lite0.ra_in1k", 75.48, 4.65, 0.40, 224),
)

DEFAULT_ON_GPU = "convnext_tiny"
DEFAULT_ON_CPU = "mobilenetv3_large_100"
# 0.1 million parameters: of the tiny ones tried, the best after a minute on 600 pictures.
DEFAULT_FROM_SCRATCH = "test_efficientnet"


def resolve(name: str) -> str:
    """Return the timm name that a charter name stands for; any other name is returned as it is."""
    return next((entry.weights for entry in ZOO if entry.name == name), name)


def find(timm_name: str) -> ZooEntry | None:
    """Return the known entry for a user's or a timm name."""
    return next((entry for entry in ZOO if timm_name in (entry.name, entry.weights)), None)


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
    """The error for a name that timm does not have."""
    return ConfigError(
        f"unknown backbone '{name}'.{nearest(name, known)} "
        "`taxon models` lists the recommended ones; any timm name works"
    )
