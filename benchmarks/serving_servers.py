"""The servers that `benchmarks/serving.py` compares: how each is started, asked and measured."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
READY_SECONDS = 120
SERVED = "picture-model"  # the name in TorchServe's addresses, whatever the model is
MEBIBYTE = 1 << 20
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """A model folder with its ONNX artefact and its archive for TorchServe."""

    name: str
    run: Path
    float_onnx: Path

    @property
    def onnx(self) -> Path:
        """The graph that takes uint8 pictures."""
        return self.run / "artefacts" / "onnx" / "model.onnx"

    @property
    def torchserve(self) -> Path:
        """The folder of the archive."""
        return self.run / "artefacts" / "torchserve"


@dataclass(frozen=True)
class Contender:
    """A server, and how it is asked.

    Attributes:
        words: in the table.
        command: from the model, a free port, a folder for its files and its settings.
        path: where pictures are sent, as the body or in the field `form`.
        ready: the address that says whether it is.
        choices: settings to choose from; the fastest at the middle concurrency is taken.
        shipped: needs nothing of this source tree.
    """

    words: str
    command: Callable[[Model, int, Path, Settings], list[str | Path]]
    path: str
    ready: str
    form: str | None = None
    choices: tuple[Settings, ...] = ({},)
    shipped: bool = False


@dataclass
class Running:
    """A server that is ready."""

    url: str
    process: psutil.Process
    ready_seconds: float
    answer_seconds: float
    log: Path

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        with suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def cpu_seconds(self) -> float:
        """That all its processes used, in user and system."""
        total = 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                used = process.cpu_times()
                total += used.user + used.system
        return total

    def memory(self) -> dict[str, float]:
        """MiB of all its processes: resident, and with shared pages counted once."""
        resident = once = 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                found = process.memory_full_info()
                resident += found.rss / MEBIBYTE
                once += found.pss / MEBIBYTE
        return {"rss": round(resident, 1), "pss": round(once, 1)}


class Watch(threading.Thread):
    """Looks at a server's memory twice a second, while it is entered."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._end = threading.Event()
        self._begun = time.perf_counter()
        self._seen = [(0.0, server.memory())]

    @property
    def peak(self) -> dict[str, float]:
        """The most that was seen."""
        return {name: max(seen[name] for _, seen in self._seen) for name in ("rss", "pss")}

    def peak_between(self, begun: float, ended: float) -> float:
        """The most resident memory between two moments, in seconds since it was entered."""
        return max((seen["rss"] for at, seen in self._seen if begun <= at <= ended), default=0.0)

    def run(self) -> None:
        """Look until told to end."""
        while not self._end.wait(0.5):
            self._seen.append((time.perf_counter() - self._begun, self._server.memory()))

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def taxon_server(*options: str) -> Contender:
    """Ours."""

    def command(model: Model, port: int, folder: Path, settings: Settings) -> list[str | Path]:
        start = [sys.executable, "-m", "taxon", "serve", model.run, "--port", str(port)]
        return [*start, *options, *(str(each) for each in settings.get("options", ()))]

    words = f"`{' '.join(('taxon serve', *options))}`"
    return Contender(words, command, "/v1/classify", "/v2/health/ready")


def rival(
    kind: str,
    words: str,
    python: str | Path = sys.executable,
    *,
    form: str | None = None,
    choices: tuple[Settings, ...] = ({},),
) -> Contender:
    """LitServe, or one of `serving_rivals.py`."""

    def command(model: Model, port: int, folder: Path, settings: Settings) -> list[str | Path]:
        onnx = model.float_onnx if kind == "naive-float" else model.onnx
        spec, labels = model.run / "preprocessing.json", model.run / "labels.json"
        program = ["serving_litserve.py"] if kind == "litserve" else ["serving_rivals.py", kind]
        start = [python, HERE / program[0], *program[1:], "--onnx", onnx, "--spec", spec]
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [*start, "--labels", labels, "--port", str(port), *options]

    return Contender(words, command, "/predict", "/health", form, choices)


