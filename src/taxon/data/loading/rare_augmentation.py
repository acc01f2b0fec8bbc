"""Rare classes: stronger augmentation of their repeated pictures, built in or by albumentations."""

from __future__ import annotations

import os
import random
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageEnhance, ImageFilter

from taxon.config import TrainConfig
from taxon.core.errors import ConfigError, MissingDependencyError
from taxon.data.imbalance import ImbalancePlan

# Takes an RGB picture of the model's input size, after the ordinary crop and flips; returns a
# changed picture of the same size. All chance comes from the generator.
RareAugmentation = Callable[[Image.Image, np.random.Generator], Image.Image]

INSTALL_LINE = "pip install 'taxon-vision[albumentations]'"
TRIALS = 16
_LARGEST_ANGLE = 12.0
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast)
_LARGEST_CHANGE = 0.3
_LARGEST_BLUR = 0.006  # of the picture's side
_LARGEST_NOISE = 8.0  # levels of 255


def with_pipeline(config: TrainConfig) -> TrainConfig:
    """Put the content of the pipeline file into the configuration, in place of its name.

    The bundle keeps the configuration whole: a run can be repeated without the file.

    Raises:
        ConfigError: the file is absent, or holds no pipeline that can be built.
        MissingDependencyError: albumentations is not installed.
    """
    source = config.imbalance.oversample_pipeline
    if not isinstance(source, str):
        return config
    definition = _read(Path(source))
    if "oversample" in config.imbalance.strategy:
        AlbumentationsPipeline(definition)  # fails here, before any picture is read
    imbalance = config.imbalance.model_copy(update={"oversample_pipeline": definition})
    return config.model_copy(update={"imbalance": imbalance})


def build_rare_augmentation(plan: ImbalancePlan, size: tuple[int, int]) -> RareAugmentation | None:
    """Return what `oversample` does to the repeated pictures; None where it is not asked for.

    A pipeline of the user's is tried first, so that it fails before training starts.

    Args:
        size: (height, width) of the model's input.

    Raises:
        ConfigError: the pipeline cannot be built or does not return pictures of that size.
        MissingDependencyError: albumentations is not installed.
    """
    if not plan.uses("oversample"):
        return None
    source = plan.settings.oversample_pipeline
    if source is None:
        return vary
    pipeline = AlbumentationsPipeline(_read(Path(source)) if isinstance(source, str) else source)
    height, width = size
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    for seed in range(TRIALS):
        pipeline(picture, np.random.default_rng(seed))
    return pipeline


def describe_rare(plan: ImbalancePlan) -> str | None:
    """Say in one line what is done to the repeated pictures of rare classes, if anything is."""
    if not plan.uses("oversample"):
        return None
    source = plan.settings.oversample_pipeline
    changes = (
        f"turns by up to {_LARGEST_ANGLE:g} degrees, brightness and contrast by up to "
        f"{_LARGEST_CHANGE:.0%}, blur or noise"
    )
    if source is not None:
        definition = _read(Path(source)) if isinstance(source, str) else source
        changes = f"{', '.join(_names(definition['transform']))} (albumentations)"
    return f"augmentation of repeated pictures of rare classes, beside the rest: {changes}"


def _names(transform: Mapping[str, Any]) -> list[str]:
    """The transforms of a pipeline by name, without those that only hold others."""
    inner = transform.get("transforms")
    if isinstance(inner, list):
        return [name for each in inner for name in _names(each)]
    return [str(transform.get("__class_fullname__", "?")).rpartition(".")[2]]


