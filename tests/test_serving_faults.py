"""Attacks on a real server: it answers on, says what happened, and keeps nothing of them."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil
import pytest
from commands import require_failure, taxon_process
from onnx import numpy_helper
from PIL import Image

from malformed import malformed_requests, valid_requests
from serving_process import ServerProcess, server_process
from taxon.bundle.layout import ARTEFACT_FILE, ARTEFACTS_FOLDER
from taxon.core.predictions import FloatArray
from taxon.inference import load_predictor

SECONDS = 1  # that a client may take
CONNECTIONS = 40
PATIENCE = 60.0
PATIENT = ("--max-wait-ms", "60000")  # a busy machine is no fault that is looked for here
POST = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"
CLOSE = b"connection: close\r\n"


def picture(seed: int = 0, size: int = 64) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


PNG = picture()
LENGTH = b"content-length: %d\r\n\r\n" % len(PNG)


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    limits = ("--client-seconds", str(SECONDS), "--max-connections", str(CONNECTIONS))
    log = tmp_path_factory.mktemp("server") / "log"
    with server_process(log, f"m={run}", *limits, "--access-log") as started:
        ask(started)  # threads begin with the first
        yield started
        assert started.stop() == 0
    assert "Traceback" not in log.read_text(encoding="utf-8")


def connections_of(server: ServerProcess) -> list[object]:
    """Those to clients that the server process still holds."""
    found = psutil.Process(server.process.pid).net_connections()
    return [each for each in found if each.raddr and each.status == psutil.CONN_ESTABLISHED]


def ask(server: ServerProcess, data: bytes = PNG) -> httpx.Response:
    headers = {"content-type": "image/png"}
    return httpx.post(f"{server.url}/v1/classify", content=data, headers=headers, timeout=PATIENCE)


@pytest.fixture
def unharmed(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server; afterwards it answers, and holds no more than before."""
    before, failed = server.held(), failures(server)
    yield server
    assert ask(server).status_code == 200

    def let_go() -> bool:
        now = server.held()
        return now.files <= before.files and now.threads <= before.threads + 2  # pools grow a bit

    until(let_go, "files or threads are left")
    assert failures(server) == failed


def failures(server: ServerProcess) -> float:
    return sum(n for name, n in server.metrics().items() if name.startswith("taxon_failures_total"))


def rejected(server: ServerProcess, reason: str) -> float:
    return server.metrics().get(f'taxon_rejected_total{{reason="{reason}"}}', 0.0)


def exchange(server: ServerProcess, sent: bytes) -> bytes:
    """What comes back for these bytes, until the server closes the connection."""
    received = b""
    with socket.create_connection(server.address, timeout=PATIENCE) as connection:
        connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
    return received


def error_in(received: bytes, status: int) -> str:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:300]
    assert b"content-type: application/json" in head
    answer = json.loads(body)
    assert list(answer) == ["error"] and "\n" not in answer["error"]
    return str(answer["error"])