def torchserve(choices: tuple[Settings, ...]) -> Contender:
    """TorchServe with the exported archive."""

    def command(model: Model, port: int, folder: Path, settings: Settings) -> list[str | Path]:
        written = (model.torchserve / "config.properties").read_text().splitlines()
        lines = [line for line in written if line and not line.startswith("#")]
        config = {key: value for key, _, value in (line.partition("=") for line in lines)}
        models = json.loads(config["models"])
        (versions,) = models.values()
        for version in versions.values():
            version.update(settings)
        (name,) = models
        ports = [port, *free_ports(4)]
        kinds = ("inference", "management", "metrics")
        config |= {
            f"{kind}_address": f"http://127.0.0.1:{ports[at]}" for at, kind in enumerate(kinds)
        }
        config |= {"grpc_inference_port": str(ports[3]), "grpc_management_port": str(ports[4])}
        config |= {
            "models": json.dumps({SERVED: models[name]}),
            "load_models": f"{SERVED}=model.mar",
        }
        store = folder / "store"
        store.mkdir()
        shutil.copy(model.torchserve / "model.mar", store)
        file = folder / "config.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in config.items()))
        start = [Path(sys.executable).with_name("torchserve"), "--start", "--foreground"]
        options = ["--disable-token-auth", "--ncs", "--ts-config", file, "--model-store", store]
        return [*start, *options]

    return Contender(
        "TorchServe", command, f"/predictions/{SERVED}", "/ping", choices=choices, shipped=True
    )


@contextmanager
def running(
    contender: Contender, model: Model, settings: Settings, picture: bytes
) -> Iterator[Running]:
    """Start a server, wait until it is ready and has answered once, and end it afterwards."""
    with ExitStack() as stack:
        # TorchServe makes sockets there, whose names may not be long.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sv-", dir="/tmp")))
        (port,) = free_ports(1)
        command = contender.command(model, port, folder, settings)
        environment = _environment(folder, shipped=contender.shipped)
        log = stack.enter_context((folder / "log").open("w"))
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            ready = _wait(process, port, "GET", contender.ready, None, folder / "log") - started
            body, kind = _body(contender, picture)
            answered = _wait(process, port, "POST", contender.path, (body, kind), folder / "log")
            yield Running(
                f"http://127.0.0.1:{port}{contender.path}",
                psutil.Process(process.pid),
                ready,
                answered - started,
                folder / "log",
            )
        finally:
            _end(process)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _environment(folder: Path, *, shipped: bool) -> dict[str, str]:
    # A limit on the threads of this process is none of the servers' business.
    left_out = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {"TMPDIR": str(folder), "TEMP": str(folder)}
    return kept | own if shipped else kept | own | {"PYTHONPATH": str(SOURCE)}


def _body(contender: Contender, picture: bytes) -> tuple[bytes, str]:
    from load import BOUNDARY, form_body

    if contender.form is None:
        return picture, "image/jpeg"
    body = form_body(contender.form, "picture.jpg", picture)
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def _wait(
    process: subprocess.Popen[bytes],
    port: int,
    method: str,
    path: str,
    content: tuple[bytes, str] | None,
    log: Path,
) -> float:
    """Ask until the answer is 200; return when that was."""
    end = time.perf_counter() + READY_SECONDS
    said = "nothing"
    while time.perf_counter() < end and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            body, kind = content or (None, None)
            connection.request(method, path, body, {"content-type": kind} if kind else {})
            reply = connection.getresponse()
            said = f"{reply.status} {reply.read()[:300]!r}"
            if reply.status == 200:
                return time.perf_counter()
        except (OSError, http.client.HTTPException):
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.02)
    raise RuntimeError(f"not ready: {path} said {said}\n{log.read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with all its processes."""
    group = process.pid
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    process.wait(15)
