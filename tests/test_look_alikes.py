"""Look-alikes: pictures that a model finds alike, and whose hashes do not tell it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batches import parts_of
from commands import fails
from commands import taxon as taxon_here
from pictures import encode, make_manifest, make_record
from PIL import Image

import taxon
from taxon.auditing import LOOK_ALIKES, AuditReport, Finding, run_audit
from taxon.core.errors import ConfigError, DataError
from taxon.core.predictions import FloatArray
from taxon.data import Manifest, load_manifest
from taxon.data.manifest import Split
from taxon.data.plan import apply_plan
from taxon.similarity import neighbours_within
from taxon.similarity.index import Kind

SCENES, SIDE, KEPT = 44, 96, 91  # of a picture that is cut out of another, pixels a side


def random_features(count: int, size: int = 64) -> FloatArray:
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)


# Neighbours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_neighbours_are_those_of_all_others(kind: Kind) -> None:
    if kind == "ivf":
        pytest.importorskip("faiss")
    features = random_features(1500, 16)
    found = neighbours_within(features, 3, kind=kind, centred=True)
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    expected = np.argsort(-cosines, axis=1)[:, :3]
    assert (found.rows == expected).mean() > (0.9 if kind == "ivf" else 0.999)
    assert not (found.rows == np.arange(1500)[:, None]).any()


def test_a_row_is_no_neighbour_of_its_own_among_many_equal_ones() -> None:
    found = neighbours_within(np.ones((9, 4), np.float32), 3)
    assert found.rows.shape == (9, 3)
    assert not (found.rows == np.arange(9)[:, None]).any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_almost_no_rows_have_as_many_neighbours_as_there_are(count: int) -> None:
    assert neighbours_within(random_features(count), 5).rows.shape == (count, max(0, count - 1))


# The check ------------------------------------------------------------------------------------


def parts(count: int, test: Sequence[int] = ()) -> Manifest:
    """Pictures of two classes that nobody has looked into; some are in the test part."""
    splits: list[Split] = ["test" if number in test else "train" for number in range(count)]
    return make_manifest(
        replace(make_record(number, "ab"[number % 2]), split=split)
        for number, split in enumerate(splits)
    )


def look_alikes(manifest: Manifest, features: FloatArray) -> dict[str, Finding]:
    report = run_audit(manifest, features=features, features_from="net", checks=[LOOK_ALIKES])
    assert not report.not_run
    return {finding.check: finding for finding in report.findings}


def test_pairs_are_told_from_the_crowd_within_and_across_parts() -> None:
    features = random_features(80)
    noise = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    features[70:73] = features[10:13] + 0.3 * noise
    manifest = parts(80, test=(11, 50, 60))
    found = look_alikes(manifest, features)
    names = [record.id for record in manifest.records]
    across, within = found["look_alikes_across_parts"], found["look_alikes"]
    assert across.severity == "warning" and across.groups == ((names[11], names[71]),)
    assert across.details == ("test", "train")
    assert within.severity == "info"
    assert set(within.groups) == {(names[10], names[70]), (names[12], names[72])}
    assert "labels differ" not in within.advice and "features of net" in within.advice
    # Nothing happens until a person accepts it.
    assert all(not step.accept for step in (*across.plan.regroup, *within.plan.regroup))
    assert across.apply(manifest).records == manifest.records
    step = across.plan.regroup[0].model_copy(update={"accept": True})
    kept = apply_plan(manifest, across.plan.model_copy(update={"regroup": (step,)}))
    assert kept.records[11].group == kept.records[71].group is not None


def test_labels_that_differ_are_said() -> None:
    features = random_features(80)
    features[71] = features[10] + 0.01
    found = look_alikes(parts(80), features)
    assert "In 1 group labels differ" in found["look_alikes"].advice
    assert found["look_alikes"].details == ("a", "b")


def test_what_is_known_to_belong_together_is_no_news() -> None:
    features = random_features(80)
    features[70] = features[10] + 0.01
    records = parts(80).records
    grouped = [
        replace(record, group="g") if number in (10, 70) else record
        for number, record in enumerate(records)
    ]
    assert look_alikes(make_manifest(grouped), features) == {}
    copied = [
        replace(record, sha256=records[10].sha256) if number == 70 else record
        for number, record in enumerate(records)
    ]
    assert look_alikes(make_manifest(copied), features) == {}


def test_a_class_whose_pictures_are_all_near_has_no_look_alikes() -> None:
    """Nearness counts beside the crowd: a model that was trained on the classes draws them up."""
    centres = 30 * random_features(2)
    features = np.concatenate([centres[[n % 2]] for n in range(80)]) + random_features(80)
    assert look_alikes(parts(80), features) == {}
    features[70] = features[10] + 0.1
    assert len(look_alikes(parts(80), features)["look_alikes"].groups) == 1


def test_it_runs_where_it_is_asked_for_and_can() -> None:
    assert LOOK_ALIKES not in run_audit(parts(80), features=random_features(80)).ran
    few = run_audit(parts(20), features=random_features(20), checks=[LOOK_ALIKES])
    assert "too few pictures" in few.not_run[LOOK_ALIKES]
    without = run_audit(parts(80), features_from="no weights", checks=[LOOK_ALIKES])
    assert without.not_run == {LOOK_ALIKES: "no weights"}


# The command ----------------------------------------------------------------------------------


def scene(seed: int) -> Image.Image:
    """Soft random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in parts and classes; one of the test part is cut out of one of the training part,
    and its colours are shifted."""
    root = tmp_path_factory.mktemp("scenes")
    for number in range(SCENES):
        part = "test" if number % 4 == 3 else "train"
        place = root / part / "ab"[number % 2] / f"{number:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(scene(number)))
    cut = scene(0).crop((SIDE - KEPT, 0, SIDE, KEPT))
    warm = np.asarray(cut, np.float32) * [1.1, 1, 0.9] + 5
    (root / "test" / "a").mkdir(exist_ok=True)
    (root / "test/a/cut.png").write_bytes(encode(np.clip(warm, 0, 255).astype(np.uint8)))
    return root


@pytest.fixture(scope="module")
def features(features_run: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `taxon embed` writes of the scenes."""
    out = tmp_path_factory.mktemp("features") / "scenes"
    taxon.embed(features_run, scenes, out, processes=1, part_size=16)
    return out