class TestConnections:
    @pytest.mark.parametrize(
        "riddle",
        [
            POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
            POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            POST + b"content-length: 3\r\ncontent-length: 5\r\n\r\nabcde",
            POST + b"content-length: -5\r\n\r\nabcde",
            POST + b"content-length: 99999999999999999999999\r\n\r\nabcde",
            POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            POST + b"transfer-encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
            POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
            POST + b"transfer-encoding: chunked\r\n\r\n5\r\nabcdeX0\r\n\r\n",
            b"GET /v1/models\0 HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET /v1/models\xff HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET http://elsewhere HTTP/1.1\r\nhost: x\r\n\r\n",
            b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: x\r\n\r\n",
            GET + b"x: a\0b\r\n\r\n",
            GET + b"x: a\r\n folded\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    )
    def test_what_could_be_read_in_two_ways_is_refused(
        self, unharmed: ServerProcess, riddle: bytes
    ) -> None:
        before = rejected(unharmed, "malformed")
        assert "no HTTP/1.1 request" in error_in(exchange(unharmed, riddle), 400)
        assert rejected(unharmed, "malformed") == before + 1

    def test_garbage_after_a_request_is_not_its_answer(self, unharmed: ServerProcess) -> None:
        received = exchange(unharmed, POST + LENGTH + PNG + b"\0\0 garbage\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 200 ") and received.count(b"HTTP/1.1") == 1

    def test_pipelined_answers_come_in_order(self, unharmed: ServerProcess) -> None:
        bad = POST + b"content-length: 4\r\n\r\nmeow"
        received = exchange(unharmed, POST + LENGTH + PNG + bad + POST + CLOSE + LENGTH + PNG)
        assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400", b"200"]

    @pytest.mark.parametrize(
        "sent",
        [
            GET + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
            GET + b"a:b\r\n" * 20_000 + b"\r\n",
            b"GET /?" + b"y" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            POST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx: " + b"y" * 10_000_000,
        ],
    )
    def test_oversized_headers(self, unharmed: ServerProcess, sent: bytes) -> None:
        before = rejected(unharmed, "headers")
        with suppressed_reset():
            assert "32768 bytes" in error_in(exchange(unharmed, sent), 431)
        assert rejected(unharmed, "headers") == before + 1

    @pytest.mark.parametrize(
        ("part", "more"), [(POST, b"x"), (POST + LENGTH + PNG[:50], b"x"), (b"", b"")]
    )
    def test_slow_clients(self, unharmed: ServerProcess, part: bytes, more: bytes) -> None:
        """A byte now and then: headers and bodies have a time, and bodies a least pace."""
        before = rejected(unharmed, "slow")
        received = b""
        with socket.create_connection(unharmed.address, timeout=0.2) as connection:
            connection.sendall(part)
            end = time.monotonic() + PATIENCE
            while not received:
                assert time.monotonic() < end
                try:
                    received = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(more)
        assert f"within {SECONDS} s" in error_in(received, 408)
        assert rejected(unharmed, "slow") == before + 1

    def test_clients_that_do_not_read(self, unharmed: ServerProcess) -> None:
        before = rejected(unharmed, "slow")
        get = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.2)
            connection.connect(unharmed.address)

            def is_ended() -> bool:
                with suppressed_reset():
                    connection.send(get * 50)
                return rejected(unharmed, "slow") > before

            until(is_ended, "a client that reads nothing is kept")

    def test_clients_that_leave_a_rest_unread(self, unharmed: ServerProcess) -> None:
        """What fits into the server's own buffer: it stops no writing, but keeps the connection."""
        before = rejected(unharmed, "slow")
        get = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: %s\r\n\r\n"
        held = []
        for count in range(50, 150, 2):  # the system's buffers hold some of these
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(unharmed.address)
            connection.sendall(get % b"keep-alive" * (count - 1) + get % b"close")
            held.append(connection)
        until(lambda: rejected(unharmed, "slow") > before, "nobody was found to read nothing")
        until(lambda: len(connections_of(unharmed)) == 0, "clients that read nothing are kept")
        for connection in held:
            connection.close()

    def test_too_many_connections(self, unharmed: ServerProcess) -> None:
        before = rejected(unharmed, "connections")

        def heard_by_one_more() -> bytes:
            with ExitStack() as held:
                for _ in range(CONNECTIONS):
                    held.enter_context(socket.create_connection(unharmed.address))
                return exchange(unharmed, b"")

        # On a busy machine the time of those that are held may be over first.
        refused = next(heard for _ in range(60) if b" 503 " in (heard := heard_by_one_more()))
        assert "too many connections" in error_in(refused, 503)
        assert b"retry-after: 1\r\n" in refused
        until(lambda: ask_quietly(unharmed) == 200, "connections that were closed still count")
        assert rejected(unharmed, "connections") > before

    def test_upgrades(self, unharmed: ServerProcess) -> None:
        """A client that would rather speak HTTP/2 gets its answer in HTTP/1.1, or a clear word."""
        wish = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n"
        answer = exchange(unharmed, GET + wish + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer
        assert "without the header Upgrade" in error_in(
            exchange(unharmed, POST + wish + LENGTH + PNG), 400
        )


def ask_quietly(server: ServerProcess) -> int:
    try:
        return ask(server).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def suppressed_reset() -> Iterator[None]:
    """The server ends the connection of a client that goes on sending."""
    try:
        yield
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        return


class TestRequests:
    def test_malformed_bodies(self, unharmed: ServerProcess) -> None:
        answers: Counter[int] = Counter()
        with httpx.Client(base_url=unharmed.url, timeout=PATIENCE) as client:
            valid = valid_requests("m", 32)
            for sent in valid:
                answer = client.post(sent.path, headers=sent.headers, content=sent.body)
                assert answer.status_code == 200
            for sent in malformed_requests(valid, 400):
                answer = client.post(sent.path, headers=sent.headers, content=sent.body)
                answers[answer.status_code] += 1
                if answer.status_code != 200:
                    assert list(answer.json()) == ["error"], sent
                    assert len(answer.text) < 1000 and "\n" not in answer.json()["error"]
        assert set(answers) <= {200, 400, 404, 413, 415, 504}
        assert answers[400] > 200

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/classify", b'{"pictures":[' + b'{"data":""},' * 1_000_000 + b'{"data":""}]}'),
            ("/v2/models/m/infer", b'{"inputs":[' + b"[]," * 5_000_000 + b"[]]}"),
            ("/v2/models/m/infer", b'{"inputs":[' + b"1," * 8_000_000 + b"1]}"),
            ("/v2/models/m/infer", b'{"inputs":[],"parameters":{"a":"' + b'","b":"' * 999_999),
            ("/v1/classify", b"--b\r\n\r\n\r\n" * 2_000_000),
            ("/v1/classify", b'--b\r\ncontent-disposition: x; filename="x"\r\n\r\n' * 300_000),
        ],
    )
    def test_bodies_of_very_many_parts(
        self, unharmed: ServerProcess, path: str, body: bytes
    ) -> None:
        """They are refused before they are taken apart, which would take seconds and gigabytes."""
        form = body.startswith(b"--b")
        kind = "multipart/form-data; boundary=b" if form else "application/json"
        before = unharmed.held().megabytes
        answer = httpx.post(
            f"{unharmed.url}{path}", content=body, headers={"content-type": kind}, timeout=PATIENCE
        )
        assert answer.status_code == 413, answer.text
        assert unharmed.held().megabytes < before + 4 * len(body) / 2**20 + 50

    def test_numbers_without_an_end(self, unharmed: ServerProcess) -> None:
        digits = "9" * 5000
        for name in ("x-timeout-ms", "inference-header-content-length"):
            answer = httpx.post(f"{unharmed.url}/v2/models/m/infer", headers={name: digits})
            assert name in answer.json()["error"].lower() and answer.status_code == 400
        accept = {"accept": "application/openmetrics-text; version=none"}
        assert httpx.get(f"{unharmed.url}/metrics", headers=accept).status_code == 200

    def test_compressed_bodies(self, unharmed: ServerProcess) -> None:
        before = rejected(unharmed, "encoding")
        answer = httpx.post(
            f"{unharmed.url}/v1/classify",
            content=zlib.compress(bytes(10_000_000)),
            headers={"content-type": "image/png", "content-encoding": "gzip"},
        )
        assert answer.status_code == 415 and "'gzip' is not supported" in answer.json()["error"]
        assert rejected(unharmed, "encoding") == before + 1

    def test_nothing_by_path(self, unharmed: ServerProcess) -> None:
        for path in (
            *("/static/..%2f..%2fsettings.py", "/static/%2e%2e/app.py", "/static/%2fetc%2fpasswd"),
            *("/v2/models/..%2f..%2fetc/ready", "/v2/models/m/versions/..%2f/ready"),
            *("/static/page.js%00", "//elsewhere/v1/models", "/v1/model?model=../../etc"),
        ):
            received = exchange(
                unharmed, b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path.encode(), CLOSE)
            )
            error_in(received, 404)

    def test_nothing_in_logs_or_headers(self, unharmed: ServerProcess) -> None:
        path = "/v2/models/a%0d%0aERROR%20forged%1b%5b31m"
        given = {"x-request-id": 'a" level=error'}
        answer = httpx.get(f"{unharmed.url}{path}", headers=given)
        assert answer.status_code == 404 and answer.headers["x-request-id"] not in given.values()
        until(lambda: "forged" in unharmed.log_text(), "the request is not in the log")
        (line,) = [each for each in unharmed.log_text().splitlines() if "forged" in each]
        assert not line.startswith("ERROR") and "\x1b" not in line and "\\r\\n" in line


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def huge(kind: str, at: int, size: bytes) -> bytes:
    """A small picture whose header says another size."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, kind)
    data = stream.getvalue()
    return data[:at] + size + data[at + len(size) :]


TEXT = b"a\0\0" + zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize(
    "bomb",
    [
        huge_png(65_535, 65_535),
        huge_png(2**31 - 1, 2**31 - 1),
        huge_png(8, 8, chunk(b"zTXt", TEXT)),
        huge_png(8, 8, chunk(b"iCCP", TEXT)),
        huge("GIF", 6, struct.pack("<HH", 65_535, 65_535)),
        huge("BMP", 18, struct.pack("<ii", 2**30, 2**30)),
        b"P6 99999 99999 255\n",
        b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 1, 2**31 - 1)
        + struct.pack("<HHII", 257, 4, 1, 2**31 - 1)
        + bytes(4),
        # VP8X: a canvas of 16,384 x 16,384
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0",
        # a JPEG's frame header: 65,500 x 65,500
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x11\0\x02\x11\0\x03\x11\0\xff\xd9",
        b"PK\x03\x04" + zlib.compress(bytes(50_000_000)),
    ],
    ids=lambda bomb: repr(bomb[:12]),
)
def test_decompression_bombs(unharmed: ServerProcess, bomb: bytes) -> None:
    before = unharmed.held().megabytes
    answer = ask(unharmed, bomb)
    assert answer.status_code == 400 and answer.json()["error"].startswith("picture: ")
    assert unharmed.held().megabytes < before + 150


@dataclass
class Load:
    """Clients that ask again and again, and what came back."""

    server: ServerProcess
    clients: int = 6
    answers: list[httpx.Response] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    sent: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()

        def client() -> None:
            with httpx.Client(base_url=self.server.url, timeout=PATIENCE) as http:
                while not stop.is_set():
                    self.sent += 1
                    try:
                        answer = http.post(
                            "/v1/classify",
                            content=PNG,
                            headers={"content-type": "image/png"},
                        )
                    except httpx.TransportError as error:
                        self.lost.append(repr(error))
                        continue
                    self.answers.append(answer)
                    # The machine has a process to start meanwhile.
                    time.sleep(0.05 if answer.status_code == 503 else 0.01)

        threads = [threading.Thread(target=client) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more were answered with 200."""
        wanted = self.count() + more
        until(lambda: self.count() >= wanted, "no answers any more")

    def count(self) -> int:
        return sum(answer.status_code == 200 for answer in list(self.answers))


