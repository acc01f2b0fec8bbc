"""A small Ray cluster on this machine, and `serve run` on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_STORE_BYTES = 200 * 2**20
_SECONDS = 300  # for processes that each import Ray, on a busy machine
# Where a proxy takes longer to start than this, Ray Serve ends it and starts another one.
_PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def ray_cluster(cores: int = 2) -> Iterator[str]:
    """Start a cluster of this process's own, and yield its address."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)  # which Ray changes
    with pytest.MonkeyPatch.context() as patched:
        for name, value in _PATIENT.items():
            patched.setenv(name, value)
        context = ray.init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            object_store_memory=_STORE_BYTES,
        )
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def serve_run(config: Path, address: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """Run `serve run`, as a user types it, until the application answers; end it by Ctrl-C.

    Args:
        url: of the application.
    """
    from ray import serve

    log = config.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("serve"), "run", config, "--address", address],
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "RAY_COLOR_PREFIX": "0"},
        )
    try:
        _until_ready(process, url, log)
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=_SECONDS) == 0, log.read_text()
    finally:
        if process.poll() is None:  # the test has failed
            process.kill()
            process.wait()
            serve.shutdown()


def _until_ready(process: subprocess.Popen[str], url: str, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/v2/health/ready", timeout=30).status_code == 200:
                return
        except httpx.TransportError:
            pass  # the proxy does not listen yet
        time.sleep(0.1)
    raise AssertionError(log.read_text())
