"""Slices: which there are, what is said of them, and that a bad camera is found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import fails, taxon
from conftest import exports_left_out, train_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, write_table
from sklearn import metrics as sk

from taxon import evaluate
from taxon.core.errors import DataError
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.data import Columns, load_manifest, read_manifest, with_looks, write_manifest
from taxon.data.look_cache import LookCache, stamp_of
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation import Metrics, compute_metrics
from taxon.evaluation.slice_columns import (
    EMPTY,
    Scale,
    SliceColumn,
    column_of_values,
    judged,
    quarters,
)
from taxon.evaluation.terminal import weak_slice_rows, weak_slices

pytestmark = pytest.mark.filterwarnings("error:::taxon")
COLOURS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}


# Which slices there are


def test_few_values_are_slices_and_an_empty_cell_is_one_too() -> None:
    column, notes = column_of_values("site", ["north", "", "south"])
    assert column.values == ("north", EMPTY, "south") and not notes


def test_many_numbers_become_quarters() -> None:
    column, notes = column_of_values("age", [*map(str, range(40)), ""])
    assert Counter(column.values) == {
        "lowest quarter: age below 9.8": 10,
        "second lowest quarter: age 9.8 to 20": 10,
        "second highest quarter: age 20 to 29": 9,
        "highest quarter: age from 29": 11,
        EMPTY: 1,
    }
    assert not notes


def test_of_many_other_values_the_most_frequent_stay() -> None:
    cells = [f"site {number}" for number in range(30) for _ in range(30 - number)]
    column, [note] = column_of_values("site", cells)
    assert set(column.values) == {None, *(f"site {number}" for number in range(20))}
    assert "'site' has 30 values" in note and "20 most frequent" in note


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
@settings(deadline=None)
def test_every_picture_is_in_one_band_that_tells_the_truth(numbers: list[float]) -> None:
    found = quarters(Scale("x"), np.array(numbers))
    if None in found:
        # Only where the quartiles part nothing.
        assert set(found) == {None}
        return
    for number, words in zip(numbers, found, strict=True):
        assert words is not None
        band = words.partition("x ")[2].split()
        if band[0] == "below":
            assert number < float(band[1])
        elif band[0] == "from":
            assert number >= float(band[1])
        else:
            assert float(band[0]) <= number < float(band[2])
    if any("quarter" in words for words in found if words):
        counts = Counter(found).values()
        assert all(0.2 <= count / len(numbers) <= 0.3 for count in counts) and len(counts) == 4


def test_pictures_of_one_size_have_no_quarters() -> None:
    assert set(quarters(Scale("short side", " px"), np.full(50, 64.0))) == {None}
    two_sizes = quarters(Scale("short side", " px"), np.repeat([64.0, 128.0], 25))
    assert set(two_sizes) == {"short side below 128 px", "short side from 128 px"}


def test_small_slices_are_not_judged_and_named() -> None:
    site = SliceColumn("site", ("a",) * 12 + ("b",) * 9)
    same = SliceColumn("lens", ("only",) * 21)
    [kept], notes = judged([site, same])
    assert set(kept.values) == {"a", None}
    assert notes == [
        "1 slice of fewer than 10 pictures not judged: 'site b (9)'",
        "no slices by 'lens': it is the same for all pictures",
    ]


# Figures


def _case(
    *, signal: Sequence[float], task: str = "multiclass", share_unknown: float = 0.0
) -> tuple[Metrics, PredictionTable, np.ndarray, np.ndarray]:
    """200 pictures of two cameras, on each of which the answers have another signal."""
    rng = np.random.default_rng(0)
    space = LabelSpace.flat(task, ["a", "b", "c"])  # type: ignore[arg-type]
    camera = np.arange(200) % 2
    if task == "multiclass":
        targets = rng.integers(0, 3, 200)
        truth = np.eye(3)[targets]
    else:
        truth = (rng.random((200, 3)) < 0.4).astype(np.int64)
        targets = np.where(rng.random((200, 3)) < share_unknown, UNKNOWN, truth)
    strength = np.array(signal)[camera][:, None]
    logits = (strength * (2 * truth - 1) + rng.normal(size=(200, 3))).astype(np.float32)
    policy = DecisionPolicy.default(space)
    table = PredictionTable(
        tuple(map(str, range(200))), space.names, logits, calibrate(logits, policy, space.task)
    )
    column = SliceColumn("camera", tuple(["old", "new"][place] for place in camera))
    metrics = compute_metrics(table, targets, space, policy, slices=[column], about={})
    return metrics, table, targets, camera


def test_figures_of_slices_are_those_of_their_pictures() -> None:
    metrics, table, targets, camera = _case(signal=(0.2, 2.0))
    worst, best = metrics.slices
    assert (worst.value, best.value, worst.n) == ("old", "new", 100)
    predicted = table.probabilities.argmax(axis=1)
    scores = [
        sk.accuracy_score(targets[camera == place], predicted[camera == place]) for place in (0, 1)
    ]
    assert list(worst.figures) == ["top1", "macro_f1"]
    assert worst.figures["top1"].value == pytest.approx(scores[0])
    old = camera == 0
    assert worst.figures["macro_f1"].value == pytest.approx(
        sk.f1_score(targets[old], predicted[old], average="macro")
    )
    assert worst.difference.value == pytest.approx(scores[0] - scores[1])
    low, high = worst.difference.ci95 or (0, 0)
    # The normal interval of a difference of two shares.
    spread = 1.96 * np.sqrt(sum(share * (1 - share) / 100 for share in scores))
    assert (low, high) == pytest.approx(
        (scores[0] - scores[1] - spread, scores[0] - scores[1] + spread), abs=0.02
    )
    assert best.difference.ci95 == pytest.approx((-high, -low))
    assert weak_slices(metrics) == [worst]
    [row] = weak_slice_rows(metrics)
    assert row[:3] == ("camera", "old", "100") and row[4].startswith("-")


def test_slices_of_tags_go_by_micro_f1_over_what_is_known() -> None:
    metrics, table, targets, camera = _case(signal=(0.2, 2.0), task="multilabel", share_unknown=0.3)
    worst = metrics.slices[0]
    assert worst.value == "old" and list(worst.figures) == ["micro_f1", "macro_f1"]
    known = (targets != UNKNOWN) & (camera == 0)[:, None]
    expected = sk.f1_score(targets[known], table.probabilities[known] >= 0.5)
    assert worst.figures["micro_f1"].value == pytest.approx(expected)


def test_slices_that_are_alike_are_not_weak() -> None:
    metrics, *_ = _case(signal=(1.5, 1.5))
    assert len(metrics.slices) == 2 and not weak_slices(metrics)


def test_of_many_slices_by_chance_none_is_weak() -> None:
    """The interval alone would call one in forty weak."""
    rng = np.random.default_rng(0)
    space = LabelSpace.flat("multiclass", ["a", "b"])
    logits = rng.normal(size=(400, 2)).astype(np.float32)
    policy = DecisionPolicy.default(space)
    probabilities = calibrate(logits, policy, space.task)
    table = PredictionTable(tuple(map(str, range(400))), space.names, logits, probabilities)
    columns = [
        SliceColumn(f"column {number}", tuple(rng.choice(["x", "y"], 400))) for number in range(100)
    ]
    targets = rng.integers(0, 2, 400)
    metrics = compute_metrics(table, targets, space, policy, slices=columns, about={})
    below = [each for each in metrics.slices if (each.difference.ci95 or (0, 0))[1] < 0]
    assert below and all(each.p_value is not None for each in below)
    assert sum(each.p_value is not None for each in metrics.slices) == len(below)
    assert not weak_slices(metrics)


def test_a_slice_that_is_wrong_throughout_is_weak() -> None:
    """Every resample has the same difference, so that it has no interval."""
    space = LabelSpace.flat("multiclass", ["a", "b"])
    targets = np.arange(60) % 2
    broken = np.arange(60) < 20
    logits = np.where((targets == 1) != broken, 2.0, -2.0)[:, None] * np.array([-1.0, 1.0])
    logits = logits.astype(np.float32)
    policy = DecisionPolicy.default(space)
    probabilities = calibrate(logits, policy, space.task)
    table = PredictionTable(tuple(map(str, range(60))), space.names, logits, probabilities)
    column = SliceColumn("lamp", tuple("off" if each else "on" for each in broken))
    metrics = compute_metrics(table, targets, space, policy, slices=[column], about={})
    [weak] = weak_slices(metrics)
    assert (weak.value, weak.difference.value, weak.difference.ci95) == ("off", -1.0, None)
    [row] = weak_slice_rows(metrics)
    assert row[3:] == ("0.0 %", "-100.0", "")


# Columns of a table, and looks


def test_extra_columns_are_read_beside_the_labels(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "A", "x"), ("b.png", "dog", "", "y")]
    table = write_table(tmp_path / "labels.csv", ("path", "label", "camera", "site"), rows)
    for source in (table, tmp_path):
        manifest = load_manifest(source, Columns(extra=("site", "camera")))
        assert [record.extra for record in manifest.records] == [("x", "A"), ("y", "")]
    with pytest.raises(DataError, match=r"no column 'camra' for slices.*Did you mean 'camera'"):
        load_manifest(table, Columns(extra=("camra",)))


def test_looks_of_a_part_leave_the_cache_of_the_whole(tmp_path: Path) -> None:
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(6)]
    table = write_table(tmp_path / "labels.csv", ("path", "label"), rows)
    whole = load_manifest(table)
    write_manifest(whole, tmp_path / "manifest.parquet")
    read = read_manifest(tmp_path / "manifest.parquet")
    assert all(record.look is None for record in read.records)
    # One file changes its time, so that one look is new; the other is known.
    first, second = read.records[:2]
    first.path.touch()
    found = with_looks(read.where(lambda record: record in (first, second)))
    assert [record.look for record in found.records] == [
        record.look for record in whole.records[:2]
    ]
    from taxon.preprocessing import Preprocessing

    with LookCache(read.root, Preprocessing()) as cache:
        assert all(cache.get(stamp_of(record.path)) for record in read.records)


def test_picture_that_changed_has_no_look(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "labels.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")]
    )
    write_manifest(load_manifest(table), tmp_path / "manifest.parquet")
    (tmp_path / "a.png").write_bytes(encode(np.zeros((9, 9, 3), np.uint8)))
    read = with_looks(read_manifest(tmp_path / "manifest.parquet"))
    assert [record.look is None for record in read.records] == [True, False]


# End to end


def _write_colours(folder: Path, count: int, cameras: str) -> Path:
    """Noisy pictures of three colours; those of camera C are nearly black."""
    rng = np.random.default_rng(len(cameras))
    folder.mkdir()
    rows = []
    for number in range(count):
        colour, camera = list(COLOURS)[number % 3], cameras[number % len(cameras)]
        noise = rng.integers(-40, 41, (32, 32, 3))
        picture = np.clip(np.array(COLOURS[colour]) + noise, 0, 255)
        picture = picture * (0.08 if camera == "C" else 1.0)
        name = f"{number:03}.png"
        (folder / name).write_bytes(encode(picture.astype(np.uint8)))
        rows.append((name, colour, camera))
    return write_table(folder / "labels.csv", ("path", "label", "camera"), rows, pictures=False)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of colours, trained on cameras A and B, and a table of pictures of A, B, C and D."""
    root = tmp_path_factory.mktemp("colours")
    with exports_left_out():
        model = train_tiny(_write_colours(root / "train", 120, "AB"), root / "model", epochs=5)
    return model.path, _write_colours(root / "test", 120, "ABCD")


