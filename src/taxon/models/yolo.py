"""Backbones from Ultralytics: YOLO11 for classification. The only module that imports Ultralytics.

Ultralytics is under the AGPL-3.0, and so are its weights: it comes with the extra
`taxon-vision[yolo]` and is imported when such a backbone is asked for (docs/adr/0013).
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from taxon.core.errors import MissingDependencyError, WeightsError

INSTALL_LINE = "pip install 'taxon-vision[yolo]' (in a checkout: pip install '.[yolo]')"
DOWNLOADS = "https://github.com"
_HEADLESS_LINE = "pip install --force-reinstall --no-deps opencv-python-headless"

# What Ultralytics publishes the weights with, under the keys of timm's configuration: its
# `classify_transforms` is a bilinear resize of the short side to 224, a centre crop, and no more.
SETTINGS: Mapping[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bilinear",
    "crop_mode": "center",
    "crop_pct": 1.0,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "classifier": "model.10.linear",
    "license": "agpl-3.0",
}

# Ultralytics reads these once, when it is imported: no looking for a network, no installing of
# packages on its own, no banner.
_SWITCHES = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


class _Pooling(nn.Module):
    """The classification layer without its classifier: [N, C, H, W] -> [N, 1280]."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.pool(self.conv(maps)), 1)


def build(name: str) -> tuple[nn.Module, int]:
    """Build a YOLO11 classification network with random weights, without its classifier.

    Args:
        name: `yolo11n-cls` to `yolo11x-cls`.

    Returns:
        The network, float [N, 3, H, W] -> [N, features], its parameters under Ultralytics' own
        names, and the size of the pooled features.

    Raises:
        MissingDependencyError: Ultralytics is not installed, or does not import.
    """
    *layers, last = _tasks().ClassificationModel(f"{name}.yaml", verbose=False).model
    pooled = nn.Sequential(*layers, _Pooling(last.conv))
    return nn.Sequential(OrderedDict(model=pooled)), last.linear.in_features


def blocks(module: nn.Module) -> list[list[str]]:
    """Return the parameter names grouped by layer, in order.

    The convolution before the pooling belongs to the last layer, as it does in timm's networks.
    """
    groups: dict[int, list[str]] = {}
    for name, _ in module.named_parameters():
        groups.setdefault(int(name.split(".")[1]), []).append(name)
    *layers, pooling = [names for _, names in sorted(groups.items())]
    return [*layers[:-1], layers[-1] + pooling]


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Read a .pt file of Ultralytics, a pickle, with Ultralytics' own loader.

    Its loader is told to let known classes through only. An absent file of a published name is
    downloaded to this path.

    Raises:
        MissingDependencyError: Ultralytics is not installed, or does not import.
        WeightsError: unreachable, damaged, or not a model of Ultralytics.
    """
    tasks = _tasks()
    try:
        with _no_new_safe_globals():
            checkpoint, _ = tasks.torch_safe_load(path, safe_only=True)
    except Exception as error:  # its loader raises many kinds: pickle, network, disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path} cannot be read by Ultralytics' loader: {reason}") from error
    averaged = checkpoint.get("ema")
    model = averaged if averaged is not None else checkpoint.get("model")
    if not isinstance(model, nn.Module):
        raise WeightsError(
            f"{path} holds no model of Ultralytics; a plain state dict is given as .pth or "
            ".safetensors"
        )
    return dict(model.float().state_dict())


def _tasks() -> ModuleType:
    """Import what builds and reads networks."""
    try:
        with _undisturbed():
            from ultralytics.nn import tasks
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"YOLO backbones need Ultralytics ({error}), which is under the AGPL-3.0 licence; if "
            f"that suits you, type: {INSTALL_LINE}"
        ) from error
    except ImportError as error:  # OpenCV with windows needs libraries of a desktop
        raise MissingDependencyError(
            f"Ultralytics does not import here ({error}); on a machine without a display type: "
            f"{_HEADLESS_LINE}"
        ) from error
    return tasks  # type: ignore[no-any-return]


@contextmanager
def _no_new_safe_globals() -> Iterator[None]:
    """Take back the classes that Ultralytics' loader lets into every later `torch.load`."""
    before = torch.serialization.get_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo what the import of Ultralytics changes in the whole process.

    It replaces `PIL.Image.open` (by one that installs a package when a picture cannot be read)
    and `torch.save`, and sets environment variables (one thread for OpenMP), print options and
    warning filters.
    """
    environment = dict(os.environ)
    opening, saving = Image.open, torch.save
    os.environ.update(_SWITCHES)
    try:
        with warnings.catch_warnings(), np.printoptions(), torch._tensor_str.printoptions():
            yield
    finally:
        Image.open, torch.save = opening, saving
        os.environ.clear()
        os.environ.update(environment)