def groups_of(report: AuditReport, check: str) -> set[tuple[str, ...]]:
    return {group for found in report.findings if found.check == check for group in found.groups}


def test_a_crop_that_the_hash_misses_is_found(
    features_run: Path, scenes: Path, features: Path, tmp_path: Path
) -> None:
    by_hash = taxon.audit(scenes, weights="none")
    assert not any("test/a/cut.png" in group for f in by_hash.findings for group in f.groups)
    out = tmp_path / "audit"
    done = taxon_here("audit", scenes, "--features", features, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "look_alikes_across_parts" in done.stdout
    told = json.loads((out / "audit.json").read_text())
    found = {finding["check"]: finding for finding in told["findings"]}
    pairs = [set(group) for group in found["look_alikes_across_parts"]["groups"]]
    assert any({"train/a/00.png", "test/a/cut.png"} <= pair for pair in pairs)
    assert told["about"]["features_from"] == f"{features.name} (stored)"
    page = (out / "audit.html").read_text()
    assert "Alike to the model, in different parts" in page
    assert f"--features {features}" in re.sub("<[^>]*>", "", page)
    # The model computes the same features, by the engine.
    computed = taxon.audit(scenes, features=features_run)
    check = "look_alikes_across_parts"
    assert groups_of(computed, check) == set(map(tuple, found[check]["groups"]))
    assert LOOK_ALIKES in computed.ran and "label issues" in {*computed.ran, *computed.not_run}


def test_a_model_is_audited_by_parts_that_it_wrote(
    features_run: Path, defects: Path, features: Path, tmp_path: Path
) -> None:
    out = tmp_path / "defects"
    taxon.embed(features_run, defects, out, processes=1)
    report = taxon.audit(features_run, features=out)
    assert LOOK_ALIKES in report.ran and features_run.name in report.about.features_from
    # Same size, other features.
    for part in parts_of(out):
        table = pq.read_table(part)
        column = table.column("features").combine_chunks()
        values = random_features(len(table), column.type.list_size).reshape(-1)
        other = pa.FixedSizeListArray.from_arrays(pa.array(values), column.type.list_size)
        pq.write_table(table.set_column(1, "features", other), part)
    with pytest.raises(DataError, match="of another model"):
        taxon.audit(features_run, features=out)


def test_parts_that_do_not_fit_are_refused_in_a_line(
    features_run: Path, scenes: Path, features: Path, defects: Path, tmp_path: Path
) -> None:
    def refused(data: Path, *arguments: str | Path, saying: str) -> None:
        line = fails(2, "audit", data, *arguments, saying=saying)
        assert "Traceback" not in line

    refused(defects, "--features", features, saying="no features of 180 of 180 pictures")
    refused(scenes, "--features", defects, saying="neither a model folder nor an artefact")
    refused(scenes, "--features", tmp_path / "none", saying="neither a model folder")
    refused(scenes, "--features", features, "--weights", "none", saying="leave out --model")
    refused(features_run, "--features", features_run, saying="its own features are used")
    mixed = tmp_path / "mixed"
    shutil.copytree(features, mixed)
    last = parts_of(mixed)[-1]
    table = pq.read_table(last)
    short = pa.FixedSizeListArray.from_arrays(pa.array(random_features(len(table), 3).ravel()), 3)
    pq.write_table(table.set_column(1, "features", short), last)
    refused(scenes, "--features", mixed, saying="they are of two models")
    last.write_bytes(last.read_bytes()[:200])
    refused(scenes, "--features", mixed, saying="write it anew with `taxon embed`")


def test_a_picture_that_could_not_be_read_when_it_was_embedded_is_named(
    scenes: Path, features: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "features"
    shutil.copytree(features, copy)
    first = parts_of(copy)[0]
    table = pq.read_table(first)
    rows = table.to_pylist()
    rows[0] |= {"features": None, "error": "truncated"}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), first)
    with pytest.raises(DataError, match=r"no features of 1 of 45 pictures .*: truncated"):
        taxon.audit(scenes, features=copy)


def test_an_empty_name_is_refused(scenes: Path) -> None:
    with pytest.raises((ConfigError, DataError), match="empty"):
        taxon.audit(scenes, features="")


# Looks that another machine makes -------------------------------------------------------------


def test_looks_from_elsewhere_are_taken_where_they_fit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taxon.data.look import look_into
    from taxon.preprocessing import Preprocessing

    expected = load_manifest(scenes)
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "cache"))
    asked: list[Path] = []

    def looker(paths, spec):  # type: ignore[no-untyped-def]
        asked.extend(paths)
        for position, path in reversed(list(enumerate(paths))):
            look = look_into(path.read_bytes(), spec, "x")
            if position == 0:
                yield position, None  # it could not be read there
            elif position == 1:
                yield position, replace(look, file_size=look.file_size + 1, hash=0)  # another file
            else:
                yield position, look

    assert load_manifest(scenes, spec=Preprocessing(), looker=looker).records == expected.records
    assert len(asked) == len(set(asked)) == SCENES + 1
    asked.clear()
    assert load_manifest(scenes, looker=looker).records == expected.records
    assert not asked
