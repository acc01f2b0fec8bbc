"""Serve: models over HTTP, each checked on its golden pictures before it answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from taxon.api.serving_models import AUTO, TORCH, BackendChoice, is_model, open_engine
from taxon.api.serving_worker import worker_command
from taxon.bundle.hub import PREFIX, local_folder
from taxon.bundle.layout import BUNDLE_FILE
from taxon.bundle.reference import read_reference
from taxon.core.cores import available_cores
from taxon.core.errors import ConfigError, InputError
from taxon.serving.computing.engine import Engine
from taxon.serving.computing.workers import WorkerEngine, WorkerPool
from taxon.serving.http.server import serve as run_server
from taxon.serving.models.card import read_card
from taxon.serving.models.places import Place, Places
from taxon.serving.models.served import Opened
from taxon.serving.models.table import ModelTable
from taxon.serving.settings import ServingSettings

_log = logging.getLogger("taxon.serving")


def serve(
    paths: str | Path | Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    backend: str = AUTO,
    device: str = "cpu",
    workers: int = 0,
    log_format: str = "text",
    settings: ServingSettings | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; imports no torch, unless it is asked to.

    Args:
        paths: model folders with an ONNX artefact, artefacts' folders, .onnx files, pointers to
            one, or folders with several (see `taxon.serving.models.places`); or
            `hf:user/name[@revision]`, of the state that it has when the server starts.
        host, port: where to listen; port 0 takes a free one.
        grpc_port: where the Open Inference Protocol is served over gRPC too; None: nowhere.
        backend, device: what computes; see `BackendChoice`.
        workers: processes that compute; 0: this one does.
        log_format: `text`, or `json`: one object a line.
        settings: batching and limits.
        on_ready: called with the URL when requests are accepted; and then, where gRPC is served,
            with `grpc://HOST:PORT`.

    Raises:
        BundleError: nothing there that can be served.
        CheckFailed: an artefact does not give the golden outputs on this machine.
        ConfigError: a choice that cannot be.
        HubError: a model of the hub cannot be had.
        InputError: the address cannot be used, or there is no model.
        MissingDependencyError: `grpc_port` is given without `taxon-vision[grpc]`.
    """
    settings = settings or ServingSettings()
    if workers:  # each body is held twice: here, and in the process that computes it
        settings = replace(settings, max_buffered_bytes=settings.max_buffered_bytes // 2)
    choice = BackendChoice(backend, device)
    named = [paths] if isinstance(paths, str | Path) else list(paths)
    pool = _pool(settings, choice, workers, log_format) if workers else None
    table = model_table([str(each) for each in named], choice, settings, pool)
    run_server(
        table,
        host=host,
        port=port,
        grpc_port=grpc_port,
        settings=settings,
        pool=pool,
        on_ready=on_ready,
    )


def _at_hand(typed: str, choice: BackendChoice) -> str:
    """A name with the path of the snapshot in place of `hf:`; any other as it is."""
    name, separator, rest = typed.partition("=")
    name, model = (f"{name}=", rest) if separator and rest.startswith(PREFIX) else ("", typed)
    if not model.startswith(PREFIX):
        return typed
    artefact = "onnx" if choice.name in (AUTO, TORCH) else choice.name
    folder = local_folder(model, (artefact,))
    _log.info("%s is taken from %s", model, folder)
    return f"{name}{folder}"


def model_table(
    named: Sequence[str],
    choice: BackendChoice,
    settings: ServingSettings,
    pool: WorkerPool | None = None,
) -> ModelTable:
    """Make the table of the models that a server has, none of them opened yet.

    Args:
        named: as in `serve`.
        pool: the processes that compute; None: this one does.

    Raises:
        InputError: none are named.
    """
    if not named:
        raise InputError("no models; name at least one folder that `taxon train` wrote")
    look = Places([_at_hand(each, choice) for each in named], is_model)
    return ModelTable(look, partial(_open, settings=settings, choice=choice, pool=pool))


def _pool(
    settings: ServingSettings, choice: BackendChoice, workers: int, log_format: str
) -> WorkerPool:
    if os.name != "posix":
        raise ConfigError("--workers needs a Unix system; here this process computes alone")
    threads = max(1, available_cores() // workers)
    return WorkerPool(worker_command(settings, choice, threads, log_format), workers)


async def _open(
    place: Place, *, settings: ServingSettings, choice: BackendChoice, pool: WorkerPool | None
) -> Opened:
    """Open the model at a place and start what computes it."""
    engine: Engine
    if pool is None:
        engine = await asyncio.to_thread(
            open_engine, place.folder, choice, settings, choice.threads
        )
    else:
        engine = WorkerEngine(pool, place.folder, settings)
    is_bundle = (place.folder / BUNDLE_FILE).is_file()
    # Before anything is started: a damaged one has the model refused.
    reference = read_reference(place.folder) if is_bundle else None
    await engine.start()
    if not is_bundle:
        return Opened(engine)
    fingerprint = engine.description.spec.fingerprint
    card = await asyncio.to_thread(read_card, place.folder, fingerprint)
    return Opened(engine, reference, card)
