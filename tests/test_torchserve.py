"""The archive for TorchServe, its handler, and a real TorchServe that answers in batches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import ModelExportUtils

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import BundleError, CheckFailed, ConfigError
from taxon.core.fingerprint import sha256_file
from taxon.exporters.shipped.torchserve_handler import BATCH_HEADER, TaxonHandler
from taxon.exporters.torchserve import ARCHIVE_FILE, CONFIG_FILE

BATCH = 8
DELAY_MS = 200
NAME = "defects-model"
TORCHSERVE = Path(sys.executable).with_name("torchserve")


@pytest.fixture(scope="module")
def artefact(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the archive."""
    folder = tmp_path_factory.mktemp("artefacts")
    taxon.export(run, "torchserve", out=folder, max_batch_size=BATCH, max_delay_ms=DELAY_MS)
    return folder / "torchserve"


@pytest.fixture(scope="module")
def pictures(defects: Path) -> list[Path]:
    return sorted(defects.rglob("*.jpg"))[::5]


@pytest.fixture(scope="module")
def expected(run: Path, pictures: list[Path]) -> list[dict[str, Any]]:
    """What `taxon predict` says; a server is not told what a file is called."""
    answers = taxon.load(run, backend="torch").predictor.predict(pictures)
    return [{**answer.model_dump(mode="json"), "path": "picture"} for answer in answers]


def _rounded(value: Any) -> Any:
    """Batches of another size may differ in the last bits."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_archive_is_one_of_torchserve(run: Path, artefact: Path) -> None:
    spec = read_bundle(run).spec
    with zipfile.ZipFile(artefact / ARCHIVE_FILE) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        assert json.loads(archive.read("spec.json")) == spec.model_dump(mode="json")
        classes = json.loads(archive.read("index_to_name.json"))
        worker = archive.read("model-config.yaml").decode()
    files = {key: manifest["model"][key] for key in ("serializedFile", "handler", "configFile")}
    assert set(files.values()) <= set(names)
    # But for when it was made, and by which version, it is the one of TorchServe's own tool.
    official = ModelExportUtils.generate_manifest_json(
        ModelArchiverConfig(
            model_name=NAME,
            version="1.0",
            serialized_file=files["serializedFile"],
            handler=files["handler"],
            config_file=files["configFile"],
        )
    )
    assert manifest.items() <= json.loads(official).items()
    assert classes == {str(at): name for at, name in enumerate(spec.label_space.names)}
    assert f"batchSize: {BATCH}\nmaxBatchDelay: {DELAY_MS}\n" in worker
    config = (artefact / CONFIG_FILE).read_text()
    assert "inference_address=http://127.0.0.1:" in config
    (version,) = json.loads(_settings(config)["models"])[NAME].values()
    assert (version["batchSize"], version["maxBatchDelay"]) == (BATCH, DELAY_MS)


def _settings(config: str) -> dict[str, str]:
    lines = [line for line in config.splitlines() if not line.startswith("#")]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def test_archive_is_equal_to_the_model_and_says_what_to_know(run: Path, artefact: Path) -> None:
    (report,) = taxon.verify(run, artefact)
    assert report.passed and report.source == "golden"
    info = json.loads((artefact / "artefact.json").read_text())
    assert [each["source"] for each in info["parity"]] == ["golden", "data"]
    notes = " ".join(info["notes"])
    assert all(words in notes for words in ("archived upstream", "taxon serve", "Triton"))


def test_altered_archive_is_refused(run: Path, artefact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artefact, tmp_path / "torchserve"))
    file = copy / ARCHIVE_FILE
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckFailed, match=r"model\.mar does not have the sha256"):
        taxon.verify(run, copy)
    info = json.loads((copy / "artefact.json").read_text())
    info["files"]["model.mar"] = sha256_file(file)
    (copy / "artefact.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"model\.mar is no archive with a model"):
        taxon.load(copy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_batch_size": 0}, "--max-batch-size is from 1 to 1024, not 0"),
        ({"max_batch_size": 1025}, "--max-batch-size is from 1 to 1024, not 1025"),
        ({"max_delay_ms": -1}, "--max-delay-ms is 0 or more, not -1"),
    ],
)
def test_batching_that_cannot_be(
    run: Path, tmp_path: Path, options: dict[str, int], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        taxon.export(run, "torchserve", out=tmp_path, **options)
    assert not any(tmp_path.iterdir())


@dataclass
class StandIn:
    """What a handler sees of TorchServe."""

    system_properties: dict[str, Any]
    statuses: dict[int, int] = field(default_factory=dict)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        self.statuses[idx] = code

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.headers.setdefault(idx, {})[key] = value

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("gpu", [None, pytest.param(0, marks=NEEDS_GPU)])
def test_handler_answers_a_batch(
    artefact: Path,
    pictures: list[Path],
    expected: list[dict[str, Any]],
    gpu: int | None,
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(artefact / ARCHIVE_FILE) as archive:
        archive.extractall(tmp_path)
    context = StandIn({"model_dir": str(tmp_path), "gpu_id": gpu})
    handler = TaxonHandler()
    handler.initialize(context)
    sent = [bytearray(path.read_bytes()) for path in pictures[:5]]
    wrong: list[dict[str, Any]] = [{"body": "text"}, {"file": sent[0]}, {"data": b"no picture"}]
    requests = [{"body": sent[0]}, *wrong, *({"data": each} for each in sent[1:])]
    answers = handler.handle(requests, context)
    assert [answer["error"] is not None for answer in answers] == [False, *[True] * 3, *[False] * 4]
    assert [_rounded(each) for each in answers if each["error"] is None] == expected[:5]
    assert context.statuses == {1: 400, 2: 400, 3: 400}
    assert context.headers[0] == {BATCH_HEADER: "5", "content-type": "application/json"}
    assert "curl -T FILE" in answers[1]["error"] and answers[2]["error"] == answers[1]["error"]
    assert answers[3]["error"] == "not a picture in a format that can be read"
    alone = StandIn(context.system_properties)
    (answer,) = handler.handle([{"body": b""}], alone)  # none of the batch can be read
    assert answer["error"] == "the file is empty" and alone.statuses == {0: 400}


@dataclass(frozen=True)
class Server:
    """A TorchServe that is ready."""

    inference: str
    management: str

    def ask(self, content: bytes, **options: Any) -> httpx.Response:
        address = f"{self.inference}/predictions/{NAME}"
        sent = {"files": {"data": content}} if options.pop("form", False) else {"content": content}
        return httpx.post(address, **sent, timeout=60, **options)


@pytest.fixture(scope="module")
def server(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("java") is None:
        pytest.skip("no Java (scripts/install-java)")
    store = tmp_path_factory.mktemp("store")
    shutil.copy(artefact / ARCHIVE_FILE, store)
    with _torchserve(store, (artefact / CONFIG_FILE).read_text()) as ready:
        yield ready


@contextmanager
def _torchserve(store: Path, config: str) -> Iterator[Server]:
    """Start TorchServe as the guide does, on free ports; nothing of it is left behind."""
    with ExitStack() as stack:
        # It makes sockets there, whose names may not be long.
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp")))
        ports = _free_ports(5)
        inference, management, metrics = (f"http://127.0.0.1:{port}" for port in ports[:3])
        settings = {
            **_settings(config),
            "inference_address": inference,
            "management_address": management,
            "metrics_address": metrics,
            "grpc_inference_port": str(ports[3]),
            "grpc_management_port": str(ports[4]),
        }
        file = temporary / CONFIG_FILE
        file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        environment = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}
        # The archive brings all that it needs of taxon.
        environment.pop("PYTHONPATH", None)
        log = stack.enter_context((temporary / "log").open("w+"))
        command = [TORCHSERVE, "--start", "--foreground", "--disable-token-auth", "--ncs"]
        process = subprocess.Popen(
            [*command, "--ts-config", file, "--model-store", store],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=temporary,
            env=environment,
            start_new_session=True,
        )
        try:
            _wait_until_ready(process, management, temporary / "log")
            yield Server(inference, management)
            stop = [TORCHSERVE, "--stop", "--foreground"]
            subprocess.run(stop, env=environment, check=True, timeout=60, capture_output=True)
            process.wait(30)
            assert not _is_there(process.pid), "TorchServe left processes behind"
        finally:
            if _is_there(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(process: subprocess.Popen[bytes], management: str, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            (model,) = httpx.get(f"{management}/models/{NAME}", timeout=5).json()
            if any(worker["status"] == "READY" for worker in model["workers"]):
                return
        except (httpx.TransportError, ValueError):
            pass  # it does not listen yet, or knows the model not yet
        time.sleep(0.3)
    raise AssertionError(f"TorchServe did not become ready:\n{log.read_text()[-5000:]}")


def _is_there(group: int) -> bool:
    """Whether any process of a group lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_in_batches_are_those_of_predict(
    server: Server, pictures: list[Path], expected: list[dict[str, Any]]
) -> None:
    replies = _ask_together(server, [path.read_bytes() for path in pictures])
    assert [reply.status_code for reply in replies] == [200] * len(pictures)
    assert [_rounded(reply.json()) for reply in replies] == expected
    sizes = [int(reply.headers[BATCH_HEADER]) for reply in replies]
    assert max(sizes) > 1 and max(sizes) <= BATCH, sizes


