"""A trial of what training blocks of the backbone brings, on the training part alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from accelerate import Accelerator

from taxon.config import StageConfig, TrainConfig
from taxon.core.errors import DivergedError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.imbalance import ImbalancePlan
from taxon.data.splitting.grouping import unit_numbers
from taxon.decision import DecisionPolicy, calibrate
from taxon.models import Classifier
from taxon.models.backbones import Backbone
from taxon.models.classifier import Normalise
from taxon.models.probe import folds, kinds
from taxon.preprocessing import Preprocessing
from taxon.training.candidates import SURELY, better, figure, score
from taxon.training.events import silent
from taxon.training.job import TrainingJob
from taxon.training.outputs import predict_logits
from taxon.training.trainer import fit

# With two of five folds held out, and a quarter of the epochs, a trial takes at most a seventh of
# the time of what it decides about.
HELD_OUT_FOLDS = 2
SHARE_OF_EPOCHS = 1 / 4


@dataclass(frozen=True)
class Trial:
    """Whether the stages on trial pay, and why, in a sentence."""

    pays: bool
    reason: str


def hold_trial(
    backbone: Backbone,
    sample: Manifest,
    preprocessing: Preprocessing,
    config: TrainConfig,
    accelerator: Accelerator,
    imbalance: Callable[[Manifest], ImbalancePlan],
) -> Trial:
    """Train with and without the stages on trial, and compare on pictures that neither saw.

    They pay where they are better by more than the noise, as in `Probes.compare`.

    Args:
        backbone: stays as it is.
        sample: of the training part, in five groups or more.
        config: with stages of which the last ones are on trial.
        imbalance: what is done about rare classes in a part.
    """
    train, test = _divided(sample, config.seed)
    own = replace(backbone, module=copy.deepcopy(backbone.module))
    classes = len(sample.label_space.names)
    classifier = Classifier(own, config.head, classes, config.chosen_pooling)
    classifier.to(accelerator.device)
    normalise = Normalise(preprocessing.mean, preprocessing.std).to(accelerator.device)

    def answers(stages: Sequence[StageConfig]) -> FloatArray:
        """Of the classifier after more stages, for the pictures that are held out."""
        job = TrainingJob(
            classifier=classifier,
            train=train,
            validation=replace(sample, records=()),
            preprocessing=preprocessing,
            config=config.model_copy(update={"stages": tuple(stages)}),
            imbalance=imbalance(train),
            accelerator=accelerator,
            listener=silent,
        )
        if any(stage.epochs for stage in stages):
            fit(job)
        logits = predict_logits(classifier, normalise, test, preprocessing, accelerator.device)
        return calibrate(logits, DecisionPolicy.default(test.label_space), test.label_space.task)

    without = answers([stage for stage in config.stages if not stage.trial])
    try:
        trained = answers([_shortened(stage) for stage in config.stages if stage.trial])
    except DivergedError as error:
        return Trial(False, f"in a trial, {error}")
    task, targets = test.label_space.task, test.targets()
    share = better(task, targets, unit_numbers(test), trained, without, config.seed)
    names = " and ".join(f"'{stage.name}'" for stage in config.stages if stage.trial)
    return Trial(
        share >= SURELY,
        f"{figure(task)} on {len(test)} training pictures that a trial on {len(train)} others did "
        f"not see: {score(task, targets, without):.2f} without {names}, "
        f"{score(task, targets, trained):.2f} with a quarter of its epochs "
        f"(better in {share:.0%} of resamples)",
    )


def _divided(sample: Manifest, seed: int) -> tuple[Manifest, Manifest]:
    """What teaches, and what scores: groups undivided."""
    parts = folds(kinds(sample.targets()), unit_numbers(sample), seed)
    held_out = set(np.concatenate([rest for _, rest in parts[:HELD_OUT_FOLDS]]).tolist())
    ids = {record.id for place, record in enumerate(sample.records) if place in held_out}
    return (
        sample.where(lambda record: record.id not in ids),
        sample.where(lambda record: record.id in ids),
    )


def _shortened(stage: StageConfig) -> StageConfig:
    epochs = ceil(stage.epochs * SHARE_OF_EPOCHS)
    warmup = stage.warmup_epochs * epochs / max(1, stage.epochs)
    return stage.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})
