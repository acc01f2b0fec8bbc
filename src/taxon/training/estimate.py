"""Estimate how long training will take, by timing a few pictures in each stage."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from taxon.config import TrainConfig
from taxon.models import Classifier
from taxon.models.backbones import freeze_all_but_last

SAMPLE = 8


def estimate_epochs(
    classifier: Classifier,
    images: torch.Tensor,
    config: TrainConfig,
    *,
    training_pictures: int,
    validation_pictures: int,
    loading_seconds: float,
) -> list[float]:
    """Return the seconds that an epoch of each stage will take, to within some tens of per cent.

    The weights stay as they are: gradients are thrown away, and batch norm stays in
    evaluation mode.

    Args:
        images: normalised float [N, 3, H, W] on the device.
        loading_seconds: to load one picture.
    """
    sample = images[:SAMPLE]
    classifier.eval()
    with torch.no_grad():
        forward = _seconds(lambda: classifier(sample)) / len(sample)
    epochs = []
    for stage in config.stages:
        blocks = None if stage.unfrozen_blocks == "all" else stage.unfrozen_blocks
        freeze_all_but_last(classifier.spec, blocks)
        step = _seconds(lambda: classifier(sample).sum().backward()) / len(sample)
        classifier.zero_grad(set_to_none=True)
        training = training_pictures * (step + loading_seconds)
        validation = validation_pictures * (forward + loading_seconds)
        epochs.append(training + validation)
    return epochs


def _seconds(work: Callable[[], object]) -> float:
    work()  # warm-up: the first call allocates memory and picks kernels
    _wait_for_gpu()
    start = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
