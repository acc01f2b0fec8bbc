"""What a stage's steps are made of: pictures, or what the frozen blocks made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import nn

from taxon.core.predictions import FloatArray
from taxon.data.loading.loader import split_places
from taxon.data.loading.sampling import EpochPlan, IntArray
from taxon.models.cut import Segment, Tensors
from taxon.training.feature_store import FeatureStore
from taxon.training.frozen import VALIDATION, FrozenFeatures
from taxon.training.mixing import mix, mixing_generator
from taxon.training.pictures import PictureFeed

EVALUATION_BATCH = 64


class StepBatch(NamedTuple):
    """One step's pictures, on the device.

    Attributes:
        tensors: what the stage's module takes, [N, ...] each.
        targets: as the loss takes them.
        weights: float32 [N], how much each picture counts; 1 is normal.
    """

    tensors: Tensors
    targets: torch.Tensor
    weights: torch.Tensor


class StageInputs(Protocol):
    """Where a stage's batches come from, and the module that goes on from there."""

    @property
    def module(self) -> nn.Module:
        """The tensors of a batch -> logits [N, C]."""

    def prepare(self, epoch: int) -> None:
        """Compute what the epoch needs and nobody computed yet; in evaluation mode."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[StepBatch]:
        """The batches of an epoch (counted over all stages, from 1), from step `first` on."""

    def validation_logits(self) -> FloatArray:
        """Logits float32 [N, C] of the validation part, in evaluation mode."""


class PictureInputs:
    """Each step shows random views of pictures to the whole network."""

    def __init__(self, feed: PictureFeed, classifier: nn.Module, *, views: int, mixing: bool):
        self.module = classifier
        self._feed = feed
        self._views = views
        self._mixing = mixing

    def prepare(self, epoch: int) -> None:
        """Nothing is kept."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[StepBatch]:
        """Views of this epoch; mixed where that is on."""
        feed, augment = self._feed, self._feed.config.augment
        space = feed.train.label_space
        made = feed.batches(epoch, feed.plan(epoch, self._views)).after(first)
        for step, batch in enumerate(made, start=first + 1):
            images = feed.to_input(batch.images)
            targets = batch.targets.to(feed.device)
            weights = (batch.weights / feed.mean_weight).to(feed.device)
            if self._mixing and (augment.mixup or augment.cutmix):
                generator = mixing_generator(feed.config.seed, epoch, step)
                images, targets, weights = mix(
                    images, targets, weights, len(space.names), augment, generator, space.task
                )
            yield StepBatch((images,), targets, weights)

    def validation_logits(self) -> FloatArray:
        """Through the whole network."""
        return self._feed.logits(self.module, self._feed.validation)


class FeatureInputs:
    """Each step goes on from what the frozen blocks made of a bounded number of views."""

    def __init__(
        self, feed: PictureFeed, frozen: FrozenFeatures, store: FeatureStore, module: nn.Module
    ):
        self.module = module
        self._feed = feed
        self._frozen = frozen
        self._store = store

    def prepare(self, epoch: int) -> None:
        """Compute the views that this epoch is the first to show."""
        views = cast(IntArray, self.plan(epoch).views)
        for view in np.unique(views):
            self._frozen.fill(self._store, int(view))
        if len(self._feed.validation):
            self._frozen.fill(self._store, VALIDATION)

    def plan(self, epoch: int) -> EpochPlan:
        """Which views the epoch shows."""
        return self._feed.plan(epoch, self._frozen.views)

    def batches(self, epoch: int, first: int = 0) -> Iterator[StepBatch]:
        """Rows of the store, in the order in which the pictures would be shown."""
        feed, plan = self._feed, self.plan(epoch)
        views = cast(IntArray, plan.views)
        for places in split_places(len(plan), feed.config.batch_size)[first:]:
            rows = slice(places.start, places.stop)
            positions = plan.positions[rows]
            yield StepBatch(
                self._on_device(self._store.rows(views[rows], positions)),
                feed.loss_targets[positions].to(feed.device),
                feed.weights[positions].to(feed.device),
            )

    def validation_logits(self) -> FloatArray:
        """From what the frozen blocks made of the validation part."""
        count = len(self._feed.validation)
        self.module.eval()
        rows = []
        with torch.no_grad(), self._feed.autocast():
            for start in range(0, count, EVALUATION_BATCH):
                positions = np.arange(start, min(start + EVALUATION_BATCH, count))
                views = np.full(len(positions), VALIDATION)
                tensors = self._on_device(self._store.rows(views, positions))
                rows.append(self.module(*tensors).float().cpu().numpy())
        return np.concatenate(rows)

    def features(self, views: Sequence[int], count: int) -> FloatArray:
        """Features float32 [len(views) * count, F]: of each view all pictures, 0 to count - 1."""
        positions = np.arange(count)
        rows = []
        for view in views:
            self._frozen.fill(self._store, view)
            (features,) = self._store.rows(np.full(count, view), positions)
            rows.append(features.float().numpy())
        return np.concatenate(rows)

    def _on_device(self, tensors: Tensors) -> Tensors:
        return tuple(tensor.to(self._feed.device, non_blocking=True) for tensor in tensors)


class Continuation(nn.Module):
    """The network from a border on: what crosses it -> logits [N, C]."""

    def __init__(self, segments: Sequence[Segment], head: nn.Module) -> None:
        super().__init__()
        self.segments = nn.ModuleList(segments)
        self.head = head

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        for segment in self.segments:
            tensors = segment(*tensors)
        (features,) = tensors
        return cast(torch.Tensor, self.head(features))
