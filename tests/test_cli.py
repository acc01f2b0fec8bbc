"""The command line: what a user types, sees and gets back.

The commands are a process where that is the point, here or in test_readme.py; what else is asked
of them needs none, and importing torch anew takes seconds.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import fails, require_failure, taxon, taxon_process
from conftest import TINY_BACKBONE

COMMANDS = (
    "demo",
    "sample-data",
    "audit",
    "split",
    "train",
    "evaluate",
    "predict",
    "benchmark",
    "export",
    "verify",
    "serve",
    "models",
    "doctor",
    "completion",
)
Copy = Callable[[Path], Path]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    done = taxon(command, "--help")
    assert done.returncode == 0 and f"Usage: taxon {command} " in done.stdout


def test_help_of_all() -> None:
    done = taxon_process("--help")
    assert done.returncode == 0 and "Usage: taxon" in done.stdout


def test_version() -> None:
    done = taxon_process("--version")
    assert done.returncode == 0 and done.stdout.startswith("taxon 0.")


def test_models_lists_the_charters_backbones() -> None:
    done = taxon("models")
    assert done.returncode == 0
    for part in (
        "tf_efficientnet_b7.aa_in1k",
        "84.19",
        "86.57",
        "apache-2.0",
        "mobilenetv4",
        "agpl-3.0",
    ):
        assert part in done.stdout


def test_doctor_finds_a_working_installation() -> None:
    done = taxon("doctor")  # a process of its own in the set-up
    assert done.returncode == 0
    for part in ("torch ", "training       yes", "serving        yes"):
        assert part in done.stdout


def test_path_of_a_user(defects: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = taxon(
        *("train", defects, "--out", run, "--model", TINY_BACKBONE),
        *("--weights", "none", "--epochs", "2", "--set", "preprocessing.size=32"),
    )
    assert trained.returncode == 0, trained.stderr
    for part in ("audit", "estimated time", "epoch 2", "macro-F1", "are equal on"):
        assert part in trained.stderr
    assert f"taxon evaluate {run}" in trained.stdout

    evaluated = taxon("evaluate", run)
    assert evaluated.returncode == 0 and "Macro-F1" in evaluated.stdout
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["schema_version"] == 1 and len(metrics["classes"]) == len(metrics["confusion"])
    assert set(metrics["macro_f1"]) == {"value", "ci95"}

    exported = taxon("export", run, "--to", "onnx", "--out", tmp_path / "exported")
    assert exported.returncode == 0 and (tmp_path / "exported/onnx/model.onnx").is_file()
    verified = taxon("verify", run, tmp_path / "exported/onnx", "--data", defects)
    assert verified.returncode == 0 and verified.stdout.count("are equal on") == 2
    predicted = taxon("predict", tmp_path / "exported/onnx/model.onnx", defects / "good")
    assert predicted.returncode == 0 and "good-0001.jpg" in predicted.stdout


@pytest.mark.usefixtures("without_export")
def test_json_log_is_json(defects: Path, tmp_path: Path) -> None:
    done = taxon(
        *("train", defects, "--out", tmp_path / "run", "--model", TINY_BACKBONE, "--json-log"),
        *("--weights", "none", "--epochs", "1", "--set", "preprocessing.size=32"),
    )
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"Note", "StageStarted", "EpochDone"} == {event["event"] for event in events}


def test_quiet_prints_the_run_alone(defects: Path, tmp_path: Path) -> None:
    done = taxon(
        *("train", defects, "--out", tmp_path / "run", "--model", TINY_BACKBONE, "--quiet"),
        *("--weights", "none", "--epochs", "1", "--set", "preprocessing.size=32"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "run")


class TestPredict:
    def test_formats_agree(self, run: Path, defects: Path, tmp_path: Path) -> None:
        folder = defects / "crack"
        lines = taxon("predict", run, folder, "--format", "jsonl").stdout.splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == len(list(folder.iterdir()))
        for name in ("rows.csv", "rows.parquet"):
            assert taxon("predict", run, folder, "--out", tmp_path / name).returncode == 0
        with (tmp_path / "rows.csv").open(newline="") as stream:
            table = list(csv.DictReader(stream))
        parquet = pq.read_table(tmp_path / "rows.parquet").to_pylist()
        for row, cells, stored in zip(rows, table, parquet, strict=True):
            assert row["label"] == cells["label"] == stored["label"]
            assert float(cells["confidence"]) == pytest.approx(row["confidence"])
            assert stored["top"] == row["top"]

    def test_names_on_standard_input_and_patterns(self, run: Path, defects: Path) -> None:
        picture = next((defects / "crack").iterdir())
        from_input = taxon_process("predict", run, "-", "--format", "csv", text=f"{picture}\n")
        from_pattern = taxon("predict", run, f"{picture.parent}/{picture.stem[:-1]}?.jpg")
        assert from_input.returncode == from_pattern.returncode == 0
        assert str(picture) in from_input.stdout and str(picture) in from_pattern.stdout

    def test_unreadable_picture_becomes_a_row_and_exit_code_3(
        self, run: Path, defects: Path, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no picture")
        good = next((defects / "good").iterdir())
        done = taxon("predict", run, broken, tmp_path / "absent.jpg", good, "--format", "jsonl")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 3 and "2 of 3 pictures" in done.stderr
        assert "not a picture" in rows[0]["error"] and "No such file" in rows[1]["error"]
        assert rows[2]["label"] and rows[2]["error"] is None

    def test_sort_into_copies_and_never_overwrites(
        self, run: Path, defects: Path, tmp_path: Path
    ) -> None:
        folder = defects / "crack"
        before = sorted(path.name for path in folder.iterdir())
        for _ in range(2):
            assert taxon("predict", run, folder, "--sort-into", tmp_path / "out").returncode == 0
        copies = list((tmp_path / "out").rglob("*.jpg"))
        assert len(copies) == 2 * len(before)
        assert sorted(path.name for path in folder.iterdir()) == before
        originals = {path.read_bytes() for path in folder.iterdir()}
        assert {path.read_bytes() for path in copies} == originals

    def test_parquet_needs_a_file(self, run: Path, defects: Path) -> None:
        fails(2, "predict", run, defects, "--format", "parquet", saying="--out")

    def test_reader_that_leaves_early(self, run: Path, defects: Path) -> None:
        command = f"{sys.executable} -m taxon predict {run} {defects} --format jsonl | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300)
        assert done.stderr == "" and len(done.stdout.splitlines()) == 1


class TestBadInput:
    """Exit code 2, one line that says what to do, nothing left behind."""

    def test_no_such_data(self, tmp_path: Path) -> None:
        done = taxon_process("train", tmp_path / "none")
        require_failure(done, 2, "taxon sample-data")

    def test_hub_out_of_reach(self, defects: Path, tmp_path: Path) -> None:
        start = time.monotonic()
        fails(2, "train", defects, "--out", tmp_path / "run", saying="--weights none")
        assert time.monotonic() - start < 60  # seconds, not the minutes of a retrying client
        assert not list(tmp_path.iterdir())

    def test_weights_that_do_not_fit(self, run: Path, defects: Path, tmp_path: Path) -> None:
        weights = run / "model.safetensors"
        arguments = ("--weights", weights, "--model", "test_vit", "--out", tmp_path / "run")
        fails(2, "train", defects, *arguments, saying="does not fit test_vit")
        assert not list(tmp_path.iterdir())

    def test_output_that_exists(self, run: Path, defects: Path) -> None:
        fails(2, "train", defects, "--weights", "none", "--out", run, saying="--overwrite")

    def test_unknown_key(self, defects: Path) -> None:
        fails(2, "train", defects, "--set", "batchsize=3", saying="Did you mean 'batch_size'?")

    def test_class_with_one_picture(self, defects: Path, tmp_path: Path, copy_of: Copy) -> None:
        data = copy_of(defects)
        (data / "rare").mkdir()
        shutil.copy(next((data / "good").iterdir()), data / "rare" / "only.jpg")
        with (data / "rare" / "only.jpg").open("ab") as stream:
            stream.write(b"\0")  # no copy of the other
        message = fails(2, "train", data, "--weights", "none", saying="'rare' has 1 picture")
        assert "--test-share 0" in message

    def test_part_that_the_data_do_not_name(self, run: Path, defects: Path, tmp_path: Path) -> None:
        arguments = ("--split", "train", "--out", tmp_path / "e")
        fails(2, "evaluate", run, defects, *arguments, saying="names no parts")

    def test_model_that_is_none(self, tmp_path: Path) -> None:
        fails(2, "predict", tmp_path, "x.jpg", saying="taxon train")
        fails(2, "serve", tmp_path, saying="taxon train")
        bodies = ("--max-body-mb", "9", "--max-buffered-mb", "8")
        fails(2, "serve", tmp_path, *bodies, saying="raise it with --max-buffered-mb")
        fails(2, "evaluate", tmp_path, saying="taxon train")

    def test_kind_of_sample_data(self, tmp_path: Path) -> None:
        fails(2, "sample-data", "defect", tmp_path / "x", saying="Did you mean 'defects'?")
        assert not list(tmp_path.iterdir())

    def test_failed_check_is_3(self, run: Path, copy_of: Copy) -> None:
        copy = copy_of(run)
        decision = json.loads((copy / "decision.json").read_text())
        decision["abstain_below"] = 0.5
        (copy / "decision.json").write_text(json.dumps(decision))
        fails(2, "verify", copy, saying="does not have the sha256")

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        done = taxon_process("train", tmp_path / "none", "--debug")
        assert done.returncode == 1 and "Traceback" in done.stderr


def test_interrupt_ends_with_130_and_says_how_to_go_on(defects: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "taxon", "train", str(defects)),
            *("--out", str(tmp_path / "run"), "--weights", "none", "--model", TINY_BACKBONE),
            *("--set", "preprocessing.size=64", "--epochs", "500"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert rest.splitlines()[-1] == (
        f"interrupted: saved; continue with: taxon train --resume {tmp_path / 'run'}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


@pytest.mark.slow
def test_demo_does_all_of_it(tmp_path: Path) -> None:
    done = taxon("demo", "--quick", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    for part in (
        "1. Sample data",
        "7. Predict",
        "Macro-F1",
        "audit.html",
        "Next:",
        "report.html",
        "figures say nothing",
    ):
        assert part in done.stdout
    assert done.stdout.count("are equal on") == 2 and "audit, warning" in done.stderr
    assert (tmp_path / "demo" / "model" / "report" / "report.html").is_file()
    fails(2, "demo", "--quick", "--out", tmp_path / "demo", saying="--overwrite")


def test_mismatched_torchvision_is_named_with_what_mends_it(defects: Path, tmp_path: Path) -> None:
    package = tmp_path / "path" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "taxon", "train", str(defects), "--weights", "none"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )
    assert done.returncode == 2
    for part in ("do not fit together", "pip install --upgrade torch torchvision timm", "/cpu"):
        assert part in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
@pytest.mark.parametrize("limit", [30_000, 300_000])
def test_full_disk_leaves_nothing_behind(defects: Path, tmp_path: Path, limit: int) -> None:
    """No file may grow beyond the limit, as on a disk that is nearly full."""
    import resource

    # Of this process, which writes no other file meanwhile: what is printed is kept in memory.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        done = taxon(
            *("train", defects, "--weights", "none", "--out", tmp_path / "run"),
            *("--model", TINY_BACKBONE, "--epochs", "1", "--set", "preprocessing.size=32"),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["splt"], "did you mean 'split'? `taxon --help`"),
        (["split", "--foo", "x"], "no such option: --foo"),
        (["split", ".", "--out", "m.csv", "--max-pixels", "0"], "received 0; `taxon split --help`"),
        (["audit", ".", "--fail-on=foo"], "'foo' is not one of 'never'"),
        (["train", "a", "b"], "extra argument"),
        (["audit", ""], "the word after 'audit' is empty"),
        (["split", ".", "--out", ""], "the word after '--out' is empty"),
        (["split", ".", ""], "the word after '.' is empty"),
        (["train"], "train what? Name a folder or a table (`taxon train DATA`)"),
    ],
)
def test_a_command_line_that_cannot_be_understood_is_one_line(
    arguments: list[str], saying: str
) -> None:
    done = taxon(*arguments)
    assert saying.lower() in require_failure(done, 2, "error: ").lower()
    assert done.stderr.count("\n") == 1


def test_without_arguments_the_commands_are_listed() -> None:
    done = taxon_process()
    assert done.returncode == 2 and "audit" in done.stdout
