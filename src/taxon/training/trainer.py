"""The loop: stages of epochs, the best epoch kept by macro-F1 on validation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from taxon.config import StageConfig, TrainConfig
from taxon.core.cores import available_cores
from taxon.core.errors import DivergedError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.loader import Batch, evaluation_batches, training_batches
from taxon.decision import DecisionPolicy, calibrate
from taxon.metrics import headline
from taxon.models import Classifier
from taxon.models.backbones import train_mode
from taxon.models.classifier import Normalise
from taxon.preprocessing import Preprocessing
from taxon.training.clock import Clock
from taxon.training.estimate import estimate_epochs
from taxon.training.events import EpochDone, Listener, Note, StageStarted, StepDone
from taxon.training.losses import build_loss
from taxon.training.stages import count_parameters, prepare_stage, snapshot
from taxon.training.words import in_words


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
    accelerator: Accelerator
    listener: Listener


def fit(job: TrainingJob) -> TrainingResult:
    """Train the classifier through all stages; afterwards it holds the best epoch's weights.

    Without a validation part the last epoch is the best.

    Raises:
        DivergedError: the loss is not a number any more.
    """
    run = _Run(job)
    run.estimate()
    active = [stage for stage in job.config.stages if stage.epochs]
    for position, stage in enumerate(active, start=1):
        run.stage(stage, position, len(active))
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
        self.normalise = Normalise(spec.mean, spec.std).to(self.device)
        self.loss = build_loss(
            job.train.label_space.task, label_smoothing=job.config.label_smoothing
        )
        self.history: list[dict[str, Any]] = []
        self.best_state: dict[str, torch.Tensor] = {}
        self.best_score = -math.inf
        self.best_epoch = 0
        self.clock = Clock(())

    def estimate(self) -> None:
        """Say how long it will take."""
        job = self.job
        start = time.perf_counter()
        images, _ = next(iter(self.batches(epoch=0)))
        loading = (time.perf_counter() - start) / len(images)
        epochs = estimate_epochs(
            job.classifier,
            self.to_input(images),
            job.config,
            training_pictures=len(job.train),
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
        optimiser, schedule = prepare_stage(
            job.classifier, stage, weight_decay=job.config.weight_decay, steps=steps
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
        for step, (images, targets) in enumerate(self.batches(len(self.history) + 1), start=1):
            with accelerator.autocast():
                logits = classifier(self.to_input(images))
                loss = self.loss(logits.float(), targets.to(self.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise DivergedError(
                    f"the loss became {value} in epoch {len(self.history) + 1}, step {step}; "
                    "try a lower learning rate (--set stages in a --config file)"
                )
            optimiser.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            if self.job.config.gradient_clip is not None:
                accelerator.clip_grad_norm_(classifier.parameters(), self.job.config.gradient_clip)
            optimiser.step()
            schedule.step()
            total, seen = total + value * len(images), seen + len(images)
            self.clock.step()
            self.job.listener(StepDone(epoch, step, value, self.clock.seconds_left()))
        return total / seen

    def validate(self) -> dict[str, float | None]:
        """Loss and scores on validation; None without one."""
        part = self.job.validation
        task_name = part.label_space.task
        if not len(part):
            return {"validation_loss": None, "macro_f1": None}
        logits = predict_logits(
            self.job.classifier, self.normalise, part, self.job.preprocessing, self.device
        )
        targets = part.targets()
        with torch.no_grad():
            loss = build_loss(task_name)(torch.from_numpy(logits), torch.from_numpy(targets))
        policy = DecisionPolicy.default(part.label_space)
        scores = headline(task_name, targets, calibrate(logits, policy, task_name))
        return {"validation_loss": float(loss), **scores}

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

    def batches(self, epoch: int) -> DataLoader[Batch]:
        """The training batches of an epoch, counted over all stages."""
        job = self.job
        return training_batches(
            job.train,
            job.preprocessing,
            job.config.augment,
            batch_size=job.config.batch_size,
            seed=job.config.seed,
            epoch=epoch,
            workers=_loading_processes(self.device),
        )

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures -> normalised floats on the device."""
        moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return self.normalise(moved)  # type: ignore[no-any-return]

    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        return len(self.batches(epoch=0))


def _loading_processes(device: torch.device) -> int:
    """A GPU must not wait for pictures; on a CPU the loader's threads share the cores."""
    return min(8, available_cores() // 2) if device.type == "cuda" else 0


def predict_logits(
    classifier: nn.Module,
    normalise: Normalise,
    manifest: Manifest,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    batch_size: int = 64,
) -> FloatArray:
    """Logits float32 [N, C] for a manifest, in evaluation mode."""
    classifier.eval()
    rows = []
    with torch.no_grad():
        for images in evaluation_batches(manifest.records, preprocessing, batch_size=batch_size):
            tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            rows.append(classifier(normalise(tensor)).float().cpu().numpy())
    return np.concatenate(rows)
