"""Pretrained weights: from the hub, from a file, or none."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from taxon.core.cache import cache_folder
from taxon.core.errors import WeightsError
from taxon.core.fingerprint import sha256_file
from taxon.models import yolo
from taxon.models.backbones import Backbone, preprocessing_of, published_state

HUB_TIMEOUT_SECONDS = 5.0
_OFFLINE_HINT = (
    "name a downloaded file with --weights FILE (safetensors in its library's own names), "
    "or go without pretrained ones (--weights none)"
)


def load_pretrained(
    backbone: Backbone, weights: str | Path, *, trust_pickle: bool = False
) -> tuple[Backbone, dict[str, str]]:
    """Put pretrained weights into a backbone.

    Args:
        weights: `hub`, `none`, or the path of a safetensors file (or of a plain state dict in
            .pth) in the own names of the backbone's library.
        trust_pickle: read a .pt file of Ultralytics, which is a pickle.

    Returns:
        The backbone, with the settings of these weights, and where they came from.

    Raises:
        WeightsError: unreachable, unreadable, a pickle that is not trusted, or a key or shape
            that does not fit.
    """
    if str(weights) == "none":
        origin = {"source": "none (random initialisation)"}
        if backbone.source == "ultralytics":
            origin["licence"] = backbone.settings["license"]  # of the network's code
        return backbone, origin
    if str(weights) != "hub":
        return _from_file(backbone, Path(weights), trust_pickle)
    if backbone.source == "ultralytics":
        return _from_ultralytics(backbone, trust_pickle)
    return _from_hub(backbone)


def _from_file(
    backbone: Backbone, path: Path, trust_pickle: bool
) -> tuple[Backbone, dict[str, str]]:
    if backbone.source == "ultralytics" and path.suffix == ".pt":
        _require_file(path)
        _require_trust(str(path), trust_pickle)
        state = yolo.read_pickle(path)
    else:
        state = read_state(path)
    _check_fit(backbone, state, path)
    backbone.module.load_state_dict(state, strict=False)
    settings = _settings_beside(path)
    licence = (settings or backbone.settings).get("license")
    origin = {"source": path.name, "sha256": sha256_file(path), "licence": licence or "unknown"}
    if settings is not None:
        merged = {**backbone.settings, **settings}
        backbone = dataclasses.replace(backbone, settings=merged)
    return backbone, origin


def _from_ultralytics(backbone: Backbone, trust_pickle: bool) -> tuple[Backbone, dict[str, str]]:
    """Load what Ultralytics publishes; it is downloaded once, into taxon's cache."""
    name = f"{backbone.name}.pt"
    _require_trust(f"{name}, as Ultralytics publishes it,", trust_pickle)
    path = cache_folder("ultralytics") / name
    if not path.is_file():
        _require_hub(backbone.name, yolo.DOWNLOADS)
        yolo.read_pickle(path)  # its loader downloads what is absent
    return _from_file(backbone, path, trust_pickle)


def _require_trust(what: str, trust_pickle: bool) -> None:
    if not trust_pickle:
        raise WeightsError(
            f"{what} is a pickle, and a pickle can run any code while it is read; if you trust "
            "where it comes from, add --trust-pickle to `taxon train` (in Python: "
            f"trust_pickle=True). Otherwise {_OFFLINE_HINT}"
        )


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"no such weights file: {path}; {_OFFLINE_HINT}")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from .safetensors, or from .pth/.pt without running pickled code.

    Raises:
        WeightsError: absent, damaged, or not a plain state dict.
    """
    _require_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise several kinds on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise WeightsError(f"{path} is not a plain state dict (parameter name -> tensor)")
    return state


def _check_fit(backbone: Backbone, state: dict[str, torch.Tensor], path: Path) -> None:
    expected = backbone.module.state_dict()
    prefixes = tuple(f"{prefix}." for prefix in backbone.classifier_prefixes)
    missing = [
        key for key in expected if key not in state and not key.endswith("num_batches_tracked")
    ]
    unknown = [key for key in state if key not in expected and not key.startswith(prefixes)]
    shapes = [
        f"{key} (has {list(state[key].shape)}, needs {list(expected[key].shape)})"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for what, keys in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
        )
        if keys
    ]
    if problems:
        raise WeightsError(
            f"{path} does not fit {backbone.name}: {'; '.join(problems)}. "
            "Name the backbone that the weights belong to with --model (and leave "
            "preprocessing.size as it is where the architecture fixes its input)"
        )


def _settings_beside(path: Path) -> dict[str, Any] | None:
    """Return the weights' own configuration, where a timm config.json lies beside them."""
    file = path.with_name("config.json")
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_bytes()).get("pretrained_cfg") or {}
        given = {key: value for key, value in settings.items() if value is not None}
        preprocessing_of(given)
    except (ValueError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{file}, beside the weights, is damaged: {reason}") from error
    return given


def _from_hub(backbone: Backbone) -> tuple[Backbone, dict[str, str]]:
    repository = backbone.settings.get("hf_hub_id")
    if not repository:
        raise WeightsError(
            f"timm publishes no weights for '{backbone.name}'; choose another backbone "
            f"(`taxon models`), or {_OFFLINE_HINT}"
        )
    if not _is_cached(repository):
        _require_hub(backbone.name, os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        backbone.module.load_state_dict(published_state(backbone.name))
    except Exception as error:  # the hub's client raises many kinds: HTTP, cache, disk
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights of '{backbone.name}' could not be loaded from the hub ({reason}); "
            f"{_OFFLINE_HINT}"
        ) from error
    licence = str(backbone.settings.get("license") or "unknown")
    return backbone, {"source": f"hub: {repository}", "licence": licence}


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(repository, name), str)
        for name in ("model.safetensors", "pytorch_model.bin")
    )


def _require_hub(name: str, endpoint: str) -> None:
    """Ask the hub once, with a short limit: its client alone would retry for minutes."""
    import httpx

    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "yes")
    try:
        if offline:
            raise httpx.ConnectError("HF_HUB_OFFLINE is set")
        httpx.head(endpoint, timeout=HUB_TIMEOUT_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise WeightsError(
            f"the hub with the weights of '{name}' cannot be reached ({endpoint}: {reason}); "
            f"{_OFFLINE_HINT}"
        ) from error
