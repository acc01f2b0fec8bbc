"""A model that is served, and how a request says that it wants another one than there is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from taxon.bundle import ModelSpec
from taxon.bundle.reference import Reference
from taxon.core.errors import InputError
from taxon.serving.computing.engine import Engine
from taxon.serving.models.card import Card
from taxon.serving.models.drift import DriftMonitor
from taxon.serving.models.places import Place


class UnknownModel(InputError):
    """No model of this name and version is served."""


@dataclass(frozen=True)
class Opened:
    """A model that was opened and checked, and what computes it, started."""

    engine: Engine
    reference: Reference | None = None
    card: Card | None = None


@dataclass
class Served:
    """A model in the table.

    Attributes:
        drift: compares what comes with the bundle's reference, where it has one.
        requests: how many hold it.
    """

    place: Place
    version: str
    opened: Opened
    drift: DriftMonitor | None
    requests: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def engine(self) -> Engine:
        """What computes it."""
        return self.opened.engine

    @property
    def spec(self) -> ModelSpec:
        """Its class names, preprocessing and policy."""
        return self.engine.description.spec

    @property
    def name(self) -> str:
        """The name in addresses and answers."""
        return self.place.name or self.spec.name
