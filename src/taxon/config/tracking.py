"""Configuration of where a run can be watched."""

from __future__ import annotations

from typing import Literal

from taxon.config.base import Config

TrackerName = Literal["tensorboard", "mlflow"]


class TrackingConfig(Config):
    """Where trackers write what stays on this machine.

    Attributes:
        folder: null takes `tracking`, beside the model folder.
    """

    folder: str | None = None
