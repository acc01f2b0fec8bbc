"""A load generator: raw HTTP over asyncio, one process, no library between it and the socket.

    python benchmarks/load.py URL --pictures FOLDER --concurrency 32 --seconds 10
    python benchmarks/load.py URL --pictures FOLDER --rate 200 --seconds 10

With `--concurrency` so many connections send one request after the other (closed loop); with
`--rate` requests are sent at that rate whether or not others were answered (open loop), and a
latency counts from the moment at which its request was due. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

MOST_PICTURES = 200


@dataclass
class Result:
    """What came back."""

    latencies: list[float] = field(default_factory=list)  # seconds, of those with 200
    refused: list[float] = field(default_factory=list)  # seconds, of those with 503
    statuses: Counter[str] = field(default_factory=Counter)
    retry_after: int = 0  # of the refused, those that say when to come back

    def count(self, status: str, seconds: float, headers: bytes) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        if status == "200":
            self.latencies.append(seconds)
        elif status == "503":
            self.refused.append(seconds)
            self.retry_after += b"retry-after:" in headers.lower()

    def summary(self, seconds: float) -> dict[str, object]:
        """As JSON; latencies in milliseconds."""
        return {
            "seconds": round(seconds, 3),
            "answered": len(self.latencies),
            "per_second": round(len(self.latencies) / seconds, 2),
            "statuses": dict(self.statuses),
            "retry_after": self.retry_after,
            **{f"p{share}_ms": quantile(self.latencies, share) for share in (50, 95, 99)},
            "refused_p99_ms": quantile(self.refused, 99),
        }


def quantile(values: list[float], share: int) -> float | None:
    """A percentile in milliseconds; None of nothing."""
    if not values:
        return None
    place = min(len(values) - 1, int(len(values) * share / 100))
    return round(1000 * sorted(values)[place], 3)


class Connection:
    """One connection that is kept."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        """Send a request; return the status (`lost` where there was no answer) and the headers."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = head[9:12].decode()
            lower = head.lower()
            if b"content-length:" in lower:
                size = int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                await reader.readexactly(size)
            else:
                await self._chunks(reader)
            if b"connection: close" in lower:
                self.close()
            return status, head
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.close()
            return "lost", b""

    def close(self) -> None:
        """Close it; the next request opens another one."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _chunks(self, reader: asyncio.StreamReader) -> None:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()


def requests_of(url: str, folder: Path, seed: int) -> Iterator[bytes]:
    """Requests with real pictures as their bodies, in random order, for ever."""
    parts = urlsplit(url)
    files = sorted(path for path in folder.rglob("*.jp*g") if path.is_file())
    random.Random(seed).shuffle(files)
    made = []
    for file in files[:MOST_PICTURES]:
        body = file.read_bytes()
        head = (
            f"POST {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1\r\n"
            f"host: {parts.netloc}\r\ncontent-type: image/jpeg\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return cycle(made)


async def closed_loop(
    url: str, requests: Iterator[bytes], concurrency: int, seconds: float
) -> Result:
    """Each connection sends its next request when the one before was answered."""
    result = Result()
    end = time.perf_counter() + seconds

    async def client() -> None:
        connection = Connection(url)
        while (begun := time.perf_counter()) < end:
            status, head = await connection.ask(next(requests))
            result.count(status, time.perf_counter() - begun, head)
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return result


async def open_loop(url: str, requests: Iterator[bytes], rate: float, seconds: float) -> Result:
    """Requests at random moments (Poisson), so many a second on average."""
    result = Result()
    idle: list[Connection] = []
    chance = random.Random(0)
    running: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        status, head = await connection.ask(next(requests))
        result.count(status, time.perf_counter() - due, head)
        idle.append(connection)

    due = begun = time.perf_counter()
    while due < begun + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
        due += chance.expovariate(rate)
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second; in place of --concurrency")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    requests = requests_of(given.url, given.pictures, given.seed)
    started = time.perf_counter()
    if given.rate is None:
        work = closed_loop(given.url, requests, given.concurrency, given.seconds)
    else:
        work = open_loop(given.url, requests, given.rate, given.seconds)
    result = asyncio.run(work)
    json.dump(result.summary(time.perf_counter() - started), sys.stdout)
    print()


if __name__ == "__main__":
    main()
