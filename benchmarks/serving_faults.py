"""Faults, in full: what a server answers while it is attacked, and what it keeps of it.

    python benchmarks/serving_faults.py RUN OTHER_RUN --pictures FOLDER --minutes 10

RUN and OTHER_RUN are model folders that answer differently. Nearly right bodies by the thousand,
connections that say nothing, models exchanged under load (each answer is compared with what the
model that it names says of that picture), computing processes killed under load; then requests
without a pause for some minutes. Prints a table in Markdown: what was tried, how much of it was
answered rightly, what was refused with 503 (an answer, too: it says when to come back), what was
neither, and the resident memory of the server with its processes before and after.
Exit code 1: something was answered wrongly or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from malformed import malformed_requests, valid_requests
from serving_process import ServerProcess, server_process
from taxon.inference import load_predictor

CLIENTS = 16
TOLERANCE = 1e-3  # of a probability: another runtime may compute on the server
PATIENCE = 60.0
SETTLE_SECONDS = 3.0
MOST_PICTURES = 50
KIND = {"content-type": "image/jpeg"}


@dataclass
class Row:
    """A line of the table."""

    fault: str
    tried: int = 0
    right: int = 0
    refused: int = 0  # 503, with a Retry-After
    wrong: Counter[str] = field(default_factory=Counter)
    before: float = 0.0  # megabytes
    after: float = 0.0

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {what}" for what, count in self.wrong.items()) or "0"
        return (
            f"| {self.fault} | {self.tried} | {self.right} | {self.refused} | {wrong} "
            f"| {self.before:.0f} | {self.after:.0f} |"
        )


@dataclass(frozen=True)
class Truth:
    """What both models say of each picture: fingerprint -> class names and a row a picture."""

    pictures: list[bytes]
    answers: dict[str, tuple[tuple[str, ...], np.ndarray]]

    def is_right(self, picture: int, answer: dict[str, object]) -> bool:
        """Whether an answer is wholly that of the model that it names."""
        model, results = answer["model"], answer["results"]
        assert isinstance(model, dict)
        assert isinstance(results, list)
        names, rows = self.answers[model["fingerprint"]]
        wanted = dict(zip(names, rows[picture].tolist(), strict=True))
        (result,) = results
        return all(
            abs(each["probability"] - wanted[each["label"]]) < TOLERANCE for each in result["top"]
        )


def truth_of(runs: list[Path], folder: Path) -> Truth:
    """Compute what the models say, in this process."""
    files = sorted(path for path in folder.rglob("*.jp*g") if path.is_file())
    random.Random(0).shuffle(files)
    pictures = [file.read_bytes() for file in files[:MOST_PICTURES]]
    answers = {}
    for run in runs:
        predictor = load_predictor(run)
        prepared = [predictor.prepare(picture) for picture in pictures]
        rows = np.concatenate([predictor.run(each[None]).probabilities for each in prepared])
        answers[predictor.spec.fingerprint] = (predictor.spec.label_space.names, rows)
    if len(answers) < len(runs):
        raise SystemExit("the two model folders have the same fingerprint; name different ones")
    return Truth(pictures, answers)


class Load:
    """Clients that ask without a pause; every answer is compared with the truth."""

    def __init__(self, server: ServerProcess, truth: Truth, row: Row) -> None:
        self._server, self._truth, self._row = server, truth, row
        self._stop = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._clients = [asyncio.create_task(self._ask(at)) for at in range(CLIENTS)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._clients)

    async def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        row = self._row
        async with httpx.AsyncClient(base_url=self._server.url, timeout=PATIENCE) as client:
            while not self._stop.is_set():
                at = chance.randrange(len(self._truth.pictures))
                row.tried += 1
                try:
                    answer = await client.post(
                        "/v1/classify", content=self._truth.pictures[at], headers=KIND
                    )
                except httpx.TransportError as error:
                    row.wrong[type(error).__name__] += 1
                    continue
                if answer.status_code == 503 and "retry-after" in answer.headers:
                    row.refused += 1
                    await asyncio.sleep(0.05)
                elif answer.status_code != 200:
                    row.wrong[str(answer.status_code)] += 1
                elif self._truth.is_right(at, answer.json()):
                    row.right += 1
                else:
                    row.wrong["mixed"] += 1


def malformed(server: ServerProcess, count: int, row: Row) -> None:
    """Each body gets an answer in JSON that is no 5xx, but for a time that was over (504)."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        size = client.get("/v1/model").json()["input"]["height"]
        for sent in malformed_requests(valid_requests("m", size), count):
            row.tried += 1
            try:
                answer = client.post(sent.path, headers=sent.headers, content=sent.body)
            except httpx.TransportError as error:
                row.wrong[type(error).__name__] += 1
                continue
            is_fault = answer.status_code >= 500 and answer.status_code != 504
            if is_fault or (answer.status_code != 200 and list(answer.json()) != ["error"]):
                row.wrong[str(answer.status_code)] += 1
            else:
                row.right += 1


