"""Pictures of the training and validation part, as the network takes them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from taxon.core.errors import ConfigError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.loading.decode_cache import open_decode_cache
from taxon.data.loading.loader import TrainingBatches, pictures_at_once, training_batches
from taxon.data.loading.processes import LoadingProcesses
from taxon.data.loading.rare_augmentation import build_rare_augmentation
from taxon.data.loading.sampling import EpochPlan, plan_epoch, with_bounded_views
from taxon.data.loading.views import ViewMaker
from taxon.models.classifier import Normalise
from taxon.training.device import loading_processes
from taxon.training.distillation import with_answers
from taxon.training.job import TrainingJob
from taxon.training.outputs import predict_logits


class PictureFeed:
    """Makes batches of pictures for a run; it knows the data, the augmentation and the device.

    Attributes:
        targets: int64 [N] or [N, C], on the CPU, by position in the training part.
        loss_targets: as the loss takes them: with a teacher, its answers beside the labels.
        mean_weight: of all training pictures, by which weights are divided.
        weights: float32 [N], how much each training picture counts; their mean is 1.
        cache: of decoded pictures; None where it is off.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.config, self.train, self.validation = job.config, job.train, job.validation
        self.device: torch.device = job.accelerator.device
        workers = loading_processes(self.device)
        self._processes = LoadingProcesses(workers) if workers else None
        spec = job.preprocessing
        self.cache = open_decode_cache(
            job.train.records,
            job.validation.records,
            spec,
            job.config.augment,
            job.config.loader,
            workers=workers,
        )
        self._told = 0  # notes of the cache
        self._normalise = Normalise(spec.mean, spec.std).to(self.device)
        rare = build_rare_augmentation(job.imbalance, (spec.height, spec.width))
        self._maker = ViewMaker(
            job.train.records, spec, job.config.augment, job.config.seed, rare, self.cache
        )
        self._numbers = job.train.targets()
        self.targets = self.loss_targets = torch.from_numpy(self._numbers)
        if job.answers is not None:
            self.loss_targets = with_answers(self.targets, job.answers)
        weights = [record.weight for record in job.train.records]
        self.mean_weight = float(np.mean(weights))
        self.weights = torch.tensor(weights, dtype=torch.float32) / self.mean_weight

    def plan(self, epoch: int, views: int = 0) -> EpochPlan:
        """Which pictures an epoch (from 1) shows, and which of `views` views; 0: new ones."""
        job = self.job
        plan = plan_epoch(self._numbers, job.imbalance, seed=job.config.seed, epoch=epoch)
        return with_bounded_views(plan, views, epoch) if views else plan

    def batches(
        self, epoch: int, plan: EpochPlan, batch_size: int | None = None
    ) -> TrainingBatches:
        """The pictures of a plan, uint8, in batches."""
        return training_batches(
            self.train,
            self._maker,
            batch_size=batch_size or self.config.batch_size,
            epoch=epoch,
            plan=plan,
            targets=self.loss_targets,
            processes=self._processes,
        )

    def steps(self) -> int:
        """Optimiser steps in an epoch; the same in all of them."""
        return len(self.batches(1, self.plan(1)))

    def require_shares(self) -> None:
        """Refuse steps of less than two pictures for each process.

        Raises:
            ConfigError: some step has fewer.
        """
        size = self.job.team.size
        fewest = min(len(places) for places in self.batches(1, self.plan(1)).places)
        if size > 1 and fewest < 2 * size:
            raise ConfigError(
                f"{size} processes share steps of {fewest} pictures (batch_size="
                f"{self.config.batch_size}, {len(self.plan(1))} pictures an epoch), and each needs "
                f"two or more; raise --batch-size to {2 * size} or more, or start fewer processes"
            )

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures -> normalised floats on the device."""
        moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self._normalise(moved)  # type: ignore[no-any-return]

    def logits(self, module: nn.Module, part: Manifest) -> FloatArray:
        """Logits float32 [N, C] of a part, in evaluation mode; each process computes a share."""
        step = pictures_at_once(self.job.preprocessing)
        batches = self.job.team.share(range(0, len(part), step))
        mine = replace(part, records=part.records[batches.start : batches.stop])

        def compute() -> FloatArray:
            with self.autocast():
                return predict_logits(
                    module,
                    self._normalise,
                    mine,
                    self.job.preprocessing,
                    self.device,
                    cache=self.cache,
                )

        return self.job.team.arrays(self.job.team.attempt(compute))

    def new_notes(self) -> list[str]:
        """What hindered the cache of decoded pictures since the last call, in words."""
        notes = self.cache.notes[self._told :] if self.cache is not None else []
        self._told += len(notes)
        return notes

    def close(self) -> None:
        """End the loading processes."""
        if self._processes is not None:
            self._processes.close()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the run."""
        return self.job.accelerator.autocast()  # type: ignore[no-any-return]
