"""What a configuration leaves open is chosen by probes, on the training part alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taxon.api.fine_tuning import imbalance_plan
from taxon.api.starting import Start
from taxon.api.workspace import Plan
from taxon.config import Pooling, TrainConfig
from taxon.data import Manifest
from taxon.data.loading.augment import describe
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
    """How pictures become features, with the configuration that says so.

    Attributes:
        config: framing, size and features are no longer open.
        probes: None where none could be made.
    """

    config: TrainConfig
    preprocessing: Preprocessing
    probes: Probes | None


def choose_plan(
    start: Start,
    manifest: Manifest,
    config: TrainConfig,
    listener: Listener,
    *,
    found: Sequence[str] = (),
) -> Plan:
    """Choose what the configuration leaves open, looking at the training part alone.

    Each choice stands before the next one begins; what the user fixed stays as it is.

    Args:
        found: what the audit found, for the notes.
    """
    notes = [*start.notes, *manifest.notes, *found]

    def tell(text: str) -> None:
        notes.append(text)
        listener(Note(text))

    train = manifest.part("train")
    chosen = choose_features(start, train, config, tell)
    if chosen.probes is not None:
        _tell_curve(chosen, chosen.probes, len(train), tell)
    config = chosen.config
    if any(stage.trial and stage.epochs for stage in config.stages):
        config = _settle_trials(start, chosen, tell)
    return Plan(config=config, preprocessing=chosen.preprocessing, notes=tuple(notes))


def choose_features(start: Start, train: Manifest, config: TrainConfig, tell: Tell) -> Chosen:
    """Choose framing, pooled features and input size.

    Args:
        train: the training part alone; no other part may influence a choice.
        tell: is told each choice, and why, in a sentence.
    """
    wanted, spec = config.preprocessing, start.preprocessing
    probes, why_not = _probes(start, train, config)
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
    closed = {"resize": spec.resize} | ({"size": spec.height} if wanted.size == "auto" else {})
    config = config.model_copy(update={"preprocessing": wanted.model_copy(update=closed)})
    if wanted.jpeg_dct_scaling is None and suits_dct_scaling(train.records, spec):
        spec = spec.model_copy(update={"jpeg_dct_scaling": True})
        tell("large JPEGs are reduced while they are decoded, here and wherever the model runs")
    tell(
        f"pictures: {spec.resize} to {spec.width}x{spec.height} px; "
        f"augmentation: {describe(config.augment)}"
    )
    return Chosen(config, spec, probes)


def _probes(start: Start, train: Manifest, config: TrainConfig) -> tuple[Probes | None, str]:
    """Probes, or why there is nothing that they could compare."""
    if config.weights == "none":
        return None, "random weights"
    if len(train) < MINIMUM_PICTURES:
        return None, "few pictures"
    kinds = poolings(start.backbone) if config.pooling == "auto" else [config.pooling]
    probes = Probes(start.backbone, train, seed=config.seed, device=start.device, poolings=kinds)
    # Folds divide no group.
    few = len(np.unique(probes.groups)) < MINIMUM_GROUPS
    return (None, "few groups") if few else (probes, "")


def _pooling(probes: Probes | None, spec: Preprocessing) -> tuple[Pooling, str]:
    if probes is None:
        return "last", "last, the backbone's own"
    return choose_pooling(probes, spec)


def _tell_curve(chosen: Chosen, probes: Probes, available: int, tell: Tell) -> None:
    """How many pictures are needed is what everybody asks first."""
    curve = learning_curve(
        probes.features(Candidate(chosen.preprocessing, chosen.config.chosen_pooling)),
        probes.targets,
        probes.groups,
        task=probes.sample.label_space.task,
        seed=probes.seed,
    )
    if curve is not None:
        # Measured on a sample, told of all that there are.
        tell(f"learning curve: {replace(curve, available=available).sentence()}")


def _settle_trials(start: Start, chosen: Chosen, tell: Tell) -> TrainConfig:
    """The configuration without stages on trial: they pay and stay, or they are left out."""
    config = chosen.config
    if chosen.probes is None:
        pays, reason = config.weights == "none", "no trial could be held"
    else:
        trial = hold_trial(
            start.backbone,
            chosen.probes.sample,
            chosen.preprocessing,
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