def vary(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The built-in augmentation: a small turn, brightness and contrast, blur or noise."""
    width, height = image.size
    # The corners that a turn leaves empty are filled from the mirrored picture.
    margin = max(width, height) // 8 + 1
    padded = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "symmetric")
    angle = rng.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE)
    turned = Image.fromarray(padded).rotate(angle, Image.Resampling.BILINEAR)
    view = turned.crop((margin, margin, margin + width, margin + height))
    for enhancer in _ENHANCERS:
        view = enhancer(view).enhance(1 + _LARGEST_CHANGE * rng.uniform(-1, 1))
    if rng.random() < 0.5:
        radius = rng.uniform(0, _LARGEST_BLUR) * min(width, height)
        return view.filter(ImageFilter.GaussianBlur(radius))
    noise = rng.normal(0, rng.uniform(0, _LARGEST_NOISE), (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(view) + noise, 0, 255).round().astype(np.uint8))


class AlbumentationsPipeline:
    """An albumentations pipeline as an augmentation of rare classes.

    A pipeline holds its random state, so that two threads cannot share one: each call takes a
    pipeline out of a pool, seeds it, and puts it back.

    Args:
        definition: what `A.to_dict` gives.

    Raises:
        ConfigError: it cannot be built.
        MissingDependencyError: albumentations is not installed.
    """

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.definition = dict(definition)
        with warnings.catch_warnings():
            # It only warns about arguments that it does not know, and drops them.
            warnings.simplefilter("error", UserWarning)
            self._pool: deque[Any] = deque([_build(self.definition)])

    def __reduce__(self) -> tuple[type[AlbumentationsPipeline], tuple[dict[str, Any]]]:
        """Loading processes build their own."""
        return AlbumentationsPipeline, (self.definition,)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Raises ConfigError: the pipeline fails, or changes the picture's size or type."""
        try:
            pipeline = self._pool.pop()
        except IndexError:  # all are in use by other threads
            pipeline = _build(self.definition)
        pixels = np.array(image)
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        try:
            changed = pipeline(image=pixels)["image"]
        except Exception as error:  # what a user's pipeline raises can be anything
            raise ConfigError(
                f"the albumentations pipeline fails on a picture of {image.width}x{image.height} "
                f"px: {_one_line(error)}. It must take pictures alone, without boxes or masks"
            ) from error
        self._pool.append(pipeline)
        received = f"{type(changed).__name__} {getattr(changed, 'dtype', '')}"
        if not isinstance(changed, np.ndarray) or changed.dtype != np.uint8:
            raise ConfigError(
                f"the albumentations pipeline must return uint8 pictures, received {received}; "
                "leave Normalize, ToFloat and ToTensorV2 out, the model does that itself"
            )
        if changed.shape != pixels.shape:
            raise ConfigError(
                "the albumentations pipeline must keep the picture's size, "
                f"{_shape(pixels)}, received {_shape(changed)}; leave crops to another size, "
                f"Resize, PadIfNeeded and ToGray to one channel out, or set them to {image.height} "
                f"and {image.width}"
            )
        return Image.fromarray(changed)


def _shape(pixels: Any) -> str:
    return "x".join(str(side) for side in pixels.shape)


def _read(path: Path) -> dict[str, Any]:
    """The content of a pipeline file; JSON is YAML."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot read the pipeline {path}: {reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {_one_line(error)}") from error
    return _require_definition(content, str(path))


def _require_definition(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise ConfigError(
            f"{where} holds no albumentations pipeline (a mapping with the key 'transform'); "
            "write one with albumentations.save(pipeline, FILE, data_format='yaml')"
        )
    return content


def _build(definition: Mapping[str, Any]) -> Any:
    """Build the pipeline; only transforms that albumentations itself has registered."""
    _require_definition(definition, "imbalance.oversample_pipeline")
    # It would ask a package index for a newer version on import.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise MissingDependencyError(
            f"imbalance.oversample_pipeline needs albumentations ({error}): {INSTALL_LINE}"
        ) from error
    try:
        return albumentations.from_dict(dict(definition))
    except KeyError as error:
        raise ConfigError(
            f"albumentations {albumentations.__version__} has no transform {error}"
        ) from error
    except Exception as error:  # it raises whatever its transforms raise
        raise ConfigError(
            f"albumentations {albumentations.__version__} cannot build the pipeline: "
            f"{_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
