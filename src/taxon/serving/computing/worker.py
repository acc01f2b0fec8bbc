"""A computing process: it answers what the server asks over its socket, and ends with it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from taxon.core.errors import TaxonError
from taxon.serving.computing.engine import FOREVER, Upload
from taxon.serving.computing.errors import TooMany
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.computing.wire import (
    Frame,
    answers_frame,
    described_frame,
    error_frame,
    read_frame,
    write_frame,
)


async def work(connection: socket.socket, load: Callable[[Path], LocalEngine]) -> None:
    """Answer until the server closes its end; then finish what was admitted.

    Args:
        connection: one end of a pair of sockets.
        load: opens the model at a path and checks it; may raise a `TaxonError`.
    """
    reader, writer = await asyncio.open_connection(sock=connection)
    desk = _Desk(load)
    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            frame = await read_frame(reader)
            task = asyncio.create_task(desk.answer(frame, partial(write_frame, writer)))
            running.add(task)
            task.add_done_callback(running.discard)
    except asyncio.IncompleteReadError:  # the server is gone
        await asyncio.gather(*running, return_exceptions=True)
        await desk.close()
        writer.close()


_log = logging.getLogger("taxon.serving")


class _Desk:
    """The engines of this process, by the keys that the server gave them."""

    def __init__(self, load: Callable[[Path], LocalEngine]) -> None:
        self._load = load
        self._engines: dict[str, LocalEngine] = {}

    async def answer(self, frame: Frame, send: Callable[[Frame], None]) -> None:
        number = frame.header["id"]
        try:
            send(await self._do(number, frame))
        except Exception as error:  # told to the server, which asked
            if not isinstance(error, TaxonError | TooMany):
                _log.exception("a request of the server failed")
            send(error_frame(number, error))

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.stop()

    async def _do(self, number: int, frame: Frame) -> Frame:
        header = frame.header
        key, timeout = header["model"], header.get("timeout")
        deadline = FOREVER if timeout is None else asyncio.get_running_loop().time() + timeout
        match header["do"]:
            case "load":
                engine = await asyncio.to_thread(self._load, Path(header["path"]))
                await engine.start()
                self._engines[key] = engine
                return described_frame(number, engine.description)
            case "unload":
                await self._engines.pop(key).stop()
                return Frame({"id": number})
            case "turn away":
                if key in self._engines:  # it may be closed by now
                    self._engines[key].turn_away(header["longest"])
                return Frame({"id": number})
            case "answer":
                named = zip(header["names"], frame.parts, strict=True)
                pictures = [Upload(name, part) for name, part in named]
                return answers_frame(number, await self._engines[key].answer(pictures, deadline))
            case "compute":
                images = np.frombuffer(frame.parts[0], np.uint8).reshape(header["shape"])
                return answers_frame(number, await self._engines[key].compute(images, deadline))
            case unknown:
                raise ValueError(f"unknown request '{unknown}'")
