"""Backbones: timm's, which this module alone imports, and those of `models.yolo` beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.models._manipulate import group_with_matcher
from torch import nn

from taxon.core.errors import ConfigError
from taxon.models import yolo
from taxon.models.zoo import ZOO, Source, find, resolve, unknown_backbone
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.spec import Interpolation, ResizeMode

_RESIZE_MODES: dict[str, ResizeMode] = {"center": "crop", "squash": "squash", "border": "pad"}
_NUMBERED = re.compile(r"\d+(\.|$)")


@dataclass(frozen=True)
class Backbone:
    """A network without classifier: float [N, 3, H, W] -> pooled features [N, features].

    Attributes:
        name: its library's name of the architecture, with timm's tag of the weights where there
            is one.
        module: the network.
        features: size of the pooled features (`head_hidden_size`, which for MobileNetV3 is
            1024 and not the `num_features` of the last block).
        settings: configuration of the weights under timm's keys (mean, std, licence, ...).
        source: the library that it comes from.
    """

    name: str
    module: nn.Module
    features: int
    settings: Mapping[str, Any]
    source: Source = "timm"

    @property
    def architecture(self) -> str:
        """The name without the tag of the weights."""
        return self.name.split(".")[0]

    @property
    def classifier_prefixes(self) -> tuple[str, ...]:
        """The names under which published weights hold the classifier that we leave out."""
        names = self.settings.get("classifier") or ()
        return (names,) if isinstance(names, str) else tuple(names)


def create_backbone(name: str, *, input_size: tuple[int, int] | None = None) -> Backbone:
    """Build a backbone with random weights.

    Args:
        name: a name of `taxon models` or any timm name.
        input_size: (height, width); for architectures that fix it at construction (ViT).

    Raises:
        ConfigError: no library has it.
        MissingDependencyError: its library is not installed.
    """
    entry = find(name)
    return _LIBRARIES["timm" if entry is None else entry.source].build(name, input_size)


def _build_timm(name: str, input_size: tuple[int, int] | None) -> Backbone:
    timm_name = resolve(name)
    if not timm.is_model(timm_name):
        raise unknown_backbone(name, [*timm.list_models(), *(entry.name for entry in ZOO)])
    settings = _settings(timm_name)
    options: dict[str, Any] = {}
    if input_size is not None and settings.get("fixed_input_size"):
        options["img_size"] = input_size
    try:
        module = timm.create_model(timm_name, pretrained=False, num_classes=0, **options)
    except Exception as error:  # timm raises what the architecture's constructor raises
        raise ConfigError(f"the backbone '{name}' cannot be built: {error}") from error
    size = getattr(module, "head_hidden_size", None) or getattr(module, "num_features", None)
    if not isinstance(size, int):
        raise ConfigError(f"the backbone '{name}' does not say the size of its pooled features")
    return Backbone(name=timm_name, module=module, features=size, settings=settings)


def _build_yolo(name: str, input_size: tuple[int, int] | None) -> Backbone:
    """Build a YOLO network; it takes any input size."""
    known = resolve(name)
    module, features = yolo.build(known)
    return Backbone(known, module, features, yolo.SETTINGS, source="ultralytics")


def published_state(timm_name: str) -> dict[str, torch.Tensor]:
    """Download (or take from the hub's cache) the published weights, without classifier."""
    module = timm.create_model(timm_name, pretrained=True, num_classes=0)
    return cast(dict[str, torch.Tensor], module.state_dict())


def _settings(timm_name: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(timm_name)
    return dataclasses.asdict(config) if config is not None else {}


def preprocessing_of(settings: Mapping[str, Any]) -> Preprocessing:
    """Translate timm's configuration of the weights into our preprocessing spec."""
    _, height, width = settings.get("input_size") or (3, 224, 224)
    interpolation = settings.get("interpolation") or "bicubic"
    return Preprocessing(
        height=height,
        width=width,
        resize=_RESIZE_MODES.get(settings.get("crop_mode") or "center", "crop"),
        crop_fraction=settings.get("crop_pct") or 0.875,
        interpolation=cast(
            Interpolation,
            interpolation if interpolation in ("bilinear", "bicubic", "lanczos") else "bicubic",
        ),
        mean=tuple(settings.get("mean") or (0.485, 0.456, 0.406)),
        std=tuple(settings.get("std") or (0.229, 0.224, 0.225)),
    )


def blocks(backbone: Backbone) -> list[list[str]]:
    """Return the backbone's parameter names, grouped into the stem and its blocks, in order.

    A block is a stage in timm's own coarse grouping (`group_matcher(coarse=True)`): a stage of
    an EfficientNet, MobileNetV3 or ConvNeXt, one transformer layer of a ViT; of a YOLO it is a
    layer. Whatever follows the last numbered block (a last convolution, a last norm) belongs to
    that block.
    """
    return _LIBRARIES[backbone.source].blocks(backbone)


def _timm_blocks(backbone: Backbone) -> list[list[str]]:
    matcher = getattr(backbone.module, "group_matcher", None)
    if matcher is None:
        raise ConfigError(
            f"timm defines no stages for '{backbone.name}', so its last blocks cannot be told; "
            "use --recipe scratch, or another backbone (`taxon models`)"
        )
    grouped = group_with_matcher(backbone.module.named_parameters(), matcher(coarse=True))
    groups = [list(names) for _, names in sorted(grouped.items())]
    while len(groups) > 1 and not any(_NUMBERED.search(name) for name in groups[-1]):
        tail = groups.pop()
        groups[-1].extend(tail)
    return groups


def _yolo_blocks(backbone: Backbone) -> list[list[str]]:
    return yolo.blocks(backbone.module)


def freeze_all_but_last(backbone: Backbone, count: int | None) -> list[str]:
    """Let only the last `count` blocks train (0: none, None: all). Return the trainable names."""
    if count is None:
        trainable = {name for name, _ in backbone.module.named_parameters()}
    elif count == 0:
        trainable = set()
    else:
        trainable = {name for group in blocks(backbone)[-count:] for name in group}
    for name, parameter in backbone.module.named_parameters():
        parameter.requires_grad_(name in trainable)
    return sorted(trainable)


def synchronised_batch_norm(module: nn.Module) -> None:
    """Let batch norms of several GPUs normalise by the whole batch; names and weights stay.

    With timm's function: in some of its batch norms there is an activation, which torch's would
    leave out.
    """
    convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def train_mode(module: nn.Module) -> None:
    """Set training mode, but leave every wholly frozen part in evaluation mode.

    Otherwise the batch norm of frozen layers goes on averaging, and their output drifts away
    from what the frozen weights were trained with.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def config_json(backbone: Backbone, preprocessing: Preprocessing) -> dict[str, Any]:
    """Return config.json: for a backbone of timm what timm and the Hugging Face Hub read."""
    return _LIBRARIES[backbone.source].config(backbone, preprocessing)


def _timm_config(backbone: Backbone, preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "architecture": backbone.architecture,
        "num_classes": 0,
        "num_features": backbone.features,
        "pretrained_cfg": {
            "tag": "taxon",
            "num_classes": 0,
            "input_size": [3, preprocessing.height, preprocessing.width],
            "fixed_input_size": bool(backbone.settings.get("fixed_input_size")),
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_fraction,
            "crop_mode": next(
                key for key, mode in _RESIZE_MODES.items() if mode == preprocessing.resize
            ),
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "license": backbone.settings.get("license"),
            "first_conv": backbone.settings.get("first_conv"),
            "classifier": backbone.settings.get("classifier"),
        },
    }


def _yolo_config(backbone: Backbone, preprocessing: Preprocessing) -> dict[str, Any]:
    """Say what model.safetensors is, under no key that timm would take for its own."""
    return {
        "library_name": backbone.source,
        "model": backbone.name,
        "license": backbone.settings["license"],
        "input_size": [3, preprocessing.height, preprocessing.width],
        "features": backbone.features,
        "left_out": list(backbone.classifier_prefixes),
    }


@dataclass(frozen=True)
class _Library:
    """What differs between the libraries that backbones come from."""

    build: Callable[[str, tuple[int, int] | None], Backbone]
    blocks: Callable[[Backbone], list[list[str]]]
    config: Callable[[Backbone, Preprocessing], dict[str, Any]]


_LIBRARIES: dict[Source, _Library] = {
    "timm": _Library(_build_timm, _timm_blocks, _timm_config),
    "ultralytics": _Library(_build_yolo, _yolo_blocks, _yolo_config),
}
