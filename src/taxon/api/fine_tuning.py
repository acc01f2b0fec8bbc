"""The part of `train` in which all processes are alike: a head on a backbone, and its stages."""

from __future__ import annotations

from collections.abc import Callable

import torch

from taxon.api.workspace import Plan
from taxon.config import TrainConfig
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.imbalance import ImbalancePlan, choose
from taxon.data.loading.rare_augmentation import describe_rare
from taxon.models.backbones import Backbone, create_backbone
from taxon.models.classifier import Classifier
from taxon.training import Listener, silent
from taxon.training.checkpoint import Checkpoints
from taxon.training.device import build_accelerator, choose_device
from taxon.training.distributed import current_team
from taxon.training.job import TrainingJob, TrainingResult
from taxon.training.signals import StopSignals
from taxon.training.trainer import fit


def imbalance_plan(config: TrainConfig, train: Manifest) -> ImbalancePlan:
    """What is done about rare classes of the training part."""
    return choose(
        config.imbalance,
        train.counts(),
        train.label_space.task,
        pictures=len(train),
        taxonomy_loss=config.loss.taxonomy,
        known=train.known_counts(),
    )


def follow(
    device: str, backbone: str, plan: Plan, manifest: Manifest, answers: FloatArray | None
) -> None:
    """Train in the steps of the first of several processes, which reads, chooses and writes.

    Args:
        device, backbone: by their names; the first process hands its weights over.
        plan, manifest: what it chose, and the pictures with their parts.
        answers: a teacher's, which it asked.

    Raises:
        ConfigError, MissingDependencyError: this machine lacks what the first one has.
        Interrupted, DivergedError: as all of them.
    """
    spec = plan.preprocessing
    choose_device(device)
    made = create_backbone(backbone, input_size=(spec.height, spec.width))
    fine_tune(device, made, manifest, plan, lambda text: None, silent, answers=answers)


def fine_tune(
    device: str,
    backbone: Backbone,
    manifest: Manifest,
    plan: Plan,
    tell: Callable[[str], None],
    listener: Listener,
    *,
    checkpoints: Checkpoints | None = None,
    answers: FloatArray | None = None,
) -> tuple[TrainingJob, TrainingResult]:
    """Put a head on the backbone and train it through all stages; the same in every process."""
    config, team = plan.config, current_team()
    # Whatever the choices before drew from it, the head begins the same.
    torch.manual_seed(config.seed)
    classes = len(manifest.label_space.names)
    train = manifest.part("train")

    def build(stop: StopSignals) -> TrainingJob:
        imbalance = imbalance_plan(config, train)
        tell(imbalance.sentence())
        for words in (describe_rare(imbalance), _passed_over(config)):
            if words:
                tell(words)
        return TrainingJob(
            classifier=Classifier(backbone, config.head, classes, config.chosen_pooling),
            train=train,
            validation=manifest.part("validation"),
            preprocessing=plan.preprocessing,
            config=config,
            imbalance=imbalance,
            accelerator=build_accelerator(device, config),
            listener=listener,
            checkpoints=checkpoints,
            stop=stop,
            team=team,
            answers=answers,
        )

    with StopSignals() as stop:
        job = team.attempt(lambda: build(stop))
        with team.at_work():
            team.broadcast(job.classifier.state_dict())
            return job, fit(job)


def _passed_over(config: TrainConfig) -> str:
    """What of the loss a stage does not heed that is solved for, in words; empty: nothing."""
    solved = [stage.name for stage in config.stages if stage.epochs and stage.method == "logistic"]
    stepped = [stage.name for stage in config.stages if stage.epochs and stage.name not in solved]
    asked = [f"loss.taxonomy={config.loss.taxonomy}"] if config.loss.taxonomy != "flat" else []
    if config.loss.multilabel != "binary":
        asked.append(f"loss.multilabel={config.loss.multilabel}")
    if not solved or not asked:
        return ""
    elsewhere = f"counts in '{stepped[0]}'" if stepped else "counts nowhere; --recipe staged steps"
    return f"loss: '{solved[0]}' is solved for with plain cross-entropy; {asked[0]} {elsewhere}"
