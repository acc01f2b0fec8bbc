"""`taxon benchmark`: figures, table and plot; what cannot be measured says why.

No time is asserted: the machine decides it.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, fails
from commands import taxon as command

import taxon
from taxon.api.benchmarking import FORMATS
from taxon.api.contending import gather
from taxon.api.exporting import export_what_can_be
from taxon.benchmarking import Benchmark
from taxon.benchmarking.contenders import Contender
from taxon.benchmarking.memory import first_run, interpreter_memory
from taxon.benchmarking.pictures import noise
from taxon.bundle import read_bundle
from taxon.bundle.artefact import read_artefact
from taxon.cli.benchmark import FORMATS as OFFERED
from taxon.core.errors import ConfigError
from taxon.exporters import formats as export_formats
from taxon.exporters import writers
from taxon.inference.artefacts import open_artefact
from taxon.inference.pytorch import PyTorchBackend

BACKBONE = "test_efficientnet"


def silent(_: str) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def measured(run: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run and a backbone in two formats, and one that does not run here."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    short = ("--batch", "1,2", "--threads", "1", "--seconds", "0.05", "--out", out)
    done = command("benchmark", run, BACKBONE, "--formats", "pytorch,onnx,coreml", *short)
    assert done.returncode == 0, done.stderr
    result = Benchmark.model_validate_json((out / "benchmark.json").read_text())
    return SimpleNamespace(done=done, out=out, result=result)


def test_every_contender_is_measured_in_every_setting(measured: SimpleNamespace, run: Path) -> None:
    result: Benchmark = measured.result
    found = {(each.model, each.format, each.batch) for each in result.measurements}
    assert found == {
        (model, form, batch)
        for model in (run.name, BACKBONE)
        for form in ("pytorch", "onnx")
        for batch in (1, 2)
    }
    for each in result.measurements:
        assert each.threads == 1
        assert each.calls >= 3
        assert 0 < each.p50_ms <= each.p95_ms
        assert each.pictures_per_second == pytest.approx(1000 * each.batch / each.p50_ms, rel=0.01)
    assert all(each.ratio == 1.0 for each in result.measurements if each.format == "onnx")
    assert result.machine["cores"] and result.versions["onnxruntime"]


def test_memory_is_that_of_a_process_alone(measured: SimpleNamespace) -> None:
    result: Benchmark = measured.result
    assert result.interpreter_memory is not None
    memory = {(each.model, each.format): each.peak_memory for each in result.subjects}
    for peaks in memory.values():
        assert peaks.keys() == {1, 2}
        assert result.interpreter_memory < peaks[1] <= peaks[2]
    # ONNX Runtime serves without torch; a figure taken in one process for all would not show it.
    assert 2 * memory[BACKBONE, "onnx"][2] < memory[BACKBONE, "pytorch"][2]


def test_memory_does_not_count_what_its_parent_holds() -> None:
    before = interpreter_memory()
    ballast = np.ones(100_000_000, np.uint8)
    after = interpreter_memory()
    assert before is not None and after is not None
    assert after < before + len(ballast) / 2


def test_what_was_timed_is_said(measured: SimpleNamespace, run: Path) -> None:
    sources = {(each.model, each.format): each.source for each in measured.result.subjects}
    assert sources[run.name, "onnx"] == str(run / "artefacts" / "onnx")
    assert "random weights" in sources[BACKBONE, "onnx"]
    assert any(BACKBONE in note and "noise" in note for note in measured.result.notes)
    absent = {(each.model, each.format) for each in measured.result.absent}
    assert absent == {(run.name, "coreml"), (BACKBONE, "coreml")}


def test_table(measured: SimpleNamespace, run: Path) -> None:
    done: Done = measured.done
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("1 thread")] == [
        *("1 thread, batch 1", "1 thread, batch 2"),
    ]
    rows = [line.split() for line in lines if " onnx " in line and line.startswith(f" {BACKBONE}")]
    assert len(rows) == 2
    first = next(
        each
        for each in measured.result.measurements
        if (each.model, each.format, each.batch) == (BACKBONE, "onnx", 1)
    )
    assert rows[0][2] == f"{first.p50_ms:.2f}"
    assert f"{run.name} coreml: not measured: " in done.stdout
    assert "Measured here: " in done.stdout
    assert str(measured.out / "benchmark.json") in done.stdout


def test_plot_has_a_bar_for_each_and_needs_nothing_else(measured: SimpleNamespace) -> None:
    text = (measured.out / "benchmark.svg").read_text()
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert len(titles) == len(measured.result.measurements)
    width = float(root.attrib["width"])
    for bar in (group.find(f"{space}rect") for group in root.iter(f"{space}g")):
        assert bar is not None and bar.attrib["fill"].startswith("#")
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < width
    assert not [word for word in ("href", "url(", "<script", "class=") if word in text]


def test_an_earlier_result_is_replaced_and_nothing_else(
    measured: SimpleNamespace, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    fails(2, "benchmark", run, "--out", tmp_path, saying="taxon did not write it")
    kept = taxon.benchmark(run, ["onnx"], batches=[1], threads=[1], seconds=0.01, out=measured.out)
    written = json.loads((measured.out / "benchmark.json").read_text())
    assert written == kept.model_dump(mode="json")


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["RUN", "--formats", "onxx"], "unknown format 'onxx'"),
        (["RUN", "--formats", "onxx"], "Did you mean 'onnx'?"),
        (["RUN", "--formats", ","], "no format"),
        (["RUN", "--batch", "0"], "--batch takes whole numbers from 1"),
        (["RUN", "--batch", "one"], "--batch takes whole numbers, say 1,8, not 'one'"),
        (["RUN", "--threads", "5000"], "--threads takes whole numbers from 1"),
        (["RUN", "--seconds", "0"], "--seconds is more than 0"),
        (["efficientnet_z9"], "unknown backbone 'efficientnet_z9'"),
        (["absent/model"], "absent/model is no model folder"),
        (["."], ". is no model folder"),
    ],
)
def test_wrong_requests(
    arguments: list[str],
    saying: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(run) if word == "RUN" else word for word in arguments]
    fails(2, "benchmark", *words, saying=saying)
    assert not (tmp_path / "benchmark").exists()


def test_a_missing_converter_has_a_reason_and_others_go_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(wanted: Any) -> list[str]:
        return ["executorch"] if wanted.name == "executorch" else []

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such operator\nand a page of C++")

    monkeypatch.setattr(export_formats, "missing_packages", missing)
    monkeypatch.setitem(writers.WRITERS, "torch-export", broken)
    reasons = export_what_can_be(run, ["executorch", "torch-export", "onnx"], tmp_path, silent)
    assert reasons.keys() == {"executorch", "torch-export"}
    assert "pip install 'taxon-vision[executorch]'" in reasons["executorch"]
    assert reasons["torch-export"] == "RuntimeError: no such operator"
    assert (tmp_path / "onnx" / "artefact.json").is_file()


def test_an_artefact_of_another_state_of_the_model_is_not_timed(
    run: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    copy = copy_of(run)
    described = copy / "artefacts" / "onnx" / "artefact.json"
    assert _artefacts(copy, tmp_path / "fresh") == [copy / "artefacts" / "onnx"]
    other = json.loads(described.read_text())
    other["spec"]["fingerprint"] = "0" * 64
    described.write_text(json.dumps(other))
    made = tmp_path / "stale"
    assert _artefacts(copy, made) == [made / "0" / "onnx"]


def _artefacts(run: Path, temporary: Path) -> list[Path | None]:
    field = gather([str(run)], ["onnx"], temporary, silent)
    return [contender.artefact for contender in field.contenders]


def test_models_of_one_name_are_told_apart(
    run: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    copy = copy_of(run)
    field = gather([str(run), str(copy)], ["pytorch"], tmp_path / "made", silent)
    assert [contender.model for contender in field.contenders] == [str(run), str(copy)]


def test_what_cannot_run_says_why_in_a_process_of_its_own(
    run: Path, copy_of: Callable[[Path], Path]
) -> None:
    copy = copy_of(run)
    folder = copy / "artefacts" / "onnx"
    (folder / "model.onnx").write_bytes(b"no model")
    failed = first_run(Contender("copy", "onnx", copy, folder), [1, 2], 1)
    assert failed.peaks == {}
    assert failed.failures.keys() == {1, 2}
    assert "sha256" in failed.failures[1]


def test_threads_do_not_change_answers(run: Path) -> None:
    bundle = read_bundle(run)
    images = noise(3, bundle.spec.preprocessing)
    folder = run / "artefacts" / "onnx"
    info = read_artefact(folder)
    one, two = (open_artefact(folder, info, threads).run(images) for threads in (1, 2))
    assert np.allclose(one.probabilities, two.probabilities, atol=1e-5)


def test_compiled_and_half_precision_answer_alike(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(run)
    # Traced as ever, and then not compiled by C++, which takes most of a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    images = noise(2, bundle.spec.preprocessing)
    plain = PyTorchBackend(bundle).run(images).probabilities
    compiled = PyTorchBackend(bundle, compiled=True).run(images).probabilities
    half = PyTorchBackend(bundle, half=True).run(images).probabilities
    assert np.allclose(plain, compiled, atol=1e-4)
    assert np.allclose(plain, half, atol=2e-2)
    assert not np.array_equal(plain, half)


def test_the_command_line_names_the_formats_of_the_interface() -> None:
    assert OFFERED.split(",") == list(FORMATS)


def test_benchmark_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="benchmark what"):
        taxon.benchmark([])
