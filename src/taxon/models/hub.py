"""Start from a model of the Hugging Face Hub: a bundle of taxon, or any repository of timm.

Only config.json and model.safetensors are read (and bundle.json): no pickle, and no code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxon.bundle.hub import HubName, download, parse_hub_name
from taxon.bundle.layout import BUNDLE_FILE, CONFIG_FILE, WEIGHTS_FILE
from taxon.bundle.read import check_file, read_bundle_info
from taxon.core.errors import BundleError, WeightsError


@dataclass(frozen=True)
class HubBackbone:
    """A backbone of the hub, downloaded.

    Attributes:
        name: its library's name of the architecture.
        weights: the safetensors file, with its config.json beside it.
        size: (height, width) of the pictures that the weights are for, where it is told.
        pinned: its name with the commit.
    """

    name: str
    weights: Path
    size: tuple[int, int] | None
    pinned: str


def hub_backbone(model: str) -> HubBackbone:
    """Download what a training starts from.

    Args:
        model: `hf:user/name[@revision]`.

    Raises:
        ConfigError: a malformed name.
        HubError: not there, or out of reach.
        WeightsError: no safetensors, or an architecture that cannot be told.
        BundleError: a bundle of taxon that was altered.
    """
    name = parse_hub_name(model)
    folder = download(
        name,
        CONFIG_FILE,
        [CONFIG_FILE, WEIGHTS_FILE, BUNDLE_FILE],
        lacking=f"{name} is neither a model of taxon nor one of timm: there is no {CONFIG_FILE} in "
        "it; `taxon models` lists backbones that we recommend",
    )
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError(
            f"{name} has no {WEIGHTS_FILE}; other files are pickles, which are not read. Choose a "
            "model with one, or a backbone of `taxon models`"
        )
    pinned = str(HubName(name.repository, folder.name))
    if (folder / BUNDLE_FILE).is_file():
        info = read_bundle_info(folder)
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            check_file(folder, file, info.files.get(file, ""))
        backbone = info.backbone
    else:
        backbone = _architecture(_config(folder, name), name)
    return HubBackbone(backbone, weights, _size(_config(folder, name)), pinned)


def _config(folder: Path, name: HubName) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"the {CONFIG_FILE} of {name} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise BundleError(f"the {CONFIG_FILE} of {name} is damaged: it holds no keys and values")
    return config


def _size(config: dict[str, Any]) -> tuple[int, int] | None:
    """The input size that timm's config.json names."""
    match config.get("pretrained_cfg"):
        case {"input_size": [_, int(height), int(width)]}:
            return height, width
    return None


def _architecture(config: dict[str, Any], name: HubName) -> str:
    """The architecture that timm's config.json names."""
    architecture, arguments = config.get("architecture"), config.get("model_args")
    if not isinstance(architecture, str):
        raise WeightsError(
            f"{name} is neither a model of taxon nor one of timm: its {CONFIG_FILE} names no "
            "`architecture`; `taxon models` lists backbones that we recommend"
        )
    if arguments:
        raise WeightsError(
            f"{name} is built with arguments of its own ({', '.join(arguments)}), which taxon does "
            "not pass on; choose another model"
        )
    return architecture
