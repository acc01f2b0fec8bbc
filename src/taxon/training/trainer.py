"""The loop: stages of epochs, the best epoch kept by macro-F1 on validation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from taxon.config import StageConfig, TrainConfig
from taxon.core.errors import DivergedError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.imbalance import ImbalancePlan, logit_adjustment
from taxon.data.loading.decode_cache import open_decode_cache
from taxon.data.loading.loader import Batch, TrainingBatches, training_batches
from taxon.data.loading.rare_augmentation import build_rare_augmentation
from taxon.data.loading.sampling import EpochPlan, plan_epoch
from taxon.decision import DecisionPolicy, calibrate
from taxon.metrics import headline
from taxon.models import Classifier
from taxon.models.backbones import train_mode
from taxon.models.classifier import Normalise
from taxon.preprocessing import Preprocessing
from taxon.training.clock import Clock
from taxon.training.device import loading_processes
from taxon.training.estimate import estimate_epochs
from taxon.training.events import EpochDone, Listener, Note, StageStarted, StepDone
from taxon.training.losses import build_loss
from taxon.training.mixing import mix
from taxon.training.outputs import predict_logits
from taxon.training.stages import count_parameters, prepare_stage, snapshot
from taxon.training.words import in_words

# So many training pictures stand in for a validation part.
PROBED = 32


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves: the classifier holds the best epoch's weights.

    Attributes:
        history: one row an epoch, as in `EpochDone`.
        best_epoch: counted from 1 over all stages.
    """

    history: tuple[dict[str, Any], ...]
    best_epoch: int


@dataclass(frozen=True)
class TrainingJob:
    """What is trained on what; constant over the run."""

    classifier: Classifier
    train: Manifest
    validation: Manifest
    preprocessing: Preprocessing
    config: TrainConfig
    imbalance: ImbalancePlan
    accelerator: Accelerator
    listener: Listener


def fit(job: TrainingJob) -> TrainingResult:
    """Train the classifier through all stages; afterwards it holds the best epoch's weights.

    Without a validation part the last epoch is the best.

    Raises:
        ConfigError: the augmentation of rare classes cannot be used.
        DivergedError: the loss is not a number any more.
    """
    run = _Run(job)
    run.estimate()
    active = [stage for stage in job.config.stages if stage.epochs]
    for position, stage in enumerate(active, start=1):
        run.stage(stage, position, len(active))
    if not len(job.validation):
        # No epoch was looked at: of the one that is kept, some training pictures show enough.
        run.outputs(replace(job.train, records=job.train.records[:PROBED]), len(run.history))
    job.classifier.load_state_dict(run.best_state)
    job.classifier.eval()
    return TrainingResult(tuple(run.history), run.best_epoch)


