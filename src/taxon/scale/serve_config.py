"""The config file of Ray Serve: which application, with how many replicas of how many cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taxon.core.errors import ConfigError
from taxon.scale.serving import DEPLOYMENT
from taxon.serving.settings import ServingSettings

_FOR_CLOSING = 5  # seconds that a replica has beside those for its last answers
_FOR_THE_WAY = 10.0  # and a request beside those that a replica may take
_KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep theirs
_HEALTH_SECONDS = 5.0


@dataclass(frozen=True)
class Replicas:
    """How many replicas an application has, and what each of them gets.

    Attributes:
        least, most: Ray keeps their number between these.
        cores: of a replica; each computes with as many threads.
        gpus: of a replica; a part of one where several share it.
        requests: under way in each replica on average, that Ray adds replicas above and takes
            them away below; None: four for each core.
        grow_seconds, shrink_seconds: for which it must be more, or less.

    Raises:
        ConfigError: a value is out of range.
    """

    least: int = 1
    most: int = 4
    cores: int = 2
    gpus: float = 0.0
    requests: float | None = None
    grow_seconds: float = 10.0
    shrink_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--min-replicas", self.least, 1),
            ("--cpus", self.cores, 1),
            ("--gpus", self.gpus, 0),
            ("--target-requests", self.target, 0.1),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value:g}; it must be at least {least:g}")
        if self.most < self.least:
            raise ConfigError(
                f"--max-replicas is {self.most}, below --min-replicas {self.least}; raise the "
                "first or lower the second"
            )

    @property
    def target(self) -> float:
        """Requests under way in each replica, on average."""
        return 4.0 * self.cores if self.requests is None else self.requests


@dataclass(frozen=True)
class Address:
    """Where the proxies of Ray Serve listen, one on each node with replicas.

    Attributes:
        prefix: of all paths of the application.

    Raises:
        ConfigError: the prefix is none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    prefix: str = "/"

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or (self.prefix != "/" and self.prefix.endswith("/")):
            raise ConfigError(
                f"--route-prefix is '{self.prefix}'; it begins with / and does not end with it, "
                "say /defects"
            )


def serve_config(
    name: str,
    import_path: str,
    arguments: Mapping[str, Any],
    replicas: Replicas,
    address: Address,
    settings: ServingSettings,
) -> dict[str, Any]:
    """Return the config, as `serve run` and `serve deploy` read it.

    Args:
        name: of the application.
        import_path: `module:function`, whose function takes `arguments` and returns the
            application.
        settings: by which replicas batch and refuse.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": address.host,
            "port": address.port,
            "keep_alive_timeout_s": _KEEP_ALIVE_SECONDS,
            "request_timeout_s": settings.timeout_ms / 1000 + _FOR_THE_WAY,
        },
        "applications": [
            {
                "name": name,
                "route_prefix": address.prefix,
                "import_path": import_path,
                "args": dict(arguments),
                "deployments": [_deployment(replicas, settings)],
            }
        ],
    }


def _deployment(replicas: Replicas, settings: ServingSettings) -> dict[str, Any]:
    resources: dict[str, float] = {"num_cpus": replicas.cores}
    if replicas.gpus:
        resources["num_gpus"] = replicas.gpus
    return {
        "name": DEPLOYMENT,
        "ray_actor_options": resources,
        "autoscaling_config": {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": replicas.target,
            "upscale_delay_s": replicas.grow_seconds,
            "downscale_delay_s": replicas.shrink_seconds,
        },
        # A replica refuses by itself what is too much (503 with Retry-After); requests that Ray
        # held back would wait without end, and the batches would stay small.
        "max_ongoing_requests": settings.max_queue,
        "max_queued_requests": settings.max_queue,
        "graceful_shutdown_timeout_s": float(settings.shutdown_seconds + _FOR_CLOSING),
        "health_check_period_s": _HEALTH_SECONDS,
        "health_check_timeout_s": 2 * _HEALTH_SECONDS,
    }
