"""One computing process, as the server sees it: started, asked, waited for, ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from taxon.serving.computing.errors import Overloaded
from taxon.serving.computing.wire import Frame, error_of, read_frame, write_frame

_log = logging.getLogger("taxon.serving")
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

    Attributes:
        pictures: under way.
        models: their keys.
        open_seconds: that opening a model may take, or closing it; then the process is ended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.open_seconds = 300.0
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._silent_since: float | None = None  # by the event loop's clock
        self.pictures = 0
        self.models: set[str] = set()
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
        number, loop = next(self._numbers), asyncio.get_running_loop()
        if self._silent_since is None:
            self._silent_since = loop.time()
        future: asyncio.Future[Frame] = loop.create_future()
        self._waiting[number] = future
        try:
            write_frame(self._writer, Frame({"id": number, **header}, parts))
            frame = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in frame.header:
            raise error_of(frame.header)
        return frame

    @property
    def silent_seconds(self) -> float:
        """For how long it has said nothing, though it was asked something; whoever waits for it."""
        since = self._silent_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def load(self, key: str, path: Path) -> Frame:
        """Have it open a model; raises what `ask` raises, and what kept it from opening it."""
        frame = await self._in_time({"do": "load", "model": key, "path": os.fspath(path)})
        self.models.add(key)
        return frame

    async def unload(self, key: str) -> None:
        """Have it close a model, after what it was asked; raises what `ask` raises."""
        self.models.discard(key)
        await self._in_time({"do": "unload", "model": key})

    def turn_away(self, key: str, longest: float) -> None:
        """Have it turn away what would wait longer than so many seconds for a model."""
        if self.alive and not self._writer.is_closing():
            header = {"do": "turn away", "model": key, "longest": longest}
            write_frame(self._writer, Frame({"id": next(self._numbers), **header}))

    async def _in_time(self, header: dict[str, Any]) -> Frame:
        """Ask; a process that does not answer must not keep the others from changing models."""
        try:
            async with asyncio.timeout(self.open_seconds):
                return await self.ask(header)
        except TimeoutError:
            _log.error("a computing process does not %s a model; it is ended", header["do"])
            self.kill()
            raise WorkerLost from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                frame = await read_frame(reader)
                future = self._waiting.pop(frame.header["id"], None)
                now = asyncio.get_running_loop().time()
                self._silent_since = now if self._waiting else None
                if future is not None and not future.done():
                    future.set_result(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.alive = False
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerLost())
