"""Ray for real: models served by it, trainings run by it, processes that are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from commands import QUICK_TAXON, fails, taxon
from conftest import TINY_BACKBONE
from ray_cluster import ray_cluster, serve_run
from runs import require_same_run

from taxon.bundle import read_bundle
from taxon.inference import load_predictor

KEY = "a key of the tests, long enough"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of this process's own, with three cores."""
    with ray_cluster(3) as address:
        yield address


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def _until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def _processes(name: str) -> list[psutil.Process]:
    """Those of the cluster, by what Ray calls them."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or one that has just ended
            if name in " ".join(each.cmdline()):
                found.append(each)
    return found


# Served


def _expected(run: Path, pictures: list[Path]) -> dict[Path, dict[str, Any]]:
    """What the model itself says of pictures."""
    answers = load_predictor(run).predict(pictures)
    return {
        path: {"label": each.label, "top": [(one.label, one.probability) for one in each.top]}
        for path, each in zip(pictures, answers, strict=True)
    }


def _require_equal(result: dict[str, Any], expected: dict[str, Any]) -> None:
    assert result["label"] == expected["label"]
    top = {each["label"]: each["probability"] for each in result["top"]}
    assert top == pytest.approx(dict(expected["top"]), abs=1e-4)


def test_ray_serve_answers_as_the_model_does(
    cluster: str, run: Path, defects: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(KEY)
    port, config = _free_port(), tmp_path / "serve.yaml"
    done = taxon(
        *("deploy", "ray", run, "--out", config, "--port", str(port), "--cpus", "1"),
        *("--route-prefix", "/defects", "--api-key-file", keys),
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted(defects.rglob("*.jpg"))[:3]
    expected = _expected(run, pictures)
    url = f"http://127.0.0.1:{port}/defects"
    with (
        serve_run(config, cluster, url),
        httpx.Client(timeout=60, headers={"x-api-key": KEY}) as client,
    ):
        assert httpx.post(f"{url}/v1/classify", timeout=60).status_code == 401
        for path in pictures:
            sent = {"files": (path.name, path.read_bytes())}
            answer = client.post(f"{url}/v1/classify", files=sent)
            assert answer.status_code == 200, answer.text
            _require_equal(answer.json()["results"][0], expected[path])
            assert len(answer.headers.get_list("x-request-id")) == 1
        metadata = client.get(f"{url}/v2/models/{run.name}").json()
        assert [each["name"] for each in metadata["inputs"]] == ["images", "image_bytes"]
        assert client.get(f"{url}/v2/models/{run.name}/ready").json()["ready"] is True
        assert 'taxon_requests_total{replica="' in client.get(f"{url}/metrics").text
        assert client.post(f"{url}/v1/classify", content=b"x" * (33 << 20)).status_code == 413


class Load:
    """Clients that ask without a pause, each for one picture at a time.

    Attributes:
        wrong: answers that are not those of the model.
        refused: (status, body) of other answers than 200, or what befell the connection.
        answered: how many were right.
    """

    def __init__(self, url: str, expected: dict[Path, dict[str, Any]], clients: int) -> None:
        self._url, self._expected = url, expected
        self._stopped = threading.Event()
        self.wrong: list[object] = []
        self.refused: list[tuple[int | str, str]] = []
        self.answered = 0
        self.count = clients
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        bodies = {path: path.read_bytes() for path in self._expected}
        with httpx.Client(timeout=60) as client:
            while not self._stopped.is_set():
                for path, body in bodies.items():
                    self._one(client, path, body)

    def _one(self, client: httpx.Client, path: Path, body: bytes) -> None:
        try:
            answer = client.post(f"{self._url}/v1/classify", files={"files": (path.name, body)})
        except httpx.TransportError as error:
            self.refused.append((type(error).__name__, str(error)))
            return
        if answer.status_code != 200:
            self.refused.append((answer.status_code, answer.text))
            return
        try:
            _require_equal(answer.json()["results"][0], self._expected[path])
        except AssertionError as error:
            self.wrong.append(error)
        self.answered += 1


def _replicas(name: str) -> list[str]:
    """The states of an application's replicas, by Ray Serve's own account."""
    from ray import serve

    (deployment,) = serve.status().applications[name].deployments.values()
    return [state for state, count in deployment.replica_states.items() for _ in range(count)]


@pytest.mark.slow
def test_replicas_come_under_load_and_one_that_is_killed_is_replaced(
    cluster: str, run: Path, defects: Path, tmp_path: Path
) -> None:
    port, config = _free_port(), tmp_path / "serve.yaml"
    done = taxon(
        *("deploy", "ray", run, "--out", config, "--port", str(port), "--cpus", "1"),
        *("--name", "inspector", "--max-replicas", "2", "--target-requests", "1"),
    )
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(config.read_text())
    (deployment,) = document["applications"][0]["deployments"]
    deployment["autoscaling_config"]["upscale_delay_s"] = 0  # a test need not wait for it
    config.write_text(yaml.safe_dump(document))
    expected = _expected(run, sorted(defects.rglob("*.jpg"))[:5])
    url = f"http://127.0.0.1:{port}"
    with serve_run(config, cluster, url):
        assert _replicas("inspector") == ["RUNNING"]
        with Load(url, expected, clients=6) as load:
            _until(
                lambda: _replicas("inspector") == ["RUNNING"] * 2, lambda: _replicas("inspector")
            )
            first, second = _processes("ServeReplica:inspector:")
            before = load.answered
            _until(lambda: load.answered > before + 30, lambda: load.refused)
            assert load.refused == []  # none was lost as the second one came

            first.kill()
            # Its successor is a process, and at work.
            _until(
                lambda: (
                    len({each.pid for each in _processes("ServeReplica:inspector:")} - {first.pid})
                    == 2
                    and _replicas("inspector") == ["RUNNING"] * 2
                ),
                lambda: _replicas("inspector"),
            )
            after, lost = load.answered, len(load.refused)
            _until(lambda: load.answered > after + 30, lambda: load.refused)
        # What the dead one had in hand is lost, said so, and nothing else.
        assert load.wrong == []
        assert lost <= 2 * load.count, load.refused
        assert len(load.refused) == lost, load.refused
        assert {status for status, _ in load.refused} <= {500, 503}, load.refused
        assert second.is_running()


# Trained

EPOCHS = 8


def _options(run: Path, *more: str) -> list[str]:
    return [
        *("--out", str(run), "--model", TINY_BACKBONE, "--weights", "none", "--device", "cpu"),
        *("--epochs", str(EPOCHS), "--set", "preprocessing.size=32", "--recipe", "scratch"),
        *more,
    ]


def _on_ray(*more: str) -> list[str]:
    return ["--engine", "ray", "--workers", "2", *more]


@pytest.fixture(scope="module")
def by_torchrun(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the same two processes, started by torchrun."""
    run = tmp_path_factory.mktemp("torchrun") / "run"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*start, QUICK_TAXON, "train", str(few), *_options(run)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return run


