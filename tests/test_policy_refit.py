"""The policy in a model folder: what it is fitted on, how it is fitted anew, who applies it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import taxon as command
from conftest import TINY_BACKBONE
from fastapi.testclient import TestClient
from serving_apps import app_of

import taxon
from taxon.api import refitting
from taxon.api.outputs import sort_copies, write_predictions
from taxon.bundle import read_bundle
from taxon.bundle.golden import read_golden
from taxon.core.errors import DataError, TaxonError
from taxon.core.fingerprint import sha256_file
from taxon.data import Record, read_manifest, write_manifest
from taxon.exporters import compare_golden
from taxon.inference import Outputs, Predictor, load_predictor

Copy = Callable[[Path], Path]


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def table(data: Path, file: Path, *, test: Callable[[str], str]) -> Path:
    """The set with a fixed split; the labels of its test part go through a function."""
    pictures = sorted(data.glob("*/*.jpg"))
    parts = ["train", "train", "val", "calibration", "test"]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for place, picture in enumerate(pictures):
            part, label = parts[place % 5], picture.parent.name
            writer.writerow([picture, test(label) if part == "test" else label, part])
    return file


def test_policy_does_not_know_the_test_part(
    defects: Path, tmp_path: Path, without_export: None
) -> None:
    """Other labels in the test part, or no test part at all: not a byte of the policy changes."""
    honest = table(defects, tmp_path / "honest.csv", test=lambda label: label)
    wrong = table(defects, tmp_path / "wrong.csv", test=lambda label: "crack")
    none = tmp_path / "none.csv"
    rows = honest.read_text().splitlines()
    none.write_text("\n".join(row for row in rows if not row.endswith(",test")) + "\n")
    found = []
    for data in (honest, wrong, none):
        run = taxon.train(
            data,
            out=tmp_path / data.stem,
            model=TINY_BACKBONE,
            weights="none",
            epochs=1,
            overrides=["preprocessing.size=32", "decision.abstain_risk=0.9"],
            device="cpu",
        ).path
        found.append([(run / name).read_bytes() for name in ("decision.json", "scope.safetensors")])
        assert read_bundle(run).spec.policy.fitted_on == "calibration"
    assert found[0] == found[1] == found[2]


@pytest.fixture(scope="module")
def refitted(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose policy was fitted anew by the command; do not write into it."""
    folder = tmp_path_factory.mktemp("refitted") / "model"
    shutil.copytree(run, folder)
    done = command(
        "evaluate", folder, "--refit-policy", "--abstain", "risk=0.9", "--coverage", "0.7",
        "--set", "decision.set_method=raps",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "prediction sets (raps) with a coverage of 0.7" in done.stdout
    return folder


def test_refit_changes_the_policy_and_nothing_of_the_weights(run: Path, refitted: Path) -> None:
    before, after = files(run), files(refitted)
    assert set(before) == set(after)
    kept = ("model.safetensors", "head.safetensors", "labels.json", "preprocessing.json")
    assert all(before[name] == after[name] for name in kept)
    assert before["decision.json"] != after["decision.json"]
    old, new = read_bundle(run), read_bundle(refitted)
    assert old.spec.fingerprint != new.spec.fingerprint
    assert new.spec.policy.sets is not None and new.spec.policy.sets.method == "raps"
    assert new.info.provenance.config["decision"]["set_coverage"] == 0.7
    notes = [note for note in new.info.provenance.notes if note.startswith("decision: ")]
    assert any("coverage of 0.7" in note for note in notes)
    assert not any("coverage of 0.9" in note for note in notes)


def test_figures_are_those_of_the_new_policy(refitted: Path) -> None:
    metrics = json.loads((refitted / "metrics.json").read_text("utf-8"))
    assert metrics["sets"]["promised"] == 0.7 and metrics["sets"]["method"] == "raps"
    assert metrics["about"]["fingerprint"] == read_bundle(refitted).spec.fingerprint
    assert metrics["selective"]["abstain_below"] == read_bundle(refitted).spec.policy.abstain_below


def test_own_artefact_is_exported_anew_and_older_ones_are_stale(run: Path, refitted: Path) -> None:
    assert command("verify", refitted).returncode == 0
    stale = command("verify", refitted, run / "artefacts" / "onnx")
    assert stale.returncode == 3
    assert "exported from another model" in stale.stderr


def test_artefact_alone_applies_the_policy(refitted: Path, defects: Path) -> None:
    picture = next(defects.glob("*/*.jpg"))
    inside = taxon.load(refitted, backend="torch").predict(picture)
    alone = taxon.load(refitted / "artefacts" / "onnx" / "model.onnx").predict(picture)
    assert alone.prediction_set == inside.prediction_set and inside.prediction_set
    assert (alone.label, alone.unsure) == (inside.label, inside.unsure)


def test_refit_without_changes_gives_the_same_policy(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    taxon.refit_policy(copy)
    assert (copy / "decision.json").read_bytes() == (run / "decision.json").read_bytes()
    assert (copy / "scope.safetensors").read_bytes() == (run / "scope.safetensors").read_bytes()
    golden = [read_golden(folder).probabilities for folder in (copy, run)]
    np.testing.assert_allclose(*golden, atol=1e-6)


def test_promise_that_cannot_be_kept_changes_nothing(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    before = files(copy)
    done = command("evaluate", copy, "--refit-policy", "--abstain", "risk=0.001")
    assert done.returncode == 3
    assert "cannot be promised" in done.stderr and "Nothing was changed" in done.stderr
    assert files(copy) == before


def test_failure_on_the_way_leaves_the_old_folder(
    run: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(run)
    before = files(copy)

    def fail(*_: Any) -> None:
        raise TaxonError("no export today")

    monkeypatch.setattr(refitting, "export_own_onnx", fail)
    with pytest.raises(TaxonError, match="no export today"):
        taxon.refit_policy(copy, overrides=["decision.set_coverage=0.6"])
    assert files(copy) == before
    assert [entry.name for entry in copy.parent.iterdir()] == [copy.name]


@pytest.fixture
def moved_run(tmp_path: Path, defects: Path, run: Path) -> tuple[Path, tuple[Record, ...]]:
    """A copy of the model folder and of its pictures, which a test may remove."""
    data = Path(shutil.copytree(defects, tmp_path / "data"))
    copy = Path(shutil.copytree(run, tmp_path / "model"))
    manifest = read_manifest(copy / "manifest.parquet")
    moved = tuple(replace(record, path=data / record.id) for record in manifest.records)
    write_manifest(replace(manifest, records=moved, root=data), copy / "manifest.parquet")
    return copy, moved


def test_training_pictures_may_be_gone(
    moved_run: tuple[Path, tuple[Record, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is fitted on the calibration part; flags need training pictures."""
    copy, moved = moved_run
    for record in moved:
        if record.split == "train":
            record.path.unlink()
    monkeypatch.chdir(copy)  # `.` is a model folder like any other
    told: list[str] = []
    policy = taxon.refit_policy(".", listener=lambda event: told.append(getattr(event, "text", "")))
    assert policy.scope is None and policy.sets is not None
    assert any("training pictures are gone" in text for text in told)
    assert any("no training picture to compare with" in text for text in told)
    assert not (copy / "scope.safetensors").exists()
    assert read_bundle(copy).spec.policy == policy


def test_pictures_that_are_gone_are_named(moved_run: tuple[Path, tuple[Record, ...]]) -> None:
    copy, moved = moved_run
    calibration = [r for r in moved if r.split in ("validation", "calibration")]
    calibration[0].path.unlink()
    with pytest.raises(DataError, match=r"1 of the \d+ pictures .* was calibrated on are gone"):
        taxon.refit_policy(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--abstain", "risk=0.1"], "add --refit-policy"),
        (["--refit-policy", "--abstain", "0.1"], "allowed: risk=0.02"),
        (["--refit-policy", "--target", "recal=0.9"], "Did you mean"),
        (["--refit-policy", "--target", "recall=0.9"], "needs the class"),
        (["--refit-policy", "--target", "recall=0.9:nothing"], "unknown class 'nothing'"),
        (["--refit-policy", "--coverage", "often"], "a number between 0 and 1"),
        (["--refit-policy", "--coverage", "2"], "decision.set_coverage"),
        (["--refit-policy", "--set", "decision.scope=1"], "unknown key 'decision.scope'"),
        (["--refit-policy", "--set", "model=x"], "cannot be changed after the training"),
        (["--refit-policy", "--abstain", "confidence=0.9"], "names no risk"),
        # What is wrong with the rest is told before the folder is replaced.
        (["--refit-policy", "--coverage", "0.5", "--split", "tset"], "unknown part 'tset'"),
        (["--refit-policy", "--coverage", "0.5", "--gate", "none.yaml"], "cannot read none.yaml"),
        (["--refit-policy", "--coverage", "0.5", "--ordered", "a,b"], "there is no class"),
    ],
)
def test_wrong_options_end_with_2(run: Path, options: list[str], message: str) -> None:
    before = files(run)
    done = command("evaluate", run, *options)
    assert done.returncode == 2, done.stdout
    assert files(run) == before
    assert message in " ".join(done.stderr.split())


def test_costs_come_from_a_file(run: Path, copy_of: Copy, tmp_path: Path) -> None:
    copy, file = copy_of(run), tmp_path / "costs.yaml"
    first, second, *_ = read_bundle(run).spec.label_space.names
    file.write_text(f"{first}:\n  {second}: 20\n")
    assert command("evaluate", copy, "--refit-policy", "--costs", file).returncode == 0
    costs = read_bundle(copy).spec.policy.costs
    assert costs is not None and costs[0][:2] == (0.0, 20.0) and costs[1][0] == 1.0


# What is of something else


def everything_flagged(run: Path) -> Predictor:
    predictor = load_predictor(run)
    scope = predictor.spec.policy.scope
    assert scope is not None
    policy = predictor.spec.policy.model_copy(
        update={"scope": scope.model_copy(update={"limit": 1e6})}
    )
    return Predictor(predictor.spec.model_copy(update={"policy": policy}), predictor.backend)


def test_flagged_picture_is_not_named_by_any_consumer(run: Path, defects: Path) -> None:
    predictor = everything_flagged(run)
    picture = next(defects.glob("*/*.jpg"))
    [answer] = predictor.predict([picture])
    assert answer.out_of_scope and answer.label is None and answer.top
    with TestClient(app_of(predictor)) as client:
        body = {"files": (picture.name, picture.read_bytes())}
        [result] = client.post("/v1/classify", files=body).json()["results"]
        assert result["out_of_scope"] and result["label"] is None
        assert client.get("/v1/model").json()["flags_out_of_scope"]
        name = predictor.spec.name
        outputs = client.get(f"/v2/models/{name}").json()["outputs"]
        assert [output["name"] for output in outputs] == ["probabilities", "logits", "scope"]
        assert outputs[2]["shape"] == [-1]


def test_flagged_pictures_are_sorted_aside(run: Path, defects: Path, tmp_path: Path) -> None:
    pictures = sorted(defects.glob("*/*.jpg"))[:3]
    predictions = list(everything_flagged(run).predict(pictures))
    assert sort_copies(predictions, tmp_path / "sorted") == 3
    assert [folder.name for folder in (tmp_path / "sorted").iterdir()] == ["out-of-scope"]
    for format_name in ("table", "csv", "jsonl", "parquet"):
        write_predictions(predictions, format_name, tmp_path / f"out.{format_name}")
    assert "(out of scope)" in (tmp_path / "out.table").read_text()
    [row, *_] = csv.DictReader((tmp_path / "out.csv").open())
    assert row["out_of_scope"] == "True" and row["label"] == ""


def test_artefact_with_another_scope_is_not_equal(run: Path) -> None:
    predictor, golden = load_predictor(run), read_golden(run)
    assert golden.scope is not None

    class Shifted:
        name = "shifted"

        def run(self, images: np.ndarray) -> Outputs:
            outputs = predictor.run(images)
            return Outputs(outputs.logits, outputs.probabilities, scope=None)

    report = compare_golden(Shifted(), golden, predictor.spec)
    assert not report.passed
    assert compare_golden(predictor.backend, golden, predictor.spec).passed


def test_unsure_answers_are_decisions_too(run: Path) -> None:
    """An artefact whose confidences fall on the other side of the limit is not equal."""
    predictor, golden = load_predictor(run), read_golden(run)
    top = golden.probabilities.max(axis=1)
    policy = predictor.spec.policy.model_copy(update={"abstain_below": float(top.min()) + 0.01})
    spec = predictor.spec.model_copy(update={"policy": policy})

    class Surer:
        name = "surer"

        def run(self, images: np.ndarray) -> Outputs:
            sharp = golden.probabilities**1.2
            return Outputs(golden.logits, sharp / sharp.sum(axis=1, keepdims=True), golden.scope)

    assert compare_golden(Surer(), golden, spec).changed_decisions
    assert not compare_golden(Surer(), golden, predictor.spec).changed_decisions
