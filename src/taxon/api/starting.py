"""What a run starts from: the device, and a backbone with its weights and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from taxon.bundle.hub import is_hub_name
from taxon.config import TrainConfig
from taxon.core.licences import duty
from taxon.models.backbones import Backbone, create_backbone, preprocessing_of
from taxon.models.hub import hub_backbone
from taxon.models.weights import load_pretrained
from taxon.models.zoo import default_backbone, find
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Note
from taxon.training.device import choose_device


@dataclass(frozen=True)
class Start:
    """What a run starts from: the device, and a backbone with its weights.

    Attributes:
        weights: where the pretrained weights came from.
        notes: what was chosen, in plain sentences.
    """

    device: str
    backbone: Backbone
    preprocessing: Preprocessing
    weights: dict[str, str]
    notes: tuple[str, ...]


def choose_start(
    config: TrainConfig,
    folder: Path,
    listener: Listener,
    *,
    trust_pickle: bool = False,
    reason: str = "",
) -> Start:
    """Choose the device and build the backbone; done first, so that it fails within seconds.

    Args:
        folder: from which the path of a weights file counts.
        trust_pickle: let the weights' own library unpickle them.
        reason: why the backbone is the one that the configuration names; empty: the user asked.

    Raises:
        ConfigError, WeightsError: the backbone, its weights or the device cannot be used.
    """
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    name, reason = config.model, reason or "as asked"
    origin = hub_backbone(name) if name is not None and is_hub_name(name) else None
    if name is None:
        name, reason = default_backbone(device, pretrained=config.weights != "none")
    size = config.preprocessing.size
    fixed = (size, size) if isinstance(size, int) else None
    named: str | Path = _weights_in(folder, config.weights)
    if origin is None:
        backbone = create_backbone(name, input_size=fixed)
    else:
        backbone = create_backbone(origin.name, input_size=fixed or origin.size)
        named = origin.weights if named == "hub" else named
    backbone, weights = load_pretrained(backbone, named, trust_pickle=trust_pickle)
    if origin is not None and named == origin.weights:
        weights["source"] = origin.pinned
    preprocessing = _adjust(preprocessing_of(backbone.settings), config)
    entry = find(name)
    known = f", {entry.top1:.1f} % top-1 on ImageNet" if entry and config.weights == "hub" else ""
    resolved = f"'{name}' resolves to it; " if backbone.name != name else ""
    licence = weights.get("licence", "none needed")
    asked = duty(licence)
    notes = (
        f"backbone: {backbone.name} ({resolved}{reason}{known}), on {device}",
        f"weights: {weights['source']}, licence: {licence}",
        *([f"licence: {asked}"] if asked else []),
    )
    for note in notes:
        listener(Note(note))
    return Start(device, backbone, preprocessing, weights, notes)


def pinned(config: TrainConfig) -> TrainConfig:
    """The configuration with the commit of a model of the hub, so that it stays the same.

    Raises:
        HubError: it cannot be had.
    """
    if config.model is None or not is_hub_name(config.model):
        return config
    return config.model_copy(update={"model": hub_backbone(config.model).pinned})


def _weights_in(folder: Path, weights: str) -> str:
    """The weights, a file as a path that holds from any working folder."""
    return weights if weights in ("hub", "none") else str(folder / weights)


def _adjust(preprocessing: Preprocessing, config: TrainConfig) -> Preprocessing:
    """The preprocessing of the weights, with what the configuration changes."""
    changes = config.preprocessing.model_dump(exclude_none=True)
    changes = {key: value for key, value in changes.items() if value != "auto"}
    if "size" in changes:
        changes["height"] = changes["width"] = changes.pop("size")
    return Preprocessing.model_validate({**preprocessing.model_dump(), **changes})