def _training(few: Path, run: Path, address: str, *more: str) -> subprocess.Popen[str]:
    """A training on the cluster, in a process of its own."""
    words = ["train", str(few), *_options(run, *_on_ray("--address", address, *more))]
    return subprocess.Popen(
        [sys.executable, "-m", "taxon", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _after_first_epoch(process: subprocess.Popen[str], run: Path) -> None:
    def begun() -> bool:
        assert process.poll() is None, process.communicate()
        return bool(list((run / "checkpoints").glob("step-*.safetensors")))

    _until(begun, lambda: list(run.rglob("*")))


@pytest.mark.slow
def test_ray_trains_with_two_processes(cluster: str, few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [word if word != str(EPOCHS) else "1" for word in _options(run)]
    done = taxon("train", few, *options, *_on_ray())
    assert done.returncode == 0, done.stderr
    # What is said and printed is what a training of one process says.
    assert done.stderr.count("epoch 1: loss") == done.stderr.count("model written to") == 1
    assert done.stdout.count(f"taxon evaluate {run}") == 1
    assert len(read_bundle(run).info.provenance.history) == 1
    (answer,) = load_predictor(run).predict([next(few.rglob("*.jpg"))])
    assert answer.error is None and answer.label
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # What cannot be is said before anything is started.
    fails(2, "train", tmp_path / "no", *_on_ray(), saying="no such file or folder")
    fails(2, "train", few, *_on_ray(), "--recipe", "x", saying="'x'")
    fails(2, "train", few, "--engine", "ray", "--workers", "9", saying="do not fit on what Ray has")


@pytest.mark.slow
def test_an_error_of_the_first_process_is_one_line(
    cluster: str, few: Path, by_torchrun: Path
) -> None:
    done = fails(2, "train", few, *_options(by_torchrun), *_on_ray(), saying="is not empty")
    assert "Ray" not in done


@pytest.mark.slow
def test_ray_trains_the_model_of_torchrun(
    cluster: str, few: Path, by_torchrun: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = taxon("train", few, *_options(run), *_on_ray())
    assert done.returncode == 0, done.stderr
    require_same_run(run, by_torchrun)


@pytest.mark.slow
def test_after_the_death_of_a_process_all_go_on_from_the_checkpoint(
    cluster: str, few: Path, by_torchrun: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _training(few, run, cluster)
    _after_first_epoch(process, run)
    _processes("RayTrainWorker")[1].kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("a process of the run died; all are started again") == 1, said
    assert said.count("continued after epoch") == said.count("model written to") == 1, said
    require_same_run(run, by_torchrun)


@pytest.mark.slow
def test_without_retries_the_death_of_a_process_ends_the_run_and_resume_goes_on(
    cluster: str, few: Path, by_torchrun: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _training(few, run, cluster, "--retries", "0")
    _after_first_epoch(process, run)
    _processes("RayTrainWorker")[1].kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    assert said.strip().splitlines()[-1].startswith("error: processes of the run ended"), said
    assert "Traceback" not in said
    done = taxon("train", "--resume", run, *_on_ray())
    assert done.returncode == 0, done.stderr
    require_same_run(run, by_torchrun)


@pytest.mark.slow
def test_a_stop_saves_and_resume_goes_on(
    cluster: str, few: Path, by_torchrun: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _training(few, run, cluster)
    _after_first_epoch(process, run)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "continue with: taxon train --resume" in said.strip().splitlines()[-1]
    done = taxon("train", "--resume", run, *_on_ray())
    assert done.returncode == 0, done.stderr
    assert "continued after epoch" in done.stderr
    require_same_run(run, by_torchrun)


@pytest.mark.slow
def test_a_training_that_waits_for_others_says_so_and_can_be_stopped(
    cluster: str, few: Path, tmp_path: Path
) -> None:
    import ray

    class Other:
        def here(self) -> None:
            """Have what was asked for."""

    other = ray.remote(num_cpus=2)(Other).remote()
    ray.get(other.here.remote())
    process = _training(few, tmp_path / "run", cluster)
    assert process.stderr is not None
    for line in process.stderr:
        if "wait until there are enough" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    ray.kill(other)
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "interrupted: nothing had begun"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_cluster_is_started_for_a_training_and_ended_with_it(few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "taxon", "train", str(few), *_options(run), *_on_ray(), "--quiet"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout == f"{run}\n"
    assert _processes("RayTrainWorker") == []


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--workers", "2"], "--workers is for Ray; add --engine ray"),
        (["--engine", "ray"], "--workers N"),
        (["--engine", "spark"], "--engine is local or ray, received 'spark'"),
        (["--engine", "ray", "--workers", "0"], "--workers is 0; it must be at least 1"),
        (["--engine", "ray", "--workers", "2", "--retries", "-1"], "--retries is -1"),
    ],
)
def test_options_that_do_not_fit_are_refused(few: Path, options: list[str], saying: str) -> None:
    fails(2, "train", few, *options, saying=saying)
