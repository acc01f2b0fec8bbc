"""A load generator: HTTP/1.1 over bare sockets, one process, so that it takes little of the cores.

    python benchmarks/load.py URL --pictures FOLDER --concurrency 32 --seconds 10
    python benchmarks/load.py URL --pictures FOLDER --rates 50:5,400:10,100:10 --trace FILE

With `--concurrency` so many connections send one request after the other (closed loop); one that
is refused with 503 waits as long as `Retry-After` says. With `--rates` requests are sent at random
moments (Poisson), so many a second for so many seconds, one phase after the other, whether or not
others were answered (open loop); a latency counts from the moment at which its request was due.
Prints one JSON object a phase, as a list. Statuses beside numbers: `lost`, no whole answer;
`unanswered`, none within `--patience` seconds of the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

MOST_PICTURES = 200
BOUNDARY = "picture-boundary"
OK, REFUSED, LOST, UNANSWERED = "200", "503", "lost", "unanswered"


@dataclass(frozen=True)
class Reply:
    """An answer: its status, and after how many seconds to come back, where it says so."""

    status: str
    retry_after: float | None = None


@dataclass
class Phase:
    """What came back of the requests of one phase.

    Attributes:
        rows: due (seconds from the beginning of the phase), latency in seconds, status.
        in_time: answered with 200 within the phase, and not in what was left after it.
        retry_after: of the refused, those that say when to come back.
    """

    seconds: float
    rows: list[tuple[float, float, str]] = field(default_factory=list)
    in_time: int = 0
    retry_after: int = 0

    def count(self, due: float, latency: float, reply: Reply) -> None:
        """Count an answer."""
        self.rows.append((due, latency, reply.status))
        self.in_time += reply.status == OK and due + latency <= self.seconds
        self.retry_after += reply.status == REFUSED and reply.retry_after is not None

    def summary(self) -> dict[str, object]:
        """As JSON; latencies in milliseconds."""
        answered = sorted(latency for _, latency, status in self.rows if status == OK)
        refused = sorted(latency for _, latency, status in self.rows if status == REFUSED)
        return {
            "seconds": self.seconds,
            "per_second": round(self.in_time / self.seconds, 2),
            "statuses": dict(Counter(status for *_, status in self.rows)),
            "retry_after": self.retry_after,
            **{f"p{share}_ms": quantile(answered, share) for share in (50, 95, 99)},
            "refused_p99_ms": quantile(refused, 99),
        }


def quantile(ordered: list[float], share: int) -> float | None:
    """A percentile in milliseconds; None of nothing."""
    if not ordered:
        return None
    place = min(len(ordered) - 1, int(len(ordered) * share / 100))
    return round(1000 * ordered[place], 3)


class Connection(asyncio.Protocol):
    """One connection, which sends one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[Reply] | None = None

    @property
    def open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return what came back."""
        assert self._transport is not None
        self._received.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """See whether the answer is whole."""
        self._received += data
        head, separator, body = bytes(self._received).partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.lower().split(b"\r\n")
        headers = {name: value.strip() for name, _, value in (x.partition(b":") for x in lines)}
        if b"content-length" in headers:
            whole = len(body) >= int(headers[b"content-length"])
        else:
            whole = body.endswith(b"0\r\n\r\n")  # chunks
        if not whole:
            return
        if headers.get(b"connection") == b"close":
            self.close()
        after = headers.get(b"retry-after")
        self._finish(Reply(head[9:12].decode(), None if after is None else float(after)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits for an answer gets none."""
        self._transport = None
        self._finish(Reply(LOST))

    def _finish(self, reply: Reply) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(reply)


