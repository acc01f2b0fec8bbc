"""The Ray engine: the same bytes as the local one, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from batches import parts_of, require_same_parts, wait_for, write_many, write_shard
from conftest import Once

import taxon as library
from taxon.data.look import Look, look_into
from taxon.preprocessing import Preprocessing

MANY, BROKEN = 150, (7, 64)
SIZES: dict[str, Any] = {"part_size": 16, "batch_size": 4}
MEMORY = 200 << 20  # of the object store of each machine
ACTOR = "ray::MapWorker"


@pytest.fixture(scope="module")
def sources(once: Once) -> list[Path]:
    """A folder with some pictures that cannot be read, and a shard."""

    def make(folder: Path) -> None:
        photos = write_many(folder / "photos", MANY, broken=BROKEN)
        kept = {f"{number}.jpg": (photos / f"{number:05d}.jpg").read_bytes() for number in range(9)}
        write_shard(folder / "s.tar", kept)

    made = once.made("many-for-ray", make)
    return [made / "photos", made / "s.tar"]


@pytest.fixture(scope="module")
def reference(run: Path, sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine writes."""
    out = tmp_path_factory.mktemp("reference") / "out"
    library.batch_predict(run, sources, out, processes=1, **SIZES)
    return out


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with this process on it, and a second machine."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    handler = signal.getsignal(signal.SIGTERM)  # which Ray changes
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


class Listener:
    """A listener that does something after the first part."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act
        self.pictures = 0

    def __call__(self, done: int, _errors: int) -> None:
        self.pictures += done
        if self._act is not None:
            act, self._act = self._act, None
            act()


def kill_an_actor() -> None:
    """One of this test's cluster, whose processes are children of this one."""
    ours = psutil.Process().children(recursive=True)
    actors = [each for each in ours if " ".join(each.cmdline()).startswith(ACTOR)]
    assert actors
    actors[0].send_signal(signal.SIGKILL)


def on_ray(run: Path, sources: list[Path], out: Path, **more: Any) -> library.BatchResult:
    return library.batch_predict(run, sources, out, engine="ray", **SIZES, **more)


def test_an_address_where_nothing_answers_is_told_in_a_line(
    run: Path, sources: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(library.InputError, match="no Ray cluster at 127"):
        on_ray(run, sources, tmp_path / "out", address="127.0.0.1:1")


class TestCluster:
    def test_it_writes_the_bytes_of_the_local_engine(
        self, cluster: Any, run: Path, sources: list[Path], reference: Path, tmp_path: Path
    ) -> None:
        listener = Listener(lambda: None)
        result = on_ray(run, sources, tmp_path / "out", progress=listener)
        require_same_parts(tmp_path / "out", reference)
        assert (result.pictures, result.errors, result.engine) == (MANY + 9, 3, "ray")
        assert listener.pictures == MANY + 9

    def test_an_actor_that_is_killed_loses_and_repeats_nothing(
        self, cluster: Any, run: Path, sources: list[Path], reference: Path, tmp_path: Path
    ) -> None:
        listener = Listener(kill_an_actor)
        on_ray(run, sources, tmp_path / "out", progress=listener)
        require_same_parts(tmp_path / "out", reference)
        assert listener.pictures == MANY + 9

    def test_a_machine_that_is_lost_loses_and_repeats_nothing(
        self, cluster: Any, run: Path, sources: list[Path], reference: Path, tmp_path: Path
    ) -> None:
        node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        cluster.wait_for_nodes()
        listener = Listener(lambda: cluster.remove_node(node, allow_graceful=False))
        on_ray(run, sources, tmp_path / "out", progress=listener)
        require_same_parts(tmp_path / "out", reference)
        assert listener.pictures == MANY + 9

    def test_errors_of_ours_come_back_as_they_are(
        self,
        cluster: Any,
        run: Path,
        sources: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from taxon.api.batch_model import OpenModel
        from taxon.batch.compute import Task

        task = OpenModel.task

        def other(model: OpenModel, batch_size: int) -> Task:
            told = task(model, batch_size)
            return replace(told, expected=replace(told.expected, outputs=told.expected.outputs + 1))

        monkeypatch.setattr(OpenModel, "task", other)
        with pytest.raises(library.CheckFailed, match="computes something else"):
            on_ray(run, sources, tmp_path / "out")

    def test_an_audit_finds_the_same(
        self,
        cluster: Any,
        features_run: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from taxon.data import build

        here: list[str] = []

        def counted(data: bytes, spec: Preprocessing, source: str) -> Look:
            here.append(source)
            return look_into(data, spec, source)

        monkeypatch.setattr(build, "look_into", counted)
        data = tmp_path / "data"
        for part in ("train", "test"):
            write_many(data / part / "a", 40, broken=(3,))
            write_many(data / part / "b", 40)
        reports = []
        for engine in ("local", "ray"):
            monkeypatch.setenv("TAXON_CACHE", str(tmp_path / engine))
            here.clear()
            report = library.audit(data, features=features_run, engine=engine)
            reports.append(report.model_dump(mode="json", exclude={"ran"}))
        # What cannot be read there is looked into here, and nothing else.
        assert sorted(here) == ["test/a/00003.jpg", "train/a/00003.jpg"]
        assert reports[0] == reports[1]
        assert reports[0]["findings"]

    def test_a_machine_that_decodes_otherwise_is_refused(
        self, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from taxon.scale import looks

        def other(data: bytes, spec: Preprocessing, source: str) -> Look:
            look = look_into(data, spec, source)
            return replace(look, hash=look.hash ^ 1)

        monkeypatch.setattr(looks, "look_into", other)
        monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "cache"))
        for folder in ("a", "b"):
            write_many(tmp_path / "data" / folder, 4)
        with pytest.raises(library.CheckFailed, match="decoded differently"):
            library.audit(tmp_path / "data", weights="none", engine="ray")


def test_a_driver_that_is_killed_leaves_whole_parts_and_either_engine_goes_on(
    run: Path, sources: list[Path], reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taxon", "predict", str(run), *map(str, sources)]
    command += ["--engine", "ray", "--out", str(out), "--part-size", "16", "--batch-size", "4"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        wait_for(lambda: bool(parts_of(out)) or process.poll() is not None)
        process.kill()
        _, said = process.communicate()
    kept = len(parts_of(out))
    assert 0 < kept < 10, said
    assert said.splitlines()[-1].startswith("Ray: ")
    result = library.batch_predict(run, sources, out, **SIZES)
    assert result.computed <= MANY + 9 - 16 * kept
    require_same_parts(out, reference)
