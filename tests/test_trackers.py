"""Trackers: what they are told is read back with their own readers; failures never stop a run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import TINY_BACKBONE, exports_left_out
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import taxon
from taxon.bundle import read_bundle
from taxon.bundle.history import write_history
from taxon.cli.main import run as run_cli
from taxon.config import TrainConfig, load_config
from taxon.core.errors import ConfigError, MissingDependencyError, OutputError
from taxon.training import (
    Continued,
    EpochDone,
    Event,
    Loading,
    Note,
    StageStarted,
    StepDone,
    silent,
)
from taxon.training.trackers import flat, track

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("without_export")

BOTH = ("tensorboard", "mlflow")


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


class Tracked:
    """A real run that both trackers watched, and what was heard of it.

    It was interrupted in its second epoch, two steps after a checkpoint, and resumed.
    """

    def __init__(self, run: Path, heard: Recorder) -> None:
        self.run, self.heard = run, heard
        self.folder = run.parent / "tracking"
        self.history = read_bundle(run).info.provenance.history
        steps = [event for event in heard.events if isinstance(event, StepDone)]
        self.steps = list({(step.epoch, step.step): step for step in steps}.values())
        self.repeated = len(steps) - len(self.steps)


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tracked(defects: Path, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    run, heard = tmp_path_factory.mktemp("tracked") / "model", Recorder()

    def leave(event: Event) -> None:
        if isinstance(event, StepDone) and (event.epoch, event.step) == (2, 3):
            raise KeyboardInterrupt
        heard(event)

    with exports_left_out():
        with pytest.raises(KeyboardInterrupt):
            taxon.train(
                defects,
                out=run,
                model=TINY_BACKBONE,
                weights="none",
                epochs=2,
                overrides=["preprocessing.size=32"],
                trackers=BOTH,
                listener=leave,
            )
        taxon.resume(run, listener=heard)
    return Tracked(run, heard)


def _read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def _store(folder: Path) -> MlflowClient:
    from mlflow import MlflowClient  # seconds, which those that run other files need not wait for

    return MlflowClient(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")


def _only_run(client: MlflowClient, name: str = "taxon") -> Any:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def test_tensorboard_holds_every_step_and_epoch(tracked: Tracked) -> None:
    read = _read(tracked.folder / "model")
    losses = read.Scalars("step/loss")
    assert [event.step for event in losses] == list(range(1, len(tracked.steps) + 1))
    assert [event.value for event in losses] == pytest.approx(
        [step.loss for step in tracked.steps], rel=1e-6
    )
    rates = [event.value for event in read.Scalars("step/learning_rate")]
    assert rates == pytest.approx([step.learning_rate for step in tracked.steps], rel=1e-6)
    assert rates[0] < rates[1]  # the recipe warms up
    for name in ("train_loss", "validation_loss", "macro_f1", "top1", "learning_rate"):
        values = [(event.step, event.value) for event in read.Scalars(f"epoch/{name}")]
        assert [step for step, _ in values] == [1, 2]
        assert [value for _, value in values] == pytest.approx(
            [row[name] for row in tracked.history], rel=1e-6
        )


def test_tensorboard_holds_configuration_notes_and_final_figures(tracked: Tracked) -> None:
    read = _read(tracked.folder / "model")

    def text(tag: str) -> str:
        return "".join(read.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode())

    assert "| preprocessing.size | 32 |" in text("configuration")
    assert "augmentation: random crops" in text("notes") and "model written to" in text("notes")
    best = max(tracked.history, key=lambda row: row["macro_f1"])
    assert read.Scalars("best/macro_f1")[-1].value == pytest.approx(best["macro_f1"], rel=1e-6)
    assert read.Scalars("best/epoch")[-1].value == best["epoch"]
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["batch_size"].number_value == 32
    assert start.hparams["stages.0.name"].string_value == "all"


def test_mlflow_holds_all_of_it(tracked: Tracked) -> None:
    client = _store(tracked.folder)
    run = _only_run(client)
    assert run.info.run_name == "model" and run.info.status == "FINISHED"
    assert run.data.params["preprocessing.size"] == "32"
    assert run.data.params["model"] == TINY_BACKBONE
    assert "augmentation: random crops" in run.data.tags["mlflow.note.content"]
    losses = client.get_metric_history(run.info.run_id, "step/loss")
    assert [(metric.step, metric.value) for metric in losses] == [
        (position, step.loss) for position, step in enumerate(tracked.steps, start=1)
    ]
    scores = client.get_metric_history(run.info.run_id, "epoch/macro_f1")
    assert [metric.value for metric in scores] == [row["macro_f1"] for row in tracked.history]
    assert run.data.metrics["best/macro_f1"] == max(row["macro_f1"] for row in tracked.history)
    assert run.data.metrics["best/epoch"] in (1.0, 2.0)


def test_trackers_write_beside_the_model_only(tracked: Tracked) -> None:
    assert {path.name for path in tracked.run.parent.iterdir()} == {"model", "tracking"}
    assert not (Path.cwd() / "mlruns").exists() and not (Path.cwd() / "mlflow.db").exists()
    said = [note for note in tracked.heard.notes() if note.startswith("tracking:")]
    assert len(said) == 4 and len(set(said)) == 2  # by the interrupted run and the resumed one
    assert any(f"tensorboard --logdir '{tracked.folder}'" in note for note in said)


def test_a_resumed_run_is_the_same_run(tracked: Tracked) -> None:
    assert tracked.repeated == 2  # no curve shows them twice, as the tests above see
    names = {path.name for path in tracked.folder.iterdir() if path.is_dir()}
    assert names - {"mlflow-artefacts"} == {"model"}
    client = _store(tracked.folder)
    run = _only_run(client)
    description = run.data.tags["mlflow.note.content"].splitlines()
    assert "- continued after epoch 1, step 0" in description
    assert len(set(description)) == len(description)
    # What TensorBoard itself reads with; it forgets more than the reader above.
    shown = plugin_event_accumulator.EventAccumulator(str(tracked.folder / "model"))
    shown.Reload()
    for tag in shown.Tags()["tensors"]:
        steps = [event.step for event in shown.Tensors(tag)]
        assert steps == sorted(set(steps)), tag
    texts = shown.Tensors("notes/text_summary")
    assert len(texts) == 2  # when it began, and at its end; not at the interruption
    assert b"finished" in texts[-1].tensor_proto.string_val[0]


def test_tracking_changes_nothing_in_the_model(tracked: Tracked, run: Path) -> None:
    assert read_bundle(tracked.run).info.files == read_bundle(run).info.files


def test_history_csv_is_the_history(tracked: Tracked, tags_run: Path) -> None:
    for folder, score in ((tracked.run, "top1"), (tags_run, "mAP")):
        with (folder / "history.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = f"stage epoch train_loss validation_loss macro_f1 {score} learning_rate seconds"
        assert list(rows[0]) == names.split()
        history = read_bundle(folder).info.provenance.history
        assert [
            {key: value if key == "stage" else float(value) for key, value in row.items()}
            for row in rows
        ] == list(history)


def test_history_csv_without_validation_has_empty_cells(tmp_path: Path) -> None:
    row = {"stage": 'a "b", c', "epoch": 1, "train_loss": 0.5, "validation_loss": None}
    write_history(tmp_path, [{**row, "macro_f1": None, "new": 1}], "multiclass")
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as stream:
        (read,) = csv.DictReader(stream)
    assert read["stage"] == 'a "b", c' and read["new"] == "1"
    assert read["validation_loss"] == read["macro_f1"] == read["top1"] == read["seconds"] == ""


def _config(*trackers: str, overrides: Sequence[str] = ()) -> TrainConfig:
    return load_config("staged", options={"trackers": list(trackers)}, overrides=overrides)


STAGE = StageStarted("head", 1, 1, 1, 2, 10, 20)


def _epoch(number: int, *, best: bool = True, score: float | None = 0.5) -> EpochDone:
    row = {"stage": "head", "epoch": number, "train_loss": 1.0, "macro_f1": score, "seconds": 0.1}
    return EpochDone(row, best, 0.0)


class Fake:
    """A tracker that keeps what it is told, and fails when told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.name, self.place, self.fails_at = "Fake", "nowhere", fails_at
        self.told: list[tuple[Any, ...]] = []

    def _tell(self, *what: Any) -> None:
        if what[0] == self.fails_at:
            raise RuntimeError("server\ngone")
        self.told.append(what)

    def start(
        self, settings: Mapping[str, Any], notes: Sequence[str], steps: int, kept: str | None
    ) -> str:
        self._tell("start", tuple(notes), steps, kept)
        return "fake run"

    def log(self, position: int, values: Mapping[str, float]) -> None:
        self._tell("log", position, dict(values))

    def finish(
        self, steps: int, final: Mapping[str, float], notes: Sequence[str], outcome: str
    ) -> None:
        self._tell("finish", steps, dict(final), outcome)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """What `track` opens for tensorboard and mlflow, in this order."""
    made = [Fake(), Fake()]
    monkeypatch.setattr(
        "taxon.training.trackers._open", lambda name, folder, run: made[BOTH.index(name)]
    )
    return made


