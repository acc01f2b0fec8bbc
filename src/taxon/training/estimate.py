"""Estimate how long training will take, by timing a few pictures in each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from taxon.config import StageConfig
from taxon.models import Classifier
from taxon.models.backbones import freeze_all_but_last
from taxon.training.checkpoint import Progress
from taxon.training.pictures import PictureFeed
from taxon.training.sources import Sources

SAMPLE = 8
# Of a step on kept features: its backward pass takes about twice its forward pass.
_BOTH_BY_BACKWARD = 1.5


def expected_steps(
    feed: PictureFeed, sources: Sources, stages: Sequence[StageConfig], progress: Progress
) -> list[float]:
    """Return the seconds that each step which is left will take, to within some tens of per cent.

    The weights stay as they are: gradients are thrown away, and batch norm stays in evaluation
    mode.
    """
    start = time.perf_counter()
    images = next(iter(feed.batches(0, feed.plan(1), SAMPLE))).images
    loading = (time.perf_counter() - start) / len(images)
    sample = feed.to_input(images)
    classifier = feed.job.classifier
    classifier.eval()
    with torch.no_grad():
        forward = _seconds(lambda: classifier(sample)) / len(images)
    train, validation = len(feed.plan(1)), len(feed.validation)
    kept_views, steps, done = 0, list[float](), progress.steps
    for position, stage in enumerate(stages[progress.stage :]):
        keeps = sources.keeps_features(stage)
        step = _step(classifier, stage, sample)
        each = _BOTH_BY_BACKWARD * max(0.0, step - forward) if keeps else step + loading
        count = feed.steps() if stage.method == "gradient" else 1
        done += 0 if position else progress.epochs * count
        for epoch in range(stage.epochs):
            new = keeps and epoch >= kept_views and epoch < sources.views
            shown = train * each + (not keeps) * validation * (forward + loading)
            filled = new * (train + (epoch == 0) * validation) * (forward + loading)
            steps += [(shown + filled) / count / feed.job.team.size] * count
        kept_views = max(kept_views, min(stage.epochs, sources.views)) if keeps else 0
    return steps[done:]


def _step(classifier: Classifier, stage: StageConfig, sample: torch.Tensor) -> float:
    """Seconds that a picture takes forward and backward in a stage."""
    blocks = None if stage.unfrozen_blocks == "all" else stage.unfrozen_blocks
    freeze_all_but_last(classifier.spec, blocks)
    seconds = _seconds(lambda: classifier(sample).sum().backward()) / len(sample)
    classifier.zero_grad(set_to_none=True)
    return seconds


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