Expected = dict[str, tuple[str, FloatArray]]  # fingerprint -> class names joined, probabilities


@pytest.fixture(scope="module")
def expected(run: Path, tags_run: Path) -> Expected:
    """What each of the two models says of the picture, by the fingerprint that goes with it."""
    found: Expected = {}
    for folder in (run, tags_run):
        predictor = load_predictor(folder)
        outputs = predictor.run(predictor.prepare(PNG)[None])
        names = "|".join(predictor.spec.label_space.names)
        found[predictor.spec.fingerprint] = (names, outputs.probabilities[0])
    assert len(found) == 2
    return found


def require_true(answer: httpx.Response, expected: Expected) -> str:
    """Check that an answer is that of the model that it names; return its fingerprint."""
    body = answer.json()
    names, probabilities = expected[body["model"]["fingerprint"]]
    wanted = dict(zip(names.split("|"), probabilities.tolist(), strict=True))
    (result,) = body["results"]
    for scored in result["top"]:
        assert scored["probability"] == pytest.approx(wanted[scored["label"]], abs=1e-3)
    return str(body["model"]["fingerprint"])


def refused(server: ServerProcess) -> bool:
    return server.metrics()["taxon_models_refused"] == 1


def test_killed_workers(run: Path, tmp_path: Path, expected: Expected) -> None:
    """Its requests fail with a clear error, all others are answered, and it is replaced."""
    with server_process(tmp_path / "log", f"m={run}", *PATIENT, "--workers", "2") as server:
        load = Load(server)
        ask(server)
        files = server.held().files
        with load.running():
            load.wait_for(20)
            victim = server.workers()[0]
            os.kill(victim, signal.SIGKILL)
            until(
                lambda: victim not in server.workers() and server.metrics()["taxon_workers"] == 2,
                "it is not replaced",
            )
            assert server.metrics()["taxon_workers_lost"] == 1
            load.wait_for(20)
        assert not load.lost and len(load.answers) == load.sent
        for answer in load.answers:
            if answer.status_code == 503:
                assert "try again shortly" in answer.json()["error"]
                assert int(answer.headers["retry-after"]) >= 1
            else:
                assert answer.status_code == 200
                require_true(answer, expected)
        until(lambda: server.held().files <= files, "files are left")
        # Signals to a whole service reach the computing processes too.
        for worker in server.workers():
            os.kill(worker, signal.SIGTERM)
            os.kill(worker, signal.SIGHUP)
        assert ask(server).status_code == 200
        assert server.metrics()["taxon_workers_lost"] == 1
        assert server.stop() == 0
    assert "Traceback" not in server.log_text()