def test_one_bad_picture_fails_alone(
    server: Server, pictures: list[Path], expected: list[dict[str, Any]]
) -> None:
    contents = [path.read_bytes() for path in pictures[:BATCH]]
    contents[3] = b"no picture"
    replies = _ask_together(server, contents)
    assert [reply.status_code for reply in replies] == [200] * 3 + [400] + [200] * 4
    assert replies[3].json()["error"] == "not a picture in a format that can be read"
    del replies[3]
    wanted = [*expected[:3], *expected[4:BATCH]]
    assert [_rounded(reply.json()) for reply in replies] == wanted
    assert max(int(reply.headers[BATCH_HEADER]) for reply in replies) > 1


def _ask_together(server: Server, contents: Sequence[bytes]) -> list[httpx.Response]:
    with ThreadPoolExecutor(BATCH) as pool:
        return list(pool.map(server.ask, contents))


def test_other_ways_to_send(
    server: Server, pictures: list[Path], expected: list[dict[str, Any]]
) -> None:
    content = pictures[0].read_bytes()
    form = server.ask(content, form=True)
    assert form.headers["content-type"] == "application/json"
    assert _rounded(form.json()) == expected[0]
    text = server.ask(b"hello", headers={"Content-Type": "text/plain"})
    assert text.status_code == 400 and "curl -T FILE" in text.json()["error"]
    named = server.ask(content, headers={"Content-Type": "image/jpeg"})
    assert _rounded(named.json()) == expected[0]


def test_server_has_the_batching_that_was_exported(server: Server) -> None:
    (model,) = httpx.get(f"{server.management}/models/{NAME}").json()
    assert (model["batchSize"], model["maxBatchDelay"]) == (BATCH, DELAY_MS)
    assert (model["minWorkers"], model["maxWorkers"]) == (1, 1)
    assert httpx.get(f"{server.inference}/ping").json() == {"status": "Healthy"}
