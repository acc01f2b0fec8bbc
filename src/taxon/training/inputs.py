"""What a stage's steps are made of: pictures, or what the frozen blocks made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import nn

from taxon.core.predictions import FloatArray
from taxon.data.loading.loader import pictures_at_once, split_places
from taxon.data.loading.sampling import EpochPlan, IntArray
from taxon.models.cut import Segment, Tensors
from taxon.training.feature_store import FeatureStore
from taxon.training.frozen import VALIDATION, FrozenFeatures
from taxon.training.mixing import mix, mixing_generator
from taxon.training.pictures import PictureFeed


class StepBatch(NamedTuple):
    """One step's pictures, on the device.

    Attributes:
        tensors: what the stage's module takes, [N, ...] each.
        targets: as the loss takes them.
        weights: float32 [N], how much each picture counts; 1 is normal.
        total: pictures of the step in all processes together.
    """

    tensors: Tensors
    targets: torch.Tensor
    weights: torch.Tensor
    total: int


class StageInputs(Protocol):
    """Where a stage's batches come from, and the module that goes on from there."""

    @property
    def module(self) -> nn.Module:
        """The tensors of a batch -> logits [N, C]."""

    def prepare(self, epoch: int) -> None:
        """Compute what the epoch needs and nobody computed yet; in evaluation mode."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[StepBatch]:
        """This process's shares of an epoch's batches, from step `first` on.

        Args:
            epoch: counted over all stages, from 1.
        """

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
        """Views of this epoch; mixed where that is on, each process's among themselves."""
        feed, augment = self._feed, self._feed.config.augment
        space = feed.train.label_space
        team = feed.job.team
        whole = feed.batches(epoch, feed.plan(epoch, self._views)).after(first)
        made = whole.only([team.share(places) for places in whole.places])
        steps = zip(whole.places, made, strict=True)
        for step, (places, batch) in enumerate(steps, start=first + 1):
            images = feed.to_input(batch.images)
            targets = batch.targets.to(feed.device)
            weights = (batch.weights / feed.mean_weight).to(feed.device)
            if self._mixing and (augment.mixup or augment.cutmix):
                generator = mixing_generator(feed.config.seed, epoch, step, team.rank)
                images, targets, weights = mix(
                    images, targets, weights, len(space.names), augment, generator, space.task
                )
            yield StepBatch((images,), targets, weights, len(places))

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
        views = np.unique(cast(IntArray, self.plan(epoch).views)).tolist()
        self.compute([*views, VALIDATION] if len(self._feed.validation) else views)

    def plan(self, epoch: int) -> EpochPlan:
        """Which views the epoch shows."""
        return self._feed.plan(epoch, self._frozen.views)

    def batches(self, epoch: int, first: int = 0) -> Iterator[StepBatch]:
        """Rows of the store, in the order in which the pictures would be shown."""
        feed, plan = self._feed, self.plan(epoch)
        views = cast(IntArray, plan.views)
        for places in split_places(len(plan), feed.config.batch_size)[first:]:
            own = feed.job.team.share(places)
            rows = slice(own.start, own.stop)
            positions = plan.positions[rows]
            yield StepBatch(
                self._on_device(self._store.rows(views[rows], positions)),
                feed.loss_targets[positions].to(feed.device),
                feed.weights[positions].to(feed.device),
                len(places),
            )

    def validation_logits(self) -> FloatArray:
        """From what the frozen blocks made of the validation part."""
        feed = self._feed
        count, classes = len(feed.validation), len(feed.train.label_space.names)
        self.module.eval()
        rows = [np.zeros((0, classes), np.float32)]
        with torch.no_grad(), feed.autocast():
            step = pictures_at_once(feed.job.preprocessing)
            for start in feed.job.team.share(range(0, count, step)):
                positions = np.arange(start, min(start + step, count))
                views = np.full(len(positions), VALIDATION)
                tensors = self._on_device(self._store.rows(views, positions))
                rows.append(self.module(*tensors).float().cpu().numpy())
        return feed.job.team.arrays(np.concatenate(rows))

    def compute(self, views: Sequence[int]) -> None:
        """Compute these views, unless they are there."""
        for view in views:
            self._frozen.fill(self._store, view)

    def features(self, views: Sequence[int], count: int) -> FloatArray:
        """Features float32 [len(views) * count, F]: of each view all pictures, 0 to count - 1.

        Of views that were computed.
        """
        positions = np.arange(count)
        rows = []
        for view in views:
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
