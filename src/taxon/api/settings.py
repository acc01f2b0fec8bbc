"""The configuration of a run, from the arguments that its verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taxon.config import TrainConfig, load_config
from taxon.training import Listener, Note, silent


def training_settings(
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    imbalance: str | None = None,
    teacher: str | Path | None = None,
    trackers: Sequence[str] = (),
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = silent,
) -> TrainConfig:
    """Put the configuration of a run together; the arguments are those of `train`.

    Raises:
        ConfigError: an unknown recipe or key, or an impossible value.
    """
    file = Path(config) if config is not None else None
    options = {
        "model": model,
        "weights": None if weights is None else str(weights),
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "imbalance": None if imbalance is None else {"strategy": imbalance},
        "distillation": None if teacher is None else {"teacher": str(teacher)},
        "trackers": list(trackers) or None,
    }
    settings = load_config(recipe or "staged", file=file, options=options, overrides=overrides)
    if recipe is None and settings.weights == "none":
        listener(Note("recipe: scratch, since there are no pretrained weights to fine-tune"))
        settings = load_config("scratch", file=file, options=options, overrides=overrides)
    return settings