def test_a_new_worker_never_answers_for_another_model(
    run: Path, tags_run: Path, tmp_path: Path, expected: Expected
) -> None:
    """The folder was overwritten by a model that is refused, and then a process dies."""
    folder = Path(shutil.copytree(run, tmp_path / "model"))
    with server_process(tmp_path / "log", f"m={folder}", "--workers", "2") as server:
        fingerprint = require_true(ask(server), expected)
        shutil.rmtree(folder)
        shutil.copytree(tags_run, folder, ignore=shutil.ignore_patterns(ARTEFACTS_FOLDER))
        until(lambda: refused(server), "it is not refused")
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: "goes without" in server.log_text(), "it is not replaced")
        for _ in range(4):
            assert require_true(ask(server), expected) == fingerprint
        assert server.stop() == 0


def test_swapped_under_load(run: Path, tags_run: Path, tmp_path: Path, expected: Expected) -> None:
    """By pointer file, signal and request: every answer is wholly of one model, and none is lost.
    What is altered, says something else or is half there is refused, and the old one serves on.
    """
    models, pointer = tmp_path / "models", tmp_path / "current.txt"
    models.mkdir()
    one, two = (Path(shutil.copytree(each, models / each.name)) for each in (run, tags_run))
    pointer.write_text(f"{one}\n")
    with server_process(
        tmp_path / "log", f"m={pointer}", *PATIENT, "--reload-by-request"
    ) as server:
        load = Load(server)

        def current() -> str:
            return require_true(ask(server), expected)

        def point(at: Path, *, signalled: bool = True) -> None:
            (tmp_path / "next").write_text(f"{at}\n")
            (tmp_path / "next").replace(pointer)
            if signalled:
                server.process.send_signal(signal.SIGHUP)

        first = current()
        files = server.held().files
        with load.running():
            point(two, signalled=False)  # seen within a second
            until(lambda: current() != first, "the pointer is not followed")
            point(one)
            until(lambda: current() == first, "SIGHUP is not followed")
            point(two, signalled=False)
            answer = httpx.post(f"{server.url}/v2/repository/models/m/load", timeout=PATIENCE)
            assert answer.status_code == 200 and current() != first
            # Back and forth within a second, once by request: the watch sees the same place twice.
            point(one, signalled=False)
            httpx.post(f"{server.url}/v2/repository/models/m/load", timeout=PATIENCE)
            point(two, signalled=False)
            until(lambda: current() != first, "a pointer that went back is not followed")
            second = current()
            for bad in (altered(one), golden_mismatch(one), models / "nowhere"):
                point(bad)
                until(lambda: refused(server), f"{bad.name} is not refused")
                assert current() == second
                point(two)
                until(lambda: not refused(server), "what was refused stays refused")
            half = half_copied(one)
            point(half)
            until(lambda: refused(server), "half a model is not refused")
            assert current() == second
            shutil.copytree(one, half, dirs_exist_ok=True)
            until(lambda: current() == first, "it is whole, and still refused")
            assert not refused(server)
        assert not load.lost and len(load.answers) == load.sent
        seen = Counter(require_true(answer, expected) for answer in load.answers)
        assert set(seen) == set(expected)
        until(lambda: server.held().files <= files, "files are left")
        assert server.stop() == 0
    assert "Traceback" not in server.log_text()


