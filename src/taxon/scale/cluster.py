"""A Ray cluster: the one that runs, or one of this machine that ends with this process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taxon.core.errors import ConfigError, TaxonError
from taxon.scale.extra import require_ray

_ANSWER_SECONDS = 10.0
_LOGGERS = ("ray", "ray.data", "ray.train", "ray.serve")


def quieten() -> None:
    """Have Ray's libraries say only what went wrong: progress is shown by taxon."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):  # files of the session keep all
                handler.setLevel(logging.ERROR)


@contextmanager
def ordered() -> Iterator[None]:
    """Have the streams of Ray Data keep the order of their rows, and show nothing; for a time."""
    data = require_ray("data")
    quieten()
    context = data.DataContext.get_current()
    bars, options = context.enable_progress_bars, context.execution_options
    kept = options.preserve_order
    context.enable_progress_bars, options.preserve_order = False, True
    try:
        yield
    finally:
        context.enable_progress_bars, options.preserve_order = bars, kept


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try it for many minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not separator or not port.isdecimal():
        return  # `auto`, `local`
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster at {address}: {error}; start one (ray start --head), or leave "
            "--address out for one on this machine"
        ) from error


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep from the terminal what Ray's core says of itself when it starts.

    It writes to the file descriptor, past all loggers and `sys.stderr`.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def connected(
    address: str | None, tell: Callable[[str], None], *, store_bytes: int | None = None
) -> Iterator[Any]:
    """Yield Ray, connected; a cluster that was connected before stays so.

    Args:
        address: of a cluster (`auto`, `HOST:PORT`); None: the one that RAY_ADDRESS names, else one
            that is started on this machine, open to this machine alone.
        store_bytes: of the object store of one that is started; None: as Ray chooses.

    Raises:
        ConfigError: nothing answers at the address.
        MissingDependencyError: Ray is not installed.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        _require_answer(address)
    quieten()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Ray puts its own in the place of what a command has for a stop request, and leaves it there.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _without_greeting():
            if address is None:
                # By itself Ray would join whatever cluster was started here last.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=store_bytes,
                    _node_ip_address="127.0.0.1",
                    **options,
                )
            else:
                ray.init(address=address, **options)
    except Exception as error:  # a bare one where its processes start too slowly
        raise ConfigError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        cores = int(ray.cluster_resources().get("CPU", 0))
        nodes = sum(node["Alive"] for node in ray.nodes())
        tell(f"Ray: {nodes} machines with {cores} cores" if nodes > 1 else f"Ray: {cores} cores")
        yield ray
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def own_error(error: BaseException) -> TaxonError | None:
    """The error of ours by which a remote call failed; None where it is none of ours."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        # Ray raises a class that is both its own and ours.
        if isinstance(found, TaxonError) and not hasattr(found, "traceback_str"):
            return found
        waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]
    return None
