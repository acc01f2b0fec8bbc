"""Processes of this machine that compute pieces of a job: one a core, each with one thread.

They are programs of their own and not forks or spawned copies: a script that calls taxon needs no
`if __name__ == "__main__"`, and nothing of it runs twice.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

import pyarrow as pa

from taxon.batch.compute import Task
from taxon.batch.items import Item
from taxon.core.errors import LostProcessError

_LENGTH = 8  # bytes that say how long a message is


class ComputingProcess:
    """One process with the model open.

    Raises what opening the model raises, and `LostProcessError`.
    """

    def __init__(self, task: Task) -> None:
        self._process = subprocess.Popen(
            # -P: nothing is imported from the working folder, which may hold anything.
            [sys.executable, "-P", "-m", "taxon.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._ask(task)
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """Its number in the system."""
        return self._process.pid

    def compute(self, items: Sequence[Item]) -> pa.Table:
        """Compute pictures there: a row each.

        Raises:
            LostProcessError: the process ended, killed by somebody or for want of memory.
        """
        return self._ask(list(items))

    def close(self) -> None:
        """End it; what it computes is lost."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was still to be written to it is lost too
                    stream.close()
        self._process.wait()

    def _ask(self, message: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(self._process.stdin, message)
            answer = receive(self._process.stdout)
        except (OSError, EOFError) as error:
            raise LostProcessError(
                f"a computing process ended (code {self._process.wait()}: killed, or the memory "
                "ran out); finished parts are kept: the same command goes on"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Processes:
    """Several of them; each thread that asks has its own."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._local = threading.local()
        self._lock = threading.Lock()
        self._started: list[ComputingProcess] = []
        self._closed = False

    def start(self) -> None:
        """Start this thread's process."""
        process = ComputingProcess(self._task)
        with self._lock:
            self._started.append(process)
            closed = self._closed
        self._local.process = process
        if closed:
            process.close()

    def compute(self, items: Sequence[Item]) -> pa.Table:
        """Compute pictures in this thread's process."""
        if not hasattr(self._local, "process"):
            self.start()
        process: ComputingProcess = self._local.process
        return process.compute(items)

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            self._closed = True
            for process in self._started:
                process.close()


def send(stream: IO[bytes], message: object) -> None:
    """Write a message to another process of this program."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(data).to_bytes(_LENGTH, "little"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read a message.

    Raises:
        EOFError: the other end is gone.
    """
    length = int.from_bytes(_exactly(stream, _LENGTH), "little")
    return pickle.loads(_exactly(stream, length))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