def test_the_dark_camera_is_the_worst_slice(colours: tuple[Path, Path], tmp_path: Path) -> None:
    run, table = colours
    done = taxon("evaluate", run, table, "--slice-by", "camera", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    metrics = Metrics.model_validate(json.loads((tmp_path / "out" / "metrics.json").read_text()))
    worst = {(entry.column, entry.value.partition(" ")[0]) for entry in metrics.slices[:2]}
    assert ("camera", "C") in worst
    [camera] = [entry for entry in metrics.slices if (entry.column, entry.value) == ("camera", "C")]
    assert camera.n == 30 and camera.difference.ci95 and camera.difference.ci95[1] < 0
    # Without a table the same pictures stand out by their brightness.
    darkest = [entry for entry in metrics.slices if entry.value.startswith("darkest quarter")]
    assert [entry.figures["top1"] for entry in darkest] == [camera.figures["top1"]]
    assert {entry.column for entry in metrics.slices} == {"camera", "brightness", "sharpness"}
    assert "Weak slices: top-1 below that of all other pictures" in done.stdout
    weak = done.stdout.partition("Weak slices")[2]
    assert " C " in weak and "darkest" in weak and " A " not in weak


def test_slices_by_what_no_table_has_are_refused(colours: tuple[Path, Path]) -> None:
    run, table = colours
    said = fails(2, "evaluate", run, "--slice-by", "camera", saying="no column 'camera'")
    assert "brightness, sharpness, resolution" in said and "DATA --slice-by camera" in said
    said = fails(2, "evaluate", run, table, "--slice-by", "lens", saying="no column 'lens'")
    assert "path, label, camera" in said
    fails(2, "evaluate", run, table, "--slice-by", "group", saying="'group' is empty")
    manifest = run / "manifest.parquet"
    fails(
        2, "evaluate", run, manifest, "--split", "all", "--slice-by", "camera",
        saying="slice by group or split",
    )  # fmt: skip


def test_a_run_s_own_manifest_is_sliced_by_what_pictures_show_and_by_part(
    run: Path, tmp_path: Path
) -> None:
    result = evaluate(run, split="all", slice_by="split", out=tmp_path / "out")
    columns = {entry.column for entry in result.metrics.slices}
    assert columns == {"split", "brightness", "sharpness"}
    parts = {entry.value: entry.n for entry in result.metrics.slices if entry.column == "split"}
    assert parts == {
        part: count
        for part, count in read_manifest(run / "manifest.parquet").split_counts().items()
        if count >= 10
    }