class _Run:
    """The state of a run: history, the best epoch so far, the clock."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.device = job.accelerator.device
        job.classifier.to(memory_format=torch.channels_last).to(self.device)
        spec = job.preprocessing
        self.workers = loading_processes(self.device)
        self.cache = open_decode_cache(
            job.train.records,
            job.validation.records,
            spec,
            job.config.augment,
            job.config.loader,
            workers=self.workers,
        )
        self.normalise = Normalise(spec.mean, spec.std).to(self.device)
        space = job.train.label_space
        self.targets = job.train.targets()
        self.mean_weight = float(np.mean([record.weight for record in job.train.records]))
        self.rare_augmentation = build_rare_augmentation(job.imbalance, (spec.height, spec.width))
        self.loss = build_loss(space.task, len(space.names), job.imbalance, job.config.loss).to(
            self.device
        )
        self.policy = DecisionPolicy.default(space, logit_adjustment(job.imbalance))
        self.history: list[dict[str, Any]] = []
        self.best_state: dict[str, torch.Tensor] = {}
        self.best_score = -math.inf
        self.best_epoch = 0
        self.clock = Clock(())
        self.told = 0  # notes of the cache

    def estimate(self) -> None:
        """Say how long it will take."""
        job = self.job
        if self.cache is not None:
            job.listener(Note(self.cache.summary))
        start = time.perf_counter()
        images = next(iter(self.batches(epoch=0))).images
        loading = (time.perf_counter() - start) / len(images)
        epochs = estimate_epochs(
            job.classifier,
            self.to_input(images),
            job.config,
            training_pictures=len(self.plan(epoch=0)),
            validation_pictures=len(job.validation),
            loading_seconds=loading,
        )
        steps = self.steps()
        self.clock = Clock(
            seconds / steps
            for seconds, stage in zip(epochs, job.config.stages, strict=True)
            for _ in range(stage.epochs * steps)
        )
        job.listener(Note(f"estimated time: {in_words(self.clock.expected)} for training"))

    def stage(self, stage: StageConfig, position: int, count: int) -> None:
        """Run one stage."""
        job = self.job
        steps = self.steps()
        # The optimiser and the gradients of the stage before would stay in memory.
        job.accelerator.free_memory()
        job.classifier.zero_grad(set_to_none=True)
        optimiser, schedule = prepare_stage(
            job.classifier, stage, weight_decay=job.config.optimiser.weight_decay, steps=steps
        )
        prepared = job.accelerator.prepare_optimizer(optimiser)
        trainable, total = count_parameters(job.classifier)
        job.listener(
            StageStarted(stage.name, position, count, stage.epochs, steps, trainable, total)
        )
        for epoch in range(1, stage.epochs + 1):
            start = time.perf_counter()
            rate = schedule.get_last_lr()[0]
            train_loss = self.train_epoch(prepared, schedule, epoch)
            row = {
                "stage": stage.name,
                "epoch": len(self.history) + 1,
                "train_loss": train_loss,
                **self.validate(),
                "learning_rate": rate,
                "seconds": round(time.perf_counter() - start, 2),
            }
            self.finish_epoch(row)

    def train_epoch(self, optimiser: Any, schedule: Any, epoch: int) -> float:
        """One pass over the training part; return the mean loss."""
        classifier, accelerator = self.job.classifier, self.job.accelerator
        train_mode(classifier)
        total, seen = 0.0, 0
        for step, batch in enumerate(self.batches(len(self.history) + 1), start=1):
            loss = self.batch_loss(batch, step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise diverged(len(self.history) + 1, f"the loss became {value} in step {step}")
            optimiser.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            clip = self.job.config.optimiser.gradient_clip
            if clip is not None:
                accelerator.clip_grad_norm_(classifier.parameters(), clip)
            optimiser.step()
            schedule.step()
            total, seen = total + value * len(batch.images), seen + len(batch.images)
            self.clock.step()
            self.job.listener(StepDone(epoch, step, value, self.clock.seconds_left()))
        return total / seen

    def batch_loss(self, batch: Batch, step: int) -> torch.Tensor:
        """The mean loss of a batch, each picture by its weight: a scalar."""
        job, epoch = self.job, len(self.history) + 1
        images, targets = self.to_input(batch.images), batch.targets.to(self.device)
        weights = batch.weights.to(self.device)
        augment, space = job.config.augment, job.train.label_space
        if augment.mixup or augment.cutmix:
            # By epoch and step, so that a resumed run blends the same pictures.
            entropy = np.random.SeedSequence([job.config.seed, epoch, step])
            generator = torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
            images, targets, weights = mix(
                images, targets, weights, len(space.names), augment, generator, space.task
            )
        with job.accelerator.autocast():
            values = self.loss(job.classifier(images).float(), targets)
        mean: torch.Tensor = (values * weights / self.mean_weight).mean()
        return mean

    def validate(self) -> dict[str, float | None]:
        """Loss and scores on validation; None without one."""
        part = self.job.validation
        task = part.label_space.task
        if not len(part):
            return {"validation_loss": None, "macro_f1": None}
        logits = self.outputs(part, len(self.history) + 1)
        targets = part.targets()
        plain = build_loss(task, len(part.label_space.names))
        loss = plain(torch.from_numpy(logits), torch.from_numpy(targets)).mean()
        # With the adjustment by class frequency, as the finished model will answer.
        scores = headline(task, targets, calibrate(logits, self.policy, task))
        return {"validation_loss": float(loss), **scores}

    def outputs(self, part: Manifest, epoch: int) -> FloatArray:
        """Logits float32 [N, C]; no loss shows what the last step of an epoch did, these do."""
        logits = predict_logits(
            self.job.classifier,
            self.normalise,
            part,
            self.job.preprocessing,
            self.device,
            cache=self.cache,
        )
        if not np.isfinite(logits).all():
            raise diverged(epoch, "the model's outputs are not numbers any more")
        return logits

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Keep the row, and the weights where they are the best so far."""
        self.history.append(row)
        score = row["macro_f1"]
        # Without validation every epoch is "better" than the one before: the last is kept.
        best = score is None or score > self.best_score
        if best:
            self.best_score = score if score is not None else -math.inf
            self.best_epoch = row["epoch"]
            self.best_state = snapshot(self.job.classifier)
        self.job.listener(EpochDone(row, best, self.clock.seconds_left()))
        notes = self.cache.notes[self.told :] if self.cache else []
        self.told += len(notes)
        for note in notes:
            self.job.listener(Note(note))

    def batches(self, epoch: int) -> TrainingBatches:
        """The training batches of an epoch, counted over all stages."""
        job = self.job
        return training_batches(
            job.train,
            job.preprocessing,
            job.config.augment,
            batch_size=job.config.batch_size,
            seed=job.config.seed,
            epoch=epoch,
            workers=self.workers,
            plan=self.plan(epoch),
            rare_augmentation=self.rare_augmentation,
            cache=self.cache,
        )

    def plan(self, epoch: int) -> EpochPlan:
        """Which pictures an epoch shows."""
        job = self.job
        return plan_epoch(self.targets, job.imbalance, seed=job.config.seed, epoch=epoch)

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures -> normalised floats on the device."""
        moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self.normalise(moved)  # type: ignore[no-any-return]

    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        return len(self.batches(epoch=0))


def diverged(epoch: int, what: str) -> DivergedError:
    """The error that ends the run, saying what to try."""
    return DivergedError(
        f"epoch {epoch}: {what}; try a lower learning rate (stages.N.learning_rate in a --config "
        "file)"
    )