@pytest.mark.parametrize("fails_at", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_switched_off_once_and_the_rest_goes_on(
    fakes: list[Fake], tmp_path: Path, fails_at: str
) -> None:
    fakes[0].fails_at = fails_at
    heard = Recorder()
    with track(_config(*BOTH), tmp_path / "run", heard) as listener:
        for event in (Note("hello"), STAGE, StepDone(1, 1, 2.0, 0.0, 0.1), _epoch(1), _epoch(2)):
            listener(event)
    off = [note for note in heard.notes() if "switched off" in note]
    assert off == [r"tracking with Fake is switched off, training goes on: server\ngone"]
    told = fakes[1].told
    assert [what[0] for what in told] == ["start", "log", "log", "log", "finish"]
    assert told[0] == ("start", ("hello",), 0, None)
    assert told[1] == ("log", 1, {"step/loss": 2.0, "step/learning_rate": 0.1})
    assert sum(isinstance(event, EpochDone) for event in heard.events) == 2


def test_steps_are_counted_over_epochs_and_stages(fakes: list[Fake], tmp_path: Path) -> None:
    with track(_config("mlflow"), tmp_path / "run", silent) as listener:
        for stage in range(2):
            listener(STAGE)
            for step in (1, 2):
                listener(StepDone(1, step, 1.0, 0.0))
            listener(_epoch(stage + 1))
    steps = [what[1] for what in fakes[1].told if what[0] == "log" and "step/loss" in what[2]]
    assert steps == [1, 2, 3, 4]
    assert sum(what[0] == "start" for what in fakes[1].told) == 1


def test_final_figures_are_those_of_the_kept_epoch(fakes: list[Fake], tmp_path: Path) -> None:
    with track(_config("mlflow"), tmp_path / "run", silent) as listener:
        for event in (STAGE, _epoch(1, score=0.7), _epoch(2, score=0.6, best=False)):
            listener(event)
    _, _, final, outcome = fakes[1].told[-1]
    assert final["best/epoch"] == 1.0 and final["best/macro_f1"] == 0.7
    assert outcome == "finished" and "best/stage" not in final


def test_without_a_score_there_is_none(fakes: list[Fake], tmp_path: Path) -> None:
    with track(_config("mlflow"), tmp_path / "run", silent) as listener:
        listener(STAGE)
        listener(_epoch(1, score=None))
    logged = fakes[1].told[1]
    assert logged == ("log", 1, {"epoch/train_loss": 1.0, "epoch/seconds": 0.1})


def _watch(config: TrainConfig, run: Path, *events: Event | BaseException) -> None:
    """A run that tells these events, and ends with the error if there is one."""
    with track(config, run, silent) as listener:
        for event in events:
            if isinstance(event, BaseException):
                raise event
            listener(event)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (ValueError("bug"), "FAILED")]
)
def test_a_run_that_ends_early_says_so(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", status)
    config = _config("mlflow", overrides=[f"tracking.folder={tracked.folder}"])
    with pytest.raises(type(error)):
        _watch(config, Path("run"), STAGE, StepDone(1, 1, 1.5, 0.0, 0.1), error)
    run = _only_run(_store(tracked.folder), status)
    assert run.info.status == status
    assert run.data.metrics["step/loss"] == 1.5  # what waited for the end of the epoch


def test_a_run_that_never_began_leaves_nothing_in_the_trackers(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "never")
    config = _config(*BOTH, overrides=[f"tracking.folder={tracked.folder}"])
    with pytest.raises(ValueError, match="bad data"):
        _watch(config, Path("never"), Note("hello"), ValueError("bad data"))
    assert not (tracked.folder / "never").exists()
    client = _store(tracked.folder)
    experiment = client.get_experiment_by_name("never")
    assert experiment is not None and not client.search_runs([experiment.experiment_id])


def test_a_run_that_is_gone_from_its_trackers_begins_anew(
    tracked: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
    config = _config(*BOTH, overrides=[f"tracking.folder={tracked.folder}"])
    client, ids = _store(tracked.folder), []
    for _ in range(2):
        with track(config, Path("gone"), silent, kept=tmp_path / "kept.json") as listener:
            listener(STAGE)
            listener(StepDone(1, 1, 1.5, 0.0, 0.1))
        ids.append(_only_run(client, "gone").info.run_id)
        client.delete_run(ids[-1])
        read = _read(tracked.folder / "gone")
        assert len(read.Tensors("configuration/text_summary")) == 1
        shutil.rmtree(tracked.folder / "gone")
    assert ids[0] != ids[1]


def test_a_run_goes_on_without_a_better_epoch(fakes: list[Fake], tmp_path: Path) -> None:
    kept, best = tmp_path / "kept.json", {"epoch": 1, "macro_f1": 0.7}
    kept.write_text("{")  # damaged: the run begins anew
    for events in ([STAGE, StepDone(1, 1, 1.0, 0.0)], [Continued("on", 4, best), STAGE]):
        with track(_config("mlflow"), tmp_path / "run", silent, kept=kept) as listener:
            for event in (Note("hello"), *events, StepDone(1, 2, 1.0, 0.0)):
                listener(event)
    starts = [what[1:] for what in fakes[1].told if what[0] == "start"]
    assert starts == [(("hello",), 0, None), (("hello", "on"), 4, "fake run")]
    positions = [what[1] for what in fakes[1].told if what[0] == "log"]
    assert positions == [1, 2, 5]
    final = {"best/epoch": 1.0, "best/macro_f1": 0.7}
    assert fakes[1].told[-1] == ("finish", 5, final, "finished")


def test_runs_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        with track(_config("tensorboard"), tmp_path / "run", silent) as listener:
            listener(STAGE)
            listener(StepDone(1, 1, loss, 0.0))
    for folder, loss in (("run", 1.0), ("run-2", 2.0)):
        (event,) = _read(tmp_path / "tracking" / folder).Scalars("step/loss")
        assert event.value == loss


class _MLflowServer(BaseHTTPRequestHandler):
    """As much of MLflow's REST interface as a run needs."""

    heard: list[str]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.heard.append(self.path.partition("?")[0])
        experiment = {"experiment_id": "7", "name": "taxon", "lifecycle_stage": "active"}
        info = {"run_id": "r", "run_uuid": "r", "experiment_id": "7", "status": "RUNNING"}
        body = json.dumps({"experiment": experiment, "run": {"info": info, "data": {}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 (names of the standard library)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (_MLflowServer,), {"heard": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_a_server_that_goes_away_does_not_stop_the_training(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    heard = Recorder()
    with track(_config("mlflow"), tmp_path / "run", heard) as listener:
        listener(STAGE)
        for step in range(1, 100):
            listener(StepDone(1, step, 1.0, 0.0))
        listener(_epoch(1))
        server.shutdown()
        server.server_close()
        listener(_epoch(2))
        listener(_epoch(3))
    asked: list[str] = server.RequestHandlerClass.heard  # type: ignore[attr-defined]
    # 99 steps and the epoch went in one request, and not in a hundred.
    assert sum(path.endswith("runs/log-batch") for path in asked) <= 3
    assert any(path.endswith("runs/create") for path in asked)
    assert sum("MLflow is switched off" in note for note in heard.notes()) == 1
    assert not (tmp_path / "tracking").exists()


def test_a_server_that_is_not_there_is_said_before_pictures_are_read(
    defects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    heard = Recorder()
    with pytest.raises(ConfigError, match="cannot be reached at MLFLOW_TRACKING_URI"):
        taxon.train(
            defects, out=tmp_path / "run", weights="none", trackers=["mlflow"], listener=heard
        )
    assert not any(isinstance(event, Loading) for event in heard.events)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tracker", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_package_is_said_before_pictures_are_read(
    defects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    heard = Recorder()
    line = rf"pip install 'taxon-vision\[{tracker}\]'"
    with pytest.raises(MissingDependencyError, match=line):
        taxon.train(
            defects, out=tmp_path / "run", weights="none", trackers=[tracker], listener=heard
        )
    assert not any(isinstance(event, Loading) for event in heard.events)
    assert list(tmp_path.iterdir()) == []


LOCAL_RUN = """
import sys
from pathlib import Path
seen = []
sys.addaudithook(lambda name, args: name in ("socket.connect", "socket.getaddrinfo")
                 and seen.append((name, args[-1])))
from taxon.config import load_config
from taxon.training import StageStarted, StepDone, silent
from taxon.training.trackers import track
config = load_config("staged", options={"trackers": ["tensorboard", "mlflow"]})
with track(config, Path(sys.argv[1]), silent) as listener:
    listener(StageStarted("head", 1, 1, 1, 2, 10, 20))
    listener(StepDone(1, 1, 1.5, 0.0, 0.1))
import time; time.sleep(2)  # usage figures would go from a thread
print(seen)
"""


@pytest.mark.slow
def test_without_a_server_nothing_is_called(tmp_path: Path) -> None:
    hides = ("PYTEST", "CI", "MLFLOW", "DO_NOT_TRACK")  # by these MLflow knows that it is tested
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hides)}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL_RUN, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout.strip() == "[]"
    assert "INFO" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tracking"]


def test_experiment_and_folder_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tiles")
    config = _config("mlflow", overrides=[f"tracking.folder={tmp_path / 'elsewhere'}"])
    with track(config, tmp_path / "runs" / "run", silent) as listener:
        listener(STAGE)
    client = _store(tmp_path / "elsewhere")
    experiment = client.get_experiment_by_name("tiles")
    assert experiment is not None
    assert experiment.artifact_location.startswith((tmp_path / "elsewhere").as_uri())
    client.delete_experiment(experiment.experiment_id)
    with (
        pytest.raises(ConfigError, match="'tiles' was deleted"),
        track(config, tmp_path / "runs" / "run", silent),
    ):
        pass


def test_folder_of_trackers_is_never_in_the_model_folder(tmp_path: Path) -> None:
    run = tmp_path / "tracking"  # the default folder beside it would be the run itself
    with (
        pytest.raises(ConfigError, match=r"tracking\.folder"),
        track(_config("tensorboard"), run, silent),
    ):
        pass
    (tmp_path / "file").write_text("")
    config = _config("tensorboard", overrides=[f"tracking.folder={tmp_path / 'file'}"])
    with pytest.raises(OutputError, match="not a folder"), track(config, run, silent):
        pass


def test_unknown_tracker_is_refused(capsys: pytest.CaptureFixture[str], defects: Path) -> None:
    assert run_cli(["train", str(defects), "--weights", "none", "--track", "wandb"]) == 2
    said = capsys.readouterr().err
    assert "'tensorboard' or 'mlflow'" in said and "'wandb'" in said


def test_without_trackers_the_listener_is_passed_through(tmp_path: Path) -> None:
    with track(_config(), tmp_path / "run", silent) as listener:
        assert listener is silent


scalars = st.one_of(st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.none())
names = st.text("abc", min_size=1, max_size=3)
nested = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.dictionaries(names, inner), max_leaves=4),
    max_size=3,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw imports things
@given(nested)
def test_flat_keys_lead_back_to_the_values(values: dict[str, Any]) -> None:
    for key, value in flat(values).items():
        found: Any = values
        for part in key.split("."):
            found = found[part]
        assert value == ("null" if found is None else found)


def test_flat_configuration() -> None:
    found = flat(_config(*BOTH).model_dump(mode="json"))
    assert found["stages.1.name"] == "last 2 blocks" and found["augment.colour"] == 0.2
    assert found["model"] == "null" and found["trackers"] == '["tensorboard", "mlflow"]'
    assert all(isinstance(value, bool | int | float | str) for value in found.values())
