"""The settings of a server: batching, limits and the version it states."""

from __future__ import annotations

import math
from dataclasses import dataclass

from taxon.core.errors import ConfigError

MIB = 1024 * 1024


@dataclass(frozen=True)
class ServingSettings:
    """How a server batches and what it refuses.

    Attributes:
        max_batch_size: pictures computed together at most.
        max_delay_ms: how long, in milliseconds, the first picture of a batch waits for more.
        max_queue: pictures accepted and not yet answered at most; beyond it a request gets
            503. Also the most pictures that one request may bring.
        max_body_bytes: bytes of one request body at most.
        max_pixels: pixels of one picture at most; a small file may hold very many.
        max_buffered_bytes: bytes of all bodies held in memory at once at most; beyond it a
            request gets 503.
        model_version: the version that the answers and the V2 addresses state.
        shutdown_seconds: how long a stopping server waits for requests in flight.

    Raises:
        ConfigError: a value is out of range.
    """

    max_batch_size: int = 16
    max_delay_ms: float = 2.0
    max_queue: int = 256
    max_body_bytes: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_buffered_bytes: int = 512 * MIB
    model_version: str = "1"
    shutdown_seconds: int = 30

    def __post_init__(self) -> None:
        for name in (
            "max_batch_size",
            "max_queue",
            "max_body_bytes",
            "max_pixels",
            "shutdown_seconds",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not (math.isfinite(self.max_delay_ms) and self.max_delay_ms >= 0):
            raise ConfigError(
                f"max_delay_ms is {self.max_delay_ms}; it must be 0 or more milliseconds"
            )
        if self.max_queue < self.max_batch_size:
            raise ConfigError(
                f"max_queue is {self.max_queue}, below max_batch_size {self.max_batch_size}; "
                "no full batch could ever form, so raise the first or lower the second"
            )
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ConfigError(
                f"max_buffered_bytes is {self.max_buffered_bytes}, below max_body_bytes "
                f"{self.max_body_bytes}; it must hold at least one body"
            )
        if not self.model_version or "/" in self.model_version:
            raise ConfigError(
                f"model_version is '{self.model_version}'; it must be a word without '/', "
                "since it is part of an address"
            )