@dataclass
class Load:
    """Where requests go, and which."""

    host: str
    port: int
    requests: Iterator[bytes]
    patience: float
    idle: list[Connection] = field(default_factory=list)

    async def ask(self) -> Reply:
        """Send the next request on a connection that is free, or on a new one."""
        while self.idle and not self.idle[-1].open:
            self.idle.pop()
        try:
            connection = self.idle.pop() if self.idle else await self._connect()
        except OSError:
            return Reply(LOST)
        reply = await connection.ask(next(self.requests))
        if connection.open:
            self.idle.append(connection)
        return reply

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    async def closed_loop(self, concurrency: int, seconds: float) -> Phase:
        """Each client sends its next request when the one before was answered."""
        phase = Phase(seconds)
        begun = time.perf_counter()

        async def client() -> None:
            while (due := time.perf_counter() - begun) < seconds:
                reply = await self._patient(begun + seconds)
                phase.count(due, time.perf_counter() - begun - due, reply)
                if reply.retry_after is not None:
                    await asyncio.sleep(reply.retry_after)
                elif reply.status == LOST:
                    await asyncio.sleep(0.1)  # nobody is there: do not spin

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return phase

    async def open_loop(self, rates: list[tuple[float, float]]) -> list[Phase]:
        """Requests at random moments, so many a second on average, phase after phase."""
        chance = random.Random(0)
        running: set[asyncio.Task[None]] = set()
        phases = []

        async def one(phase: Phase, begun: float, due: float) -> None:
            reply = await self._patient(begun + phase.seconds)
            phase.count(due, time.perf_counter() - begun - due, reply)

        end = time.perf_counter()
        for rate, seconds in rates:
            begun, due = end, 0.0
            end += seconds
            phases.append(phase := Phase(seconds))
            while (due := due + chance.expovariate(rate)) < seconds:
                await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
                task = asyncio.create_task(one(phase, begun, due))
                running.add(task)
                task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        return phases

    async def _patient(self, end: float) -> Reply:
        try:
            async with asyncio.timeout(end + self.patience - time.perf_counter()):
                return await self.ask()
        except TimeoutError:
            return Reply(UNANSWERED)


def requests_of(url: str, folder: Path, form: str | None) -> Iterator[bytes]:
    """Requests with real pictures as their bodies, in a shuffled order, for ever."""
    parts = urlsplit(url)
    files = sorted(path for path in folder.rglob("*.jp*g") if path.is_file())
    if not files:
        raise SystemExit(f"no JPEG pictures in {folder}")
    random.Random(0).shuffle(files)
    made = []
    for file in files[:MOST_PICTURES]:
        kind, body = "image/jpeg", file.read_bytes()
        if form is not None:
            kind, body = (
                f"multipart/form-data; boundary={BOUNDARY}",
                form_body(form, file.name, body),
            )
        head = (
            f"POST {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1\r\n"
            f"host: {parts.netloc}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return cycle(made)


def form_body(field_name: str, name: str, picture: bytes) -> bytes:
    """The body of a form with one picture."""
    head = (
        f"--{BOUNDARY}\r\ncontent-disposition: form-data; "
        f'name="{field_name}"; filename="{name}"\r\ncontent-type: image/jpeg\r\n\r\n'
    )
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


async def _run(given: argparse.Namespace) -> list[Phase]:
    parts = urlsplit(given.url)
    assert parts.hostname is not None
    requests = requests_of(given.url, given.pictures, given.form)
    load = Load(parts.hostname, parts.port or 80, requests, given.patience)
    if given.rates is None:
        phases = [await load.closed_loop(given.concurrency, given.seconds)]
    else:
        pairs = [each.partition(":") for each in given.rates.split(",")]
        phases = await load.open_loop([(float(rate), float(time_)) for rate, _, time_ in pairs])
    for connection in load.idle:
        connection.close()
    return phases


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--form", help="send forms, with the picture in this field")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", help="RATE:SECONDS,...; in place of --concurrency")
    parser.add_argument("--patience", type=float, default=30.0)
    parser.add_argument("--trace", type=Path, help="write each request's due, latency and status")
    given = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        phases = asyncio.run(_run(given))
    else:
        phases = uvloop.run(_run(given))
    if given.trace is not None:
        given.trace.write_text(json.dumps([phase.rows for phase in phases]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime, 3)
    json.dump([{**phase.summary(), "own_cpu_seconds": seconds} for phase in phases], sys.stdout)
    print()


if __name__ == "__main__":
    main()