def altered(run: Path) -> Path:
    """A copy with a byte of its artefact changed."""
    copy = Path(shutil.copytree(run, run.with_name("altered")))
    model = next((copy / ARTEFACTS_FOLDER / "onnx").glob("*.onnx"))
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    return copy


def golden_mismatch(run: Path) -> Path:
    """A copy whose artefact computes something else, its hash right."""
    copy = Path(shutil.copytree(run, run.with_name("mismatch")))
    folder = copy / ARTEFACTS_FOLDER / "onnx"
    (file,) = folder.glob("*.onnx")
    before = sha256(file.read_bytes()).hexdigest()
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, file)
    described = folder / ARTEFACT_FILE
    text = described.read_text(encoding="utf-8")
    assert before in text
    text = text.replace(before, sha256(file.read_bytes()).hexdigest())
    described.write_text(text, encoding="utf-8")
    return copy


def half_copied(run: Path) -> Path:
    """What a copy looks like on its way."""
    half = run.with_name("half")
    return Path(
        shutil.copytree(run, half, ignore=shutil.ignore_patterns("*.onnx", "*.safetensors"))
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_golden_mismatch_at_start(run: Path, tmp_path: Path, workers: str) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    done = taxon_process("serve", golden_mismatch(copy), "--port", "0", "--workers", workers)
    require_failure(done, 3, "refused to serve")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_for_logs(run: Path) -> None:
    with server_process(Path("/dev/full"), run, "--access-log") as server:
        assert [ask(server).status_code for _ in range(20)] == [200] * 20
        until(lambda: server.metrics()["taxon_log_lines_lost"] >= 20, "lines are not counted")
        assert server.stop() == 0


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs small pipes")
@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_nobody_reads_the_log(run: Path, workers: str) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # that holds fifty lines
    options = ("--access-log", "--workers", workers)
    with server_process(Path(f"/dev/fd/{write}"), run, *options) as server:
        assert [ask(server).status_code for _ in range(100)] == [200] * 100
        assert server.stop() == 0
    os.close(read)
    os.close(write)
