"""One computing process, as the server sees it: started, asked, waited for, ended."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from taxon.serving.computing.batcher import Overloaded
from taxon.serving.computing.wire import Frame, error_of, read_frame, write_frame

_STOP_SECONDS = 30.0  # then a process that was asked to end is ended


class WorkerLost(Overloaded):
    """The process that computed the pictures ended; the same request may work at once."""

    def __init__(self) -> None:
        super().__init__(
            "the process that computed this ended; it is being replaced, try again shortly",
            "worker",
        )


class Worker:
    """One computing process.

    Args:
        command: starts it; the number of its socket is put at the end.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self.pictures = 0  # under way
        self.models: set[str] = set()  # their keys
        self.alive = False

    @property
    def process_id(self) -> int:
        """Its number in the system."""
        return self._process.pid

    async def start(self) -> None:
        """Start it."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self.alive = True
        self._reading = asyncio.create_task(self._read(reader))

    async def stop(self) -> None:
        """Let it finish, and wait for its end; one that does not come to it is ended."""
        self.alive = False
        self._writer.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._reading

    async def ended(self) -> None:
        """Wait until it ends, for whatever reason."""
        await self._process.wait()
        await self._reading
        self._writer.close()

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ask(self, header: dict[str, Any], parts: Sequence[bytes | memoryview] = ()) -> Frame:
        """Send a request and wait for its answer.

        Raises:
            WorkerLost: it ended before it answered.
        """
        # Its end is seen by the writer first.
        if not self.alive or self._writer.is_closing():
            raise WorkerLost
        number = next(self._numbers)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            write_frame(self._writer, Frame({"id": number, **header}, parts))
            frame = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in frame.header:
            raise error_of(frame.header)
        return frame

    async def load(self, key: str, path: Path) -> Frame:
        """Have it open a model; raises what `ask` raises, and what kept it from opening it."""
        frame = await self.ask({"do": "load", "model": key, "path": os.fspath(path)})
        self.models.add(key)
        return frame

    async def unload(self, key: str) -> None:
        """Have it close a model, after what it was asked; raises what `ask` raises."""
        self.models.discard(key)
        await self.ask({"do": "unload", "model": key})

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                frame = await read_frame(reader)
                future = self._waiting.get(frame.header["id"])
                if future is not None and not future.done():
                    future.set_result(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.alive = False
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerLost())