async def connections(server: ServerProcess, truth: Truth, count: int, row: Row) -> None:
    """So many are open and silent; others are answered meanwhile, and so are they in the end."""
    held = [socket.create_connection(server.address) for _ in range(count)]
    async with Load(server, truth, row):
        await asyncio.sleep(5)
    for each in held:
        row.tried += 1
        each.settimeout(PATIENCE)
        each.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    for each in held:
        try:
            received = each.recv(65536)
        except OSError as error:
            row.wrong[type(error).__name__] += 1
            continue
        if received.startswith(b"HTTP/1.1 200 "):
            row.right += 1
        else:
            row.wrong[received[9:12].decode() or "closed"] += 1
        each.close()


async def swaps(
    server: ServerProcess, truth: Truth, pointer: Path, runs: list[Path], count: int, row: Row
) -> None:
    """By pointer file, SIGHUP and request in turn; each is seen in an answer before the next."""
    fingerprints = list(truth.answers)
    async with Load(server, truth, row), httpx.AsyncClient(base_url=server.url) as client:
        for swap in range(1, count + 1):
            at = swap % 2
            new = pointer.with_suffix(".new")
            new.write_text(f"{runs[at]}\n", encoding="utf-8")
            new.replace(pointer)
            if swap % 3 == 1:
                server.process.send_signal(signal.SIGHUP)
            elif swap % 3 == 2:
                await client.post("/v2/repository/models/m/load", timeout=PATIENCE)
            end = time.monotonic() + PATIENCE
            while (await client.get("/v1/model")).json()["fingerprint"] != fingerprints[at]:
                if time.monotonic() > end:
                    row.wrong["not exchanged"] += 1
                    return
                await asyncio.sleep(0.05)


async def kills(server: ServerProcess, truth: Truth, count: int, row: Row) -> None:
    """Each computing process that dies is replaced before the next one is killed."""
    async with Load(server, truth, row):
        for killed in range(1, count + 1):
            await asyncio.sleep(1)
            os.kill(random.choice(server.workers()), signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while not await asyncio.to_thread(is_replaced, server, killed):
                if time.monotonic() > end:
                    row.wrong["not replaced"] += 1
                    return
                await asyncio.sleep(0.2)


def is_replaced(server: ServerProcess, killed: int) -> bool:
    """Whether all computing processes run again, and so many were lost."""
    metrics = server.metrics()
    return metrics["taxon_workers"] == 2 and metrics["taxon_workers_lost"] >= killed


async def soak(server: ServerProcess, truth: Truth, minutes: float, row: Row) -> list[float]:
    """Load without a pause; returns the resident megabytes at 11 moments."""
    sampled = []
    async with Load(server, truth, row):
        for _ in range(11):
            sampled.append(server.held().megabytes)
            await asyncio.sleep(minutes * 60 / 10)
    return sampled


@contextmanager
def measured(server: ServerProcess, row: Row) -> Iterator[None]:
    """Note the memory before and after; the row is printed when it is done."""
    row.before = server.held().megabytes
    yield
    time.sleep(SETTLE_SECONDS)
    row.after = server.held().megabytes
    print(row, flush=True)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    runs = [run.resolve() for run in given.runs]
    truth = truth_of(runs, given.pictures)
    bodies = Row(f"{given.bodies} malformed bodies")
    silent = Row(f"{given.connections} silent connections beside a load")
    swapped = Row(f"{given.swaps} swaps under load")
    soaked = Row(f"soak, {given.minutes:g} minutes")
    killed = Row(f"{given.kills} workers killed under load")
    print("| fault | tried | right | 503 | wrong | MB before | MB after |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pointer, log = Path(folder) / "current.txt", Path(folder) / "log"
        pointer.write_text(f"{runs[0]}\n", encoding="utf-8")
        with server_process(log, f"m={pointer}", "--reload-by-request") as server:
            with measured(server, bodies):
                malformed(server, given.bodies, bodies)
            with measured(server, silent):
                asyncio.run(connections(server, truth, given.connections, silent))
            with measured(server, swapped):
                asyncio.run(swaps(server, truth, pointer, runs, given.swaps, swapped))
            with measured(server, soaked):
                sampled = asyncio.run(soak(server, truth, given.minutes, soaked))
            tracebacks = server.log_text().count("Traceback")
            stopped = server.stop()
        with server_process(log, f"m={pointer}", "--workers", "2") as server:
            with measured(server, killed):
                asyncio.run(kills(server, truth, given.kills, killed))
            tracebacks += server.log_text().count("Traceback")
            stopped |= server.stop()
    print()
    print("resident MB during the soak:", json.dumps([round(each) for each in sampled]))
    print(f"tracebacks in the logs: {tracebacks}; exit codes: {stopped}")
    wrong = any(row.wrong for row in (bodies, silent, swapped, soaked, killed))
    return int(bool(tracebacks or stopped or wrong))


if __name__ == "__main__":
    sys.exit(main())
