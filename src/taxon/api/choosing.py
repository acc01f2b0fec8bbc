"""What a configuration leaves open is chosen by probes, on the training part alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from taxon.api.fine_tuning import imbalance_plan
from taxon.api.starting import Start
from taxon.api.workspace import Plan
from taxon.config import Pooling, TrainConfig
from taxon.data import Manifest
from taxon.data.loading.augment import describe
from taxon.data.splitting.grouping import unit_numbers
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Note
from taxon.training.candidates import MINIMUM_GROUPS, MINIMUM_PICTURES, Candidate, Probes
from taxon.training.choices import choose_pooling, choose_size, poolings
from taxon.training.device import build_accelerator
from taxon.training.framing import choose_framing, framing_by_shape, suits_dct_scaling
from taxon.training.learning_curve import learning_curve
from taxon.training.trial import hold_trial

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Chosen:
    """A configuration without open keys, and the preprocessing that goes with it."""

    config: TrainConfig
    preprocessing: Preprocessing


def choose_plan(start: Start, manifest: Manifest, config: TrainConfig, listener: Listener) -> Plan:
    """Choose what the configuration leaves open, looking at the training part alone."""
    notes = [*start.notes, *manifest.notes]

    def tell(text: str) -> None:
        notes.append(text)
        listener(Note(text))

    chosen = choose(start, manifest.part("train"), config, tell)
    return Plan(config=chosen.config, preprocessing=chosen.preprocessing, notes=tuple(notes))


def choose(start: Start, train: Manifest, config: TrainConfig, tell: Tell) -> Chosen:
    """Choose framing, pooled features, input size, and whether blocks of the backbone train.

    Each choice stands before the next one begins; what the user fixed stays as it is.

    Args:
        train: the training part alone; no other part may influence a choice.
        tell: is told each choice, and why, in a sentence.
    """
    wanted, spec = config.preprocessing, start.preprocessing
    why_not = _why_no_probes(train, config)
    probes = None if why_not else _probes(start, train, config)
    if wanted.resize == "auto":
        if probes is None:
            framing = framing_by_shape(train.records, spec, why_not)
        else:
            framing = choose_framing(probes, spec, probes.poolings[0])
        spec = spec.model_copy(update={"resize": framing.mode})
        tell(f"framing: {framing.reason}")
    if config.pooling == "auto":
        pooling, reason = _pooling(probes, spec)
        config = config.model_copy(update={"pooling": pooling})
        tell(f"features: {reason}")
    if wanted.size == "auto" and probes is not None:
        spec, reason = choose_size(probes, spec, config.chosen_pooling)
        tell(f"input size: {reason}")
    if probes is not None:
        _tell_curve(probes, Candidate(spec, config.chosen_pooling), len(train), tell)
    if any(stage.trial and stage.epochs for stage in config.stages):
        config = _settle_trials(start, probes, spec, config, tell)
    if wanted.jpeg_dct_scaling is None and suits_dct_scaling(train.records, spec):
        spec = spec.model_copy(update={"jpeg_dct_scaling": True})
        tell("large JPEGs are reduced while they are decoded, here and wherever the model runs")
    tell(
        f"pictures: {spec.resize} to {spec.width}x{spec.height} px; "
        f"augmentation: {describe(config.augment)}"
    )
    return Chosen(config, spec)


def _why_no_probes(train: Manifest, config: TrainConfig) -> str:
    """Why there are no features to compare, or empty."""
    if config.weights == "none":
        return "random weights"
    if len(train) < MINIMUM_PICTURES:
        return "few pictures"
    # Folds divide no group.
    return "few groups" if len(np.unique(unit_numbers(train))) < MINIMUM_GROUPS else ""


def _probes(start: Start, train: Manifest, config: TrainConfig) -> Probes:
    kinds = poolings(start.backbone) if config.pooling == "auto" else [config.pooling]
    return Probes(start.backbone, train, seed=config.seed, device=start.device, poolings=kinds)


def _pooling(probes: Probes | None, spec: Preprocessing) -> tuple[Pooling, str]:
    if probes is None:
        return "last", "last, the backbone's own"
    return choose_pooling(probes, spec)


def _tell_curve(probes: Probes, candidate: Candidate, available: int, tell: Tell) -> None:
    """How many pictures are needed is what everybody asks first."""
    curve = learning_curve(
        probes.features(candidate),
        probes.targets,
        probes.groups,
        task=probes.sample.label_space.task,
        seed=probes.seed,
    )
    if curve is not None:
        # Measured on a sample, told of all that there are.
        tell(f"learning curve: {replace(curve, available=available).sentence()}")


def _settle_trials(
    start: Start, probes: Probes | None, spec: Preprocessing, config: TrainConfig, tell: Tell
) -> TrainConfig:
    """The configuration without stages on trial: they pay and stay, or they are left out."""
    if probes is None:
        pays, reason = config.weights == "none", "no trial could be held"
    else:
        trial = hold_trial(
            start.backbone,
            probes.sample,
            spec,
            config,
            build_accelerator(start.device, config),
            lambda part: imbalance_plan(config, part),
        )
        pays, reason = trial.pays, trial.reason
    stages = [
        stage.model_copy(update={"trial": False})
        for stage in config.stages
        if pays or not stage.trial
    ]
    tell(f"training blocks of the backbone {'pays' if pays else 'is left out'}: {reason}")
    return config.model_copy(update={"stages": tuple(stages)})
