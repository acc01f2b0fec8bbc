"""The program of a computing process of `taxon serve --workers`; the server starts it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from taxon.api.serving_models import BackendChoice, open_engine
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.computing.worker import work
from taxon.serving.imports import settled_imports
from taxon.serving.logs import install_logs
from taxon.serving.settings import ServingSettings


@dataclass(frozen=True)
class Task:
    """What a computing process is told at its start.

    Attributes:
        threads: that decode, and that compute a batch.
    """

    settings: ServingSettings
    choice: BackendChoice
    threads: int
    log_format: str


_TASK = TypeAdapter(Task)


def worker_command(
    settings: ServingSettings, choice: BackendChoice, threads: int, log_format: str
) -> list[str]:
    """Return what starts a computing process; the number of its socket is to be put at the end."""
    # Keys have no place in a command line, which every user of the machine can read.
    open_to_all = replace(settings, api_keys=())
    told = Task(open_to_all, replace(choice, threads=threads), threads, log_format)
    return [sys.executable, "-m", "taxon.api.serving_worker", _TASK.dump_json(told).decode()]


def main(arguments: Sequence[str]) -> None:
    """Answer what the server asks until it closes its end of the socket."""
    told, descriptor = _TASK.validate_json(arguments[0]), int(arguments[1])
    # Ctrl-C reaches all processes of a terminal, SIGTERM all of a service, and SIGHUP may too; the
    # server ends this one after its last answer.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    install_logs(as_json=told.log_format == "json", access=False)

    def load(path: Path) -> LocalEngine:
        return open_engine(path, told.choice, told.settings, told.threads, refuses=False)

    with settled_imports():
        asyncio.run(work(socket.socket(fileno=descriptor), load))


if __name__ == "__main__":
    main(sys.argv[1:])
