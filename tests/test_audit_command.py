"""`taxon audit` as a user runs it: on data and on a model, with a backbone and without."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from commands import fails, taxon_process
from commands import taxon as taxon_here
from PIL import Image
from safetensors.torch import save_file

import taxon
from taxon.core.errors import ConfigError, DataError, OutputError, WeightsError
from taxon.data import load_manifest, read_manifest
from taxon.models.backbones import create_backbone

BACKBONE = "test_convnext"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny backbone, as a file; random features, but features."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(create_backbone(BACKBONE).module.state_dict(), path)
    return path


@pytest.fixture
def spoilt(defects: Path, tmp_path: Path) -> Path:
    """Data with a copy under another label, an empty file and a wrong suffix."""
    folder = tmp_path / "spoilt"
    shutil.copytree(defects, folder)
    crack, stain = sorted((folder / "crack").iterdir()), sorted((folder / "stain").iterdir())
    shutil.copy(crack[0], folder / "stain" / "copy.jpg")
    stain[0].write_bytes(b"")
    stain[1].rename(stain[1].with_suffix(".png"))
    return folder


def test_the_command_that_the_audit_prints_mends_the_leak(defects: Path, tmp_path: Path) -> None:
    data = tmp_path / "my photos"
    rows = [("bild", "klasse", "split")]
    for folder in ("crack", "stain"):
        for number, picture in enumerate(sorted((defects / folder).iterdir())[:24]):
            place = data / folder / picture.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, place)
            rows.append((f"{folder}/{picture.name}", folder, "test" if number > 17 else "train"))
    with Image.open(data / rows[1][0]) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(data / "crack" / "flipped.png")
    rows.append(("crack/flipped.png", "crack", "test"))
    table = data / "table.csv"
    table.write_text("".join(f"{','.join(row)}\n" for row in rows))
    columns = ["--path-column", "bild", "--label-column", "klasse"]
    plan, out = tmp_path / "plan.yaml", tmp_path / "manifest.parquet"
    done = taxon_here("audit", table, "--weights", "none", "--fix", plan, *columns)
    assert "leaked_near_duplicates" in done.stdout, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    printed = next(line for line in lines if line.startswith("taxon split"))
    assert "--resplit" in printed and f"#   {printed}\n" in plan.read_text()
    arguments = shlex.split(printed.replace("manifest.parquet", str(out)))[1:]
    assert taxon_process(*arguments).returncode == 0
    parts = {record.id: record.split for record in read_manifest(out).records}
    assert parts["crack/flipped.png"] == parts[rows[1][0]]
    without = [word for word in arguments if word != "--resplit"]
    fails(2, *without, "--overwrite", saying="--resplit")


def test_audit_writes_a_page_json_and_a_plan_that_split_applies(
    spoilt: Path, tmp_path: Path
) -> None:
    out, plan = tmp_path / "audit", tmp_path / "plan.yaml"
    done = taxon_here("audit", spoilt, "--weights", "none", "--out", out, "--fix", plan)
    assert done.returncode == 0, done.stderr
    for check in ("contradicting", "empty", "suffix"):
        assert check in done.stdout, done.stdout
    report = json.loads((out / "audit.json").read_text())
    assert "label issues" in report["not_run"]
    assert report["findings"][0]["severity"] == "error"
    assert "<html" in (out / "audit.html").read_text()
    values = yaml.safe_load(plan.read_text())
    assert values["version"] == 1

    values["drop"] = [{"id": "stain/copy.jpg", "reason": "a crack"}]
    plan.write_text(yaml.safe_dump(values))
    manifest = tmp_path / "manifest.parquet"
    done = taxon_here("split", spoilt, "--plan", plan, "--out", manifest)
    assert done.returncode == 0, done.stderr
    again = load_manifest(manifest)
    assert "stain/copy.jpg" not in {record.id for record in again.records}
    assert {record.split for record in again.records} >= {"train", "validation", "test"}
    assert len(again) == len(load_manifest(spoilt)) - 1


def test_audit_with_a_backbone_runs_every_check(defects: Path, weights: Path) -> None:
    report = taxon.audit(defects, model=BACKBONE, weights=weights)
    assert "label issues" in {*report.ran, *report.not_run}
    assert not any("backbone" in reason for reason in report.not_run.values())


def test_audit_of_a_model_judges_its_own_labels(run: Path) -> None:
    report = taxon.audit(run)
    assert not any("weights" in reason for reason in report.not_run.values())
    assert report.about.pictures == len(load_manifest(run / "manifest.parquet"))
    with pytest.raises(ConfigError, match="its own backbone"):
        taxon.audit(run, model=BACKBONE)


def test_audit_without_a_hub_says_what_did_not_run(defects: Path) -> None:
    report = taxon.audit(defects)
    assert "no pretrained backbone at hand" in report.not_run["label issues"]


def test_audit_refuses_weights_that_are_not_there(defects: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        taxon.audit(defects, weights=tmp_path / "none.safetensors")


def test_audit_does_not_write_over_what_is_there(defects: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        taxon.audit(defects, weights="none", fix=plan)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        taxon.audit(defects, weights="none", out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == plan.read_text() == "mine"


@pytest.mark.parametrize(("level", "code"), [("never", 0), ("error", 3)])
def test_fail_on_ends_with_3(spoilt: Path, level: str, code: int) -> None:
    done = taxon_here("audit", spoilt, "--weights", "none", "--fail-on", level)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_audit_replaces_what_it_wrote_and_nothing_else(defects: Path, tmp_path: Path) -> None:
    out, plan = tmp_path / "out", tmp_path / "out" / "plan.yaml"
    taxon.audit(defects, weights="none", out=out, fix=plan)
    plan.write_text(plan.read_text() + "# edited\n")
    (out / "notes.txt").write_text("mine")
    taxon.audit(defects, weights="none", out=out, overwrite=True)
    assert plan.read_text().endswith("# edited\n")
    assert (out / "notes.txt").read_text() == "mine"
    picture = next(path for path in sorted(defects.rglob("*")) if path.is_file())
    before = picture.read_bytes()
    with pytest.raises(OutputError, match="cannot be read as a plan"):
        taxon.audit(defects, weights="none", fix=picture, overwrite=True)
    assert picture.read_bytes() == before
    taxon.audit(defects, weights="none", fix=plan, overwrite=True)
    assert "# edited" not in plan.read_text()


@pytest.mark.parametrize("content", ["", "# Notes\n", "keep this\n", "a: 1\n"])
def test_fix_replaces_plans_only(defects: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.md").write_text(content)
    with pytest.raises(OutputError, match="cannot be read as a plan"):
        taxon.audit(defects, weights="none", fix=tmp_path / "notes.md", overwrite=True)
    assert (tmp_path / "notes.md").read_text() == content


def test_an_empty_name_is_not_the_current_folder(defects: Path, run: Path, tmp_path: Path) -> None:
    for verb in (
        lambda: taxon.audit(""),
        lambda: taxon.split("", out=tmp_path / "m.parquet"),
        lambda: taxon.train("", out=tmp_path / "run"),
        lambda: taxon.evaluate(run, ""),
        lambda: taxon.verify(run, data=""),
    ):
        with pytest.raises(DataError, match="the name of the data set is empty"):
            verb()


def test_plan_and_page_need_names_of_their_own(defects: Path, tmp_path: Path) -> None:
    for name in ("same", "same/audit.json"):
        with pytest.raises(ConfigError, match="both name"):
            taxon.audit(defects, weights="none", out=tmp_path / "same", fix=tmp_path / name)
    assert not (tmp_path / "same").exists()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_that_libraries_do_not_take_is_refused(defects: Path, seed: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to 4294967295, received {seed}"):
        taxon.audit(defects, weights="none", seed=seed)
