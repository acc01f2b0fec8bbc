"""The settings of a server: batching, limits, and what it lets strangers do."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from taxon.core.errors import ConfigError

MIB = 1024 * 1024


@dataclass(frozen=True)
class ServingSettings:
    """How a server batches and what it refuses.

    Attributes:
        max_batch_size: pictures computed together at most; what is measured at the start may
            be less.
        max_delay_ms: how long, in milliseconds, the first picture of a batch waits for others
            that are being decoded.
        max_queue: pictures of a model accepted and not yet answered at most; beyond it a request
            gets 503. Also the most pictures that one request may bring.
        max_wait_ms: a request that would wait longer than this, by what pictures took lately,
            gets 503. While ever more requests are under way, less is allowed: three times what a
            lone picture takes.
        timeout_ms: a request that was not begun after this gets 504 and is not computed; its
            header `X-Timeout-Ms` may ask for less.
        max_body_bytes: bytes of one request body at most.
        max_pixels: pixels of one picture at most; a small file may hold very many.
        max_buffered_bytes: bytes of all bodies held in memory at once at most; beyond it a
            request gets 503. Messages of gRPC count by themselves, and so do those on their way,
            each as long as it may be: it waits where there is no room. Beside them, the largest
            body is held up to three times more while it is taken apart.
        max_header_bytes: bytes of a request's first line and headers at most.
        max_connections: open at once at most.
        client_seconds: that a client may take to send its headers, or a message of gRPC; and over
            so long it must send 10 KB of its body, or read 10 KB of its answer, a second.
        shutdown_seconds: how long a stopping server waits for requests in flight.
        api_keys: one of them must come with every request, where there are any.
        cors_origins: pages of these origins may ask; none by default.
        reload_by_request: whether V2 repository requests may open and close models.

    Raises:
        ConfigError: a value is out of range.
    """

    max_batch_size: int = 16
    max_delay_ms: float = 2.0
    max_queue: int = 256
    max_wait_ms: float = 1000.0
    timeout_ms: float = 30_000.0
    max_body_bytes: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_buffered_bytes: int = 512 * MIB
    max_header_bytes: int = 32 * 1024
    max_connections: int = 4096
    client_seconds: float = 20.0
    shutdown_seconds: int = 30
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    reload_by_request: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "max_delay_ms" else 1
            if isinstance(value, bool | tuple):
                continue
            if not (math.isfinite(value) and value >= least):
                raise ConfigError(f"{field.name} is {value}; it must be at least {least}")
        if self.max_queue < self.max_batch_size:
            raise ConfigError(
                f"max_queue is {self.max_queue}, below max_batch_size {self.max_batch_size}; "
                "no full batch could ever form, so raise the first or lower the second"
            )
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ConfigError(
                f"max_buffered_bytes is {self.max_buffered_bytes}, below max_body_bytes "
                f"{self.max_body_bytes}; it must hold at least one body, and with computing "
                "processes two: raise it with --max-buffered-mb"
            )
