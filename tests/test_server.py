"""The server as a process: signals, bodies, addresses."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving_apps import (
    RED,
    error_of,
    files,
    make_predictor,
    table_of,
)

from taxon.core.errors import InputError
from taxon.serving import serve

SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from serving_apps import MeanColour, make_predictor, table_of
from taxon.serving import ServingSettings, serve

class Telling(MeanColour):
    ready = False

    def run(self, images):
        if Telling.ready:
            print("computing", flush=True)
        return super().run(images)

def on_ready(url):
    print(url, flush=True)
    Telling.ready = True

settings = ServingSettings(max_body_bytes=1_000_000)
serve(
    table_of(make_predictor(Telling(seconds=0.5)), settings=settings),
    port=0,
    settings=settings,
    on_ready=on_ready,
)
print("left serve", flush=True)
"""


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    url = started.stdout.readline().strip()
    yield started, url
    started.kill()
    started.communicate()


class TestRealServer:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stops_gracefully(
        self, process: tuple[subprocess.Popen[str], str], number: signal.Signals
    ) -> None:
        started, url = process
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/v1/classify", files=files(("r", RED)), timeout=20))

        in_flight = threading.Thread(target=ask)
        in_flight.start()
        assert started.stdout is not None
        assert started.stdout.readline() == "computing\n"  # for 0.5 s
        started.send_signal(number)
        out, err = started.communicate(timeout=20)
        in_flight.join()
        assert answers[0].json()["results"][0]["label"] == "red"
        assert started.returncode == 0, err
        assert out == "left serve\n" and err == ""

    def test_a_second_signal_does_not_wait(
        self, process: tuple[subprocess.Popen[str], str]
    ) -> None:
        started, url = process
        sent = files(*[("r", RED)] * 250)  # half a second for each batch of them

        def ask() -> None:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"{url}/v1/classify", files=sent, timeout=60)

        in_flight = threading.Thread(target=ask)
        in_flight.start()
        assert started.stdout is not None
        assert started.stdout.readline() == "computing\n"
        started.send_signal(signal.SIGINT)
        time.sleep(0.5)
        started.send_signal(signal.SIGINT)
        out, _ = started.communicate(timeout=20)
        in_flight.join()
        assert out.count("computing") < 20 and out.endswith("left serve\n")

    def test_large_bodies_get_their_answer(
        self, process: tuple[subprocess.Popen[str], str]
    ) -> None:
        _, url = process
        headers = {"content-type": "image/png"}
        body = b"x" * 8_000_000

        def chunks() -> Iterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        for content in (body, chunks()):
            answer = httpx.post(f"{url}/v1/classify", content=content, headers=headers)
            assert "at most 1000000 are allowed" in error_of(answer, 413)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200

    def test_expect_continue(self, process: tuple[subprocess.Popen[str], str]) -> None:
        """A client that asks first is refused without sending, and no 100 follows the 413."""
        host, port = process[1].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/classify HTTP/1.1\r\nHost: t\r\nContent-Type: image/png\r\n"
                b"Content-Length: 9000000\r\nExpect: 100-continue\r\n\r\n"
            )
            received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 413") and b"100 Continue" not in received

    def test_port_in_use(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(InputError) as error:
                serve(table_of(make_predictor()), port=port)
        assert str(error.value) == (
            f"port {port} on 127.0.0.1 is already in use; choose another with --port"
        )

    @pytest.mark.parametrize(
        ("host", "port", "words"),
        [
            ("127.0.0.1", 70000, "port 70000 does not exist"),
            ("203.0.113.9", 0, "203.0.113.9 is not an address of this machine"),
            ("no such host", 0, "host 'no such host' is not known"),
        ],
    )
    def test_impossible_addresses(self, host: str, port: int, words: str) -> None:
        with pytest.raises(InputError, match=words):
            serve(table_of(make_predictor()), host=host, port=port)
