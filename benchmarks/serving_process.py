"""A server process to try things on: started, asked, looked into, stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

_URL = re.compile(r"http://[\d.]+:\d+")
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


@dataclass(frozen=True)
class Held:
    """What a server process, its computing processes left out, holds of the system."""

    files: int
    threads: int
    megabytes: float  # resident, those of the computing processes added


@dataclass
class ServerProcess:
    """A running server.

    Attributes:
        log: the file that its standard error goes to.
    """

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def metrics(self) -> dict[str, float]:
        """What it measures of itself: `name` or `name{label="value",...}` -> value."""
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        found = (_SAMPLE.fullmatch(line) for line in lines)
        return {
            each[1] + (f"{{{each[2]}}}" if each[2] else ""): float(each[3])
            for each in found
            if each is not None
        }

    def held(self) -> Held:
        """What it holds now."""
        own = psutil.Process(self.process.pid)
        family = [own, *own.children(recursive=True)]
        resident = sum(each.memory_info().rss for each in family)
        return Held(own.num_fds(), own.num_threads(), resident / 2**20)

    def workers(self) -> list[int]:
        """Its computing processes."""
        return [each.pid for each in psutil.Process(self.process.pid).children()]

    def log_text(self) -> str:
        """What it logged so far."""
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def server_process(log: Path, *arguments: str | Path) -> Iterator[ServerProcess]:
    """Run `taxon serve` with these arguments on a free port, its standard error in a file.

    Raises:
        RuntimeError: it did not start.
    """
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "taxon", "serve", *map(str, arguments), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
    assert process.stdout is not None
    try:
        url = _URL.search(process.stdout.readline())
        if url is None:
            raise RuntimeError(f"the server did not start: {log.read_text(encoding='utf-8')}")
        yield ServerProcess(process, url[0], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
