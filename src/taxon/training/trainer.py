"""The loop: stages of epochs, the best epoch kept by macro-F1 on validation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from taxon.config import StageConfig
from taxon.core.errors import DivergedError, Interrupted
from taxon.models.backbones import freeze_all_but_last, train_mode
from taxon.training import run_state
from taxon.training.checkpoint import Progress, State
from taxon.training.clock import Clock
from taxon.training.distillation import with_teacher
from taxon.training.estimate import expected_steps
from taxon.training.events import Continued, EpochDone, Note, StageStarted, StepDone
from taxon.training.inputs import StageInputs, StepBatch
from taxon.training.job import TrainingJob, TrainingResult
from taxon.training.losses import build_loss
from taxon.training.optimiser import (
    MovingAverage,
    build_optimiser,
    count_parameters,
    rate_factor,
    set_rate,
    snapshot,
)
from taxon.training.pictures import PictureFeed
from taxon.training.replicas import connect, share_statistics, synchronise_batch_norm
from taxon.training.scoring import NO_SCORES, all_finite, require_finite, score
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
    Several processes train as one would with the same batches (`TrainingJob.team`).

    Raises:
        ConfigError: the augmentation of rare classes cannot be used, or the batches are too small
            for so many processes.
        DivergedError: the loss is not a number any more, before any epoch could be kept.
        Interrupted: asked to stop; the state is in the checkpoints.
        OutputError: a checkpoint cannot be written; the one before is intact.
    """
    run = job.team.attempt(lambda: _Run(job))
    diverged = None
    try:
        run.all_stages()
    except Diverged as error:
        if not run.best:
            job.team.fail(DivergedError(error.advice()))
        diverged = error.advice()
    finally:
        run.sources.close()
    job.classifier.load_state_dict(run.best)
    job.classifier.eval()
    return TrainingResult(tuple(run.progress.history), run.progress.best_epoch, diverged)


class _Run:
    """The state of a run."""

    def __init__(self, job: TrainingJob) -> None:
        self.job, self.team = job, job.team
        self.device = job.accelerator.device
        synchronise_batch_norm(job)
        job.classifier.to(memory_format=torch.channels_last).to(self.device)
        self.feed = PictureFeed(job)
        self.feed.require_shares()
        self.stages = [stage for stage in job.config.stages if stage.epochs]
        self.sources = Sources(self.feed, job.classifier, self.stages)
        loss = build_loss(job.train.label_space, job.imbalance, job.config.loss)
        self.loss = with_teacher(loss, job).to(self.device)
        self.progress = Progress(parts=job.config.accumulation)
        self.best: State = {}
        self.average: MovingAverage | None = None
        self.optimiser: Any = None
        self.module: Any = None
        self.norms: list[Any] = []  # whose statistics differ from process to process
        self.clock = Clock(())
        self.saved = time.monotonic()

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
        kept = run_state.load(self.job)
        if kept is None:
            return {}
        self.progress, state, self.best = kept
        progress, history = self.progress, self.progress.history
        words = f"continued after epoch {len(history)}, step {progress.steps}"
        best = history[progress.best_epoch - 1] if progress.best_epoch else None
        self.job.listener(Continued(words, progress.total_steps, best))
        return state

    def estimate(self) -> None:
        """Say how long it will take."""
        if self.feed.cache is not None:
            self.job.listener(Note(self.feed.cache.summary))
        self.clock = Clock(expected_steps(self.feed, self.sources, self.stages, self.progress))
        expected = in_words(self.clock.expected)
        self.job.listener(Note(f"estimated time: {expected} for training"))

    def stage(self, position: int, resumed: State) -> None:
        """Run one stage, or what is left of it."""
        job, stage = self.job, self.stages[position]
        # The optimiser and the gradients of the stage before would stay in memory.
        self.optimiser = self.module = None
        job.accelerator.free_memory()
        job.classifier.zero_grad(set_to_none=True)
        count = None if stage.unfrozen_blocks == "all" else stage.unfrozen_blocks
        freeze_all_but_last(job.classifier.spec, count)
        inputs = self.sources.open(stage)
        self.module, self.norms = connect(job, stage, inputs.module)
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
        # A head that is solved for has no steps to average: it would be put back to where it was.
        averaged = config.ema > 0 and stage.method == "gradient"
        self.average = MovingAverage(job.classifier, config.ema) if averaged else None
        if resumed:
            run_state.put_back(resumed, optimiser, self.average)
        self.optimiser = job.accelerator.prepare_optimizer(optimiser)

    def epoch(self, stage: StageConfig, inputs: StageInputs, steps: int) -> None:
        """One pass over the training part, or the rest of it; then scores, best and checkpoint."""
        start = time.perf_counter()
        number = len(self.progress.history) + 1
        inputs.prepare(number)
        for note in self.feed.new_notes():
            self.job.listener(Note(note))
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
        for batch in self.in_step(inputs.batches(number, progress.steps)):
            step = progress.epochs * steps + progress.steps
            self.team.seed(self.job.config.seed, progress.total_steps)
            rate = stage.learning_rate * self.factor(stage, steps, step)
            set_rate(self.optimiser, rate)
            value = take_step(self.job, self.module, self.loss, self.optimiser, batch, progress)
            if not math.isfinite(value):
                raise self.diverged(number, value)
            share_statistics(self.norms, self.team)
            if self.average is not None:
                self.average.update(self.job.classifier)
            progress.loss_sum += value * batch.total
            progress.seen += batch.total
            self.step_done(value, rate)
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
        # One process scores: a last digit that differed might end a stage in one of them alone.
        return self.team.from_first(lambda: score(self.job, self.job.validation, logits))

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
        self.team.attempt(lambda: self.save(best=best))
        self.job.listener(EpochDone(row, best, self.clock.seconds_left()))
        for note in self.feed.new_notes():
            self.job.listener(Note(note))

    def out_of_patience(self, stage: StageConfig) -> bool:
        """Whether the stage has gone on for too long without a better score."""
        if stage.patience is None or self.progress.waiting < stage.patience:
            return False
        self.clock.skip((stage.epochs - self.progress.epochs) * self.feed.steps())
        words = f"{stage.name}: ended early, {self.progress.waiting} epochs without a better score"
        self.job.listener(Note(words))
        return True

    def in_step(self, batches: Iterator[StepBatch]) -> Iterator[StepBatch]:
        """The batches, in all processes together; asked to stop, the state is saved in between."""

        def between() -> None:
            if self.job.stop():
                raise Interrupted("saved")
            if time.monotonic() - self.saved > SAVE_SECONDS:
                self.save()

        try:
            yield from self.team.in_step(batches, between)
        except Interrupted:
            self.save()
            raise

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint, and before it the best epoch's weights where they are new."""
        if best and self.job.checkpoints is not None:
            self.job.checkpoints.save_best(self.progress.best_epoch, self.best)
        run_state.save(self.job, self.progress, self.optimiser, self.average)
        self.saved = time.monotonic()

    def diverged(self, epoch: int, loss: float) -> Diverged:
        """The error that names the pictures of the step that just failed."""
        step = self.progress.steps
        names = self.sources.names(epoch, step)
        return Diverged(epoch, f"the loss became {loss} in step {step + 1} (pictures: {names})")
