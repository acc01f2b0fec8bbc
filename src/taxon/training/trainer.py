"""The loop: stages of epochs, the best epoch kept by macro-F1 on validation."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch

from taxon.config import StageConfig
from taxon.core.errors import DivergedError, Interrupted
from taxon.core.predictions import FloatArray
from taxon.models.backbones import freeze_all_but_last, train_mode
from taxon.training.checkpoint import Progress, State
from taxon.training.clock import Clock
from taxon.training.distillation import with_teacher
from taxon.training.estimate import expected_steps
from taxon.training.events import EpochDone, Note, StageStarted, StepDone
from taxon.training.inputs import StageInputs
from taxon.training.job import TrainingJob, TrainingResult
from taxon.training.losses import build_loss
from taxon.training.optimiser import (
    MovingAverage,
    build_optimiser,
    count_parameters,
    load_optimiser_state,
    optimiser_state,
    rate_factor,
    set_rate,
    snapshot,
)
from taxon.training.pictures import PictureFeed
from taxon.training.scoring import NO_SCORES, all_finite, score
from taxon.training.sources import Sources
from taxon.training.steps import Diverged, take_step
from taxon.training.words import in_words

# So many training pictures stand in for a validation part.
PROBED = 32
# Within an epoch the state is saved this often.
SAVE_SECONDS = 120.0


def fit(job: TrainingJob) -> TrainingResult:
    """Train the classifier through all stages; afterwards it holds the best epoch's weights.

    Without a validation part the last epoch is the best. With checkpoints, a run goes on from
    the last one, and ends with the weights that it would have had without the interruption.

    Raises:
        ConfigError: the augmentation of rare classes cannot be used.
        DivergedError: the loss is not a number any more, before any epoch could be kept.
        Interrupted: asked to stop; the state is in the checkpoints.
        OutputError: a checkpoint cannot be written; the one before is intact.
    """
    run = _Run(job)
    diverged = None
    try:
        run.all_stages()
    except Diverged as error:
        if not run.best:
            raise DivergedError(error.advice()) from None
        diverged = error.advice()
    finally:
        run.sources.close()
    job.classifier.load_state_dict(run.best)
    job.classifier.eval()
    return TrainingResult(tuple(run.progress.history), run.progress.best_epoch, diverged)


class _Run:
    """The state of a run."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.device = job.accelerator.device
        job.classifier.to(memory_format=torch.channels_last).to(self.device)
        self.feed = PictureFeed(job)
        self.stages = [stage for stage in job.config.stages if stage.epochs]
        self.sources = Sources(self.feed, job.classifier, self.stages)
        loss = build_loss(job.train.label_space, job.imbalance, job.config.loss)
        self.loss = with_teacher(loss, job).to(self.device)
        self.progress = Progress(parts=job.config.accumulation)
        self.best: State = {}
        self.average: MovingAverage | None = None
        self.optimiser: Any = None
        self.module: Any = None
        self.clock = Clock(())
        self.saved = time.monotonic()
        self.told = 0  # notes of the decode cache

    def all_stages(self) -> None:
        """Run what is left of the stages."""
        resumed = self.restore()
        self.estimate()
        for position in range(self.progress.stage, len(self.stages)):
            self.stage(position, resumed)
            resumed = {}
        if not len(self.job.validation):
            # No epoch was looked at: of the one that is kept, some training pictures show enough.
            self.job.classifier.load_state_dict(self.best)
            few = replace(self.job.train, records=self.job.train.records[:PROBED])
            logits = self.feed.logits(self.job.classifier, few)
            if not all_finite(logits):
                self.best = {}
            require_finite(logits, len(self.progress.history))

    def restore(self) -> State:
        """Go back to the last checkpoint, where there is one; return what the stage needs of it."""
        kept = self.job.checkpoints.load() if self.job.checkpoints else None
        if kept is None:
            return {}
        self.progress, state, self.best = kept
        self.job.classifier.load_state_dict(_below(state, "model."))
        done = len(self.progress.history)
        self.job.listener(Note(f"continued after epoch {done}, step {self.progress.steps}"))
        return state

    def estimate(self) -> None:
        """Say how long it will take."""
        if self.feed.cache is not None:
            self.job.listener(Note(self.feed.cache.summary))
        self.clock = Clock(expected_steps(self.feed, self.sources, self.stages, self.progress))
        text = f"estimated time: {in_words(self.clock.expected)} for training"
        self.job.listener(Note(text))

    def stage(self, position: int, resumed: State) -> None:
        """Run one stage, or what is left of it."""
        job, stage = self.job, self.stages[position]
        # The optimiser and the gradients of the stage before would stay in memory.
        self.optimiser = None
        job.accelerator.free_memory()
        job.classifier.zero_grad(set_to_none=True)
        freeze_all_but_last(job.classifier.spec, _count(stage))
        inputs = self.sources.open(stage)
        self.module = torch.compile(inputs.module) if job.config.compile else inputs.module
        steps = self.feed.steps() if stage.method == "gradient" else 1
        trainable, total = count_parameters(job.classifier)
        job.listener(
            StageStarted(
                stage.name, position + 1, len(self.stages), stage.epochs, steps, trainable, total
            )
        )
        if self.sources.note:
            job.listener(Note(self.sources.note))
        self.prepare(stage, resumed)
        while self.progress.epochs < stage.epochs and not self.out_of_patience(stage):
            self.epoch(stage, inputs, steps)
        if self.average is not None:
            job.classifier.load_state_dict(self.average.weights(), strict=False)
        self.progress.stage, self.progress.epochs, self.progress.waiting = position + 1, 0, 0

    def prepare(self, stage: StageConfig, resumed: State) -> None:
        """Make the optimiser and the moving average, with the state that they had."""
        job, config = self.job, self.job.config.optimiser
        optimiser = build_optimiser(job.classifier, stage, config)
        self.average = MovingAverage(job.classifier, config.ema) if config.ema else None
        if resumed:
            load_optimiser_state(optimiser, _below(resumed, "optimiser."))
            if self.average is not None:
                self.average.load(_below(resumed, "average."))
            torch.set_rng_state(resumed["random.cpu"])
            if "random.cuda" in resumed:
                torch.cuda.set_rng_state(resumed["random.cuda"])
        self.optimiser = job.accelerator.prepare_optimizer(optimiser)

    def epoch(self, stage: StageConfig, inputs: StageInputs, steps: int) -> None:
        """One pass over the training part, or the rest of it; then scores, best and checkpoint."""
        start = time.perf_counter()
        number = len(self.progress.history) + 1
        inputs.prepare(number)
        self.tell_cache_notes()
        if stage.method == "logistic":
            rate, loss = None, self.sources.solve(inputs)
            self.step_done(loss, rate)
        else:
            rate = stage.learning_rate * self.factor(stage, steps, self.progress.epochs * steps)
            loss = self.train_epoch(stage, inputs, number, steps)
        row = {
            "stage": stage.name,
            "epoch": number,
            "train_loss": loss,
            **self.validate(inputs),
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - start, 2),
        }
        self.finish_epoch(row)

    def train_epoch(
        self, stage: StageConfig, inputs: StageInputs, number: int, steps: int
    ) -> float:
        """The steps of an epoch that are left; return the mean loss of all."""
        progress = self.progress
        train_mode(self.job.classifier)
        for batch in inputs.batches(number, progress.steps):
            step = progress.epochs * steps + progress.steps
            rate = stage.learning_rate * self.factor(stage, steps, step)
            set_rate(self.optimiser, rate)
            value = take_step(self.job, self.module, self.loss, self.optimiser, batch, progress)
            if not math.isfinite(value):
                raise self.diverged(number, value)
            if self.average is not None:
                self.average.update(self.job.classifier)
            progress.loss_sum += value * len(batch.targets)
            progress.seen += len(batch.targets)
            self.step_done(value, rate)
            self.save_or_leave()
        return progress.loss_sum / progress.seen

    def factor(self, stage: StageConfig, steps: int, step: int) -> float:
        """Of the learning rate, at a step of the stage."""
        return rate_factor(step, stage, stage.epochs * steps, round(stage.warmup_epochs * steps))

    def step_done(self, loss: float, rate: float | None) -> None:
        """Count a step, and tell."""
        self.progress.steps += 1
        self.progress.total_steps += 1
        self.clock.step()
        epoch, left = self.progress.epochs + 1, self.clock.seconds_left()
        self.job.listener(StepDone(epoch, self.progress.steps, loss, left, rate))

    def validate(self, inputs: StageInputs) -> dict[str, Any]:
        """Loss and scores on validation; None without one. With a moving average, of that."""
        if not len(self.job.validation):
            return NO_SCORES
        classifier, average = self.job.classifier, self.average
        current = snapshot(classifier) if average is not None else None
        if average is not None:
            classifier.load_state_dict(average.weights(), strict=False)
        logits = inputs.validation_logits()
        if current is not None:
            classifier.load_state_dict(current)
        require_finite(logits, len(self.progress.history) + 1)
        return score(self.job, self.job.validation, logits)

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Keep the row, the weights where they are the best so far, and the state."""
        progress, value = self.progress, row["macro_f1"]
        progress.history.append(row)
        progress.epochs, progress.steps = progress.epochs + 1, 0
        progress.loss_sum, progress.seen = 0.0, 0
        # Without validation every epoch is "better" than the one before: the last is kept.
        best = value is None or progress.best_score is None or value > progress.best_score
        progress.waiting = 0 if best else progress.waiting + 1
        if best:
            progress.best_score, progress.best_epoch = value, row["epoch"]
            self.best = snapshot(self.job.classifier)
            if self.average is not None:
                self.best |= {name: v.cpu().clone() for name, v in self.average.weights().items()}
            if self.job.checkpoints is not None:
                self.job.checkpoints.save_best(progress.best_epoch, self.best)
        self.save()
        self.job.listener(EpochDone(row, best, self.clock.seconds_left()))
        self.tell_cache_notes()

    def out_of_patience(self, stage: StageConfig) -> bool:
        """Whether the stage has gone on for too long without a better score."""
        if stage.patience is None or self.progress.waiting < stage.patience:
            return False
        self.clock.skip((stage.epochs - self.progress.epochs) * self.feed.steps())
        epochs = self.progress.waiting
        self.job.listener(
            Note(f"{stage.name}: ended early, {epochs} epochs without a better score")
        )
        return True

    def save_or_leave(self) -> None:
        """Save the state where it is time to, or where somebody asks the run to stop."""
        stop = self.job.stop()
        if stop or time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()
        if stop:
            raise Interrupted("saved")

    def save(self) -> None:
        """Write a checkpoint."""
        if self.job.checkpoints is None:
            return
        state = {f"model.{name}": v for name, v in self.job.classifier.state_dict().items()}
        state |= {f"optimiser.{name}": v for name, v in optimiser_state(self.optimiser).items()}
        if self.average is not None:
            state |= {f"average.{name}": v for name, v in self.average.state().items()}
        state["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state()
        self.job.checkpoints.save(self.progress, state)
        self.saved = time.monotonic()

    def diverged(self, epoch: int, loss: float) -> Diverged:
        """The error that names the pictures of the step that just failed."""
        step = self.progress.steps
        names = self.sources.names(epoch, step)
        return Diverged(epoch, f"the loss became {loss} in step {step + 1} (pictures: {names})")

    def tell_cache_notes(self) -> None:
        """Pass on what hindered the cache of decoded pictures."""
        notes = self.feed.cache.notes[self.told :] if self.feed.cache else []
        self.told += len(notes)
        for note in notes:
            self.job.listener(Note(note))


def require_finite(logits: FloatArray, epoch: int) -> None:
    """No loss shows what the last step of an epoch did; the outputs do."""
    if not all_finite(logits):
        raise Diverged(epoch, "the model's outputs are not numbers any more")


def _count(stage: StageConfig) -> int | None:
    return None if stage.unfrozen_blocks == "all" else stage.unfrozen_blocks


def _below(state: State, prefix: str) -> State:
    """The entries whose names start with a prefix, without it."""
    cut = len(prefix)
    return {name[cut:]: value for name, value in state.items() if name.startswith(prefix)}
