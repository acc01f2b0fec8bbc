"""Configuration of the loss."""

from __future__ import annotations

from pydantic import Field

from taxon.config.base import Config


class LossConfig(Config):
    """What is minimised.

    Attributes:
        label_smoothing: 0 to 1, for multi-class (Szegedy et al. 2016).
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
