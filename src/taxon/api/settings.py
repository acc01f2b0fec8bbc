"""The configuration of a run, from the arguments that its verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from taxon.config import TrainConfig, load_config
from taxon.training import Listener, Note, silent

DEFAULT = "auto"


class TrainingOptions(TypedDict, total=False):
    """The arguments of `train` that shape the configuration."""

    model: str | None
    weights: str | Path | None
    recipe: str | None
    epochs: int | None
    batch_size: int | None
    seed: int | None
    device: str | None
    imbalance: str | None
    teacher: str | Path | None
    trackers: Sequence[str]
    config: str | Path | None
    overrides: Sequence[str]


def training_settings(
    *, listener: Listener = silent, **given: Unpack[TrainingOptions]
) -> TrainConfig:
    """Put the configuration of a run together; the arguments are those of `train`.

    Raises:
        ConfigError: an unknown recipe or key, or an impossible value.
    """
    recipe, overrides = given.get("recipe"), given.get("overrides", ())
    config, weights = given.get("config"), given.get("weights")
    imbalance, teacher = given.get("imbalance"), given.get("teacher")
    file = Path(config) if config is not None else None
    options = {
        **{name: given.get(name) for name in ("model", "epochs", "batch_size", "seed", "device")},
        "weights": None if weights is None else str(weights),
        "imbalance": None if imbalance is None else {"strategy": imbalance},
        "distillation": None if teacher is None else {"teacher": str(teacher)},
        "trackers": list(given.get("trackers", ())) or None,
    }
    # Without a recipe named, a teacher gets one that surely takes steps.
    chosen = recipe or (DEFAULT if teacher is None else "staged")
    settings = load_config(chosen, file=file, options=options, overrides=overrides)
    if recipe in (None, "auto") and settings.weights == "none":
        listener(Note("recipe: scratch, since there are no pretrained weights to fine-tune"))
        settings = load_config("scratch", file=file, options=options, overrides=overrides)
    return settings
