"""Tags that nobody annotated: neither yes nor no, from the table to the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_manifest, make_record, write_table
from sklearn import metrics as sk

import taxon
from taxon.auditing import find_label_issues, run_audit
from taxon.config import DecisionConfig
from taxon.core.errors import DataError
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.data import Columns, Manifest, load_manifest, read_manifest, read_source, write_manifest
from taxon.data.imbalance import choose
from taxon.data.loading.sampling import plan_epoch
from taxon.data.manifest_table import write_manifest_table
from taxon.data.plan import Plan, Relabel, apply_plan
from taxon.data.splitting.splits import ensure_split
from taxon.decision import DecisionPolicy, calibrate
from taxon.decision.fit import fit_policy
from taxon.decision.fitting.part import CalibrationPart
from taxon.evaluation import Metrics, compute_metrics
from taxon.evaluation.gallery import confident_mistakes
from taxon.metrics import headline, reliability_bins, selection_score
from taxon.models.probe import out_of_fold_probabilities

Targets = npt.NDArray[np.int64]
TAGS = ("fog", "sea", "sun")
SPACE = LabelSpace.flat("multilabel", TAGS)
property_test = settings(max_examples=15, deadline=None)


# Sources


ROWS = [
    ("a.png", "1", "0", ""),
    ("b.png", "", "1", "0"),
    ("c.png", "0", "0", "1"),
    ("d.png", "0", "0", "0"),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "t.csv", ("path", *TAGS), ROWS)


def _tags(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    return {record.id: record.marked for record in manifest.records}


def test_empty_cell_is_unknown_and_a_picture_without_any_tag_an_example(table: Path) -> None:
    manifest = load_manifest(table, Columns(tags=TAGS))
    assert _tags(manifest) == {
        "a.png": ("fog", "?sun"), "b.png": ("sea", "?fog"), "c.png": ("sun",), "d.png": (),
    }  # fmt: skip
    np.testing.assert_array_equal(
        manifest.targets(), [[1, 0, UNKNOWN], [UNKNOWN, 1, 0], [0, 0, 1], [0, 0, 0]]
    )
    assert manifest.known_counts() == {"fog": 3, "sea": 4, "sun": 3}
    assert manifest.notes == (
        "1 picture has no tag and counts as an example of none",
        "2 of 12 annotations (17 %) are unknown: they count neither as yes nor as no",
    )


@pytest.mark.parametrize("column", ["labels", "tags"])
def test_a_question_mark_before_a_tag_says_unknown(tmp_path: Path, column: str) -> None:
    rows = [("a.png", "fog|?sun"), ("b.png", "? fog | sea"), ("c.png", "sun"), ("d.png", "")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", column), rows))
    assert _tags(manifest) == {
        "a.png": ("fog", "?sun"), "b.png": ("sea", "?fog"), "c.png": ("sun",), "d.png": (),
    }  # fmt: skip


def test_a_question_mark_of_one_class_a_picture_means_nothing(tmp_path: Path) -> None:
    rows = [("a.png", "?sun"), ("b.png", "sea")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", "label"), rows))
    assert manifest.label_space.names == ("?sun", "sea")
    assert not any(record.unknown for record in manifest.records)


def test_a_tag_that_is_there_and_unknown_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ("path", "tags"), [("a.png", "sun|?sun")])
    with pytest.raises(DataError, match=r"row 2: 'sun' is named, and '\?sun' says that nobody"):
        read_source(table)


def test_unknown_tag_that_no_picture_has_is_no_class(tmp_path: Path) -> None:
    rows = [("a.png", "sun|?dew"), ("b.png", "")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", "tags"), rows))
    assert _tags(manifest) == {"a.png": ("sun",), "b.png": ()}
    assert "no picture has 'dew': no tag is made of it" in manifest.notes


def test_columns_of_yes_and_nothing_are_refused(tmp_path: Path) -> None:
    rows = [("a.png", "1", ""), ("b.png", "", "1"), ("c.png", "1", "1")]
    table = write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows)
    with pytest.raises(DataError, match=r"no cell of the columns 'sea', 'sun' is 0, .*; write 0"):
        read_source(table, Columns(tags=("sea", "sun")))


def test_a_tag_that_no_picture_is_known_to_lack_is_noted(tmp_path: Path) -> None:
    rows = [("a.png", "1", "1"), ("b.png", "", "0"), ("c.png", "1", "1")]
    manifest = load_manifest(
        write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows), Columns(tags=("sea", "sun"))
    )
    assert manifest.notes[-1].startswith("no picture is known to lack 'sea': a model learns")


def test_row_listed_twice_with_another_unknown_contradicts(tmp_path: Path) -> None:
    rows = [("a.png", "1", ""), ("a.png", "1", "0"), ("b.png", "0", "1")]
    table = write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows)
    with pytest.raises(DataError, match="contradicts itself in 1 row"):
        read_source(table, Columns(tags=("sea", "sun")))


def test_tag_of_the_model_without_a_column_is_unknown(table: Path) -> None:
    space = LabelSpace.flat("multilabel", [*TAGS, "dew"])
    manifest = load_manifest(table, Columns(tags=TAGS), label_space=space)
    assert manifest.targets()[:, 0].tolist() == [UNKNOWN] * 4
    alone = LabelSpace.flat("multilabel", ["fog", "sea"])
    only = [("a.png", "1", ""), ("b.png", "0", "1"), ("c.png", "", "")]
    other = write_table(table.parent / "other.csv", ("path", "fog", "sea"), only)
    assert load_manifest(other, Columns(tags=("fog", "sea")), label_space=alone).notes
    narrow = LabelSpace.flat("multilabel", ["sun"])
    with pytest.raises(DataError, match="none of its tags is annotated"):
        load_manifest(
            write_table(table.parent / "n.csv", ("path", "fog", "sun"), [("a.png", "0", "")]),
            Columns(tags=("fog", "sun")), label_space=narrow,
        )  # fmt: skip


# Manifests and plans


def test_manifest_keeps_what_is_unknown(table: Path, tmp_path: Path) -> None:
    manifest = load_manifest(table, Columns(tags=TAGS))
    write_manifest(manifest, tmp_path / "m.parquet")
    kept = read_manifest(tmp_path / "m.parquet")
    assert _tags(kept) == _tags(manifest)
    assert kept.fingerprint == manifest.fingerprint
    again = load_manifest(tmp_path / "m.parquet")
    assert (_tags(again), again.notes[-1]) == (_tags(manifest), manifest.notes[-1])
    write_manifest_table(manifest, tmp_path / "m.csv")
    assert "b.png,sea|?fog,,,1" in (tmp_path / "m.csv").read_text().splitlines()
    assert _tags(load_manifest(tmp_path / "m.csv")) == _tags(manifest)


def test_manifest_of_an_older_version_has_nothing_unknown(table: Path, tmp_path: Path) -> None:
    manifest = load_manifest(table, Columns(tags=TAGS))
    write_manifest(manifest, tmp_path / "m.parquet")
    older = pq.read_table(tmp_path / "m.parquet").drop_columns(["unknown"])
    pq.write_table(older, tmp_path / "older.parquet")
    read = read_manifest(tmp_path / "older.parquet")
    assert [record.labels for record in read.records] == [
        record.labels for record in manifest.records
    ]
    assert not any(record.unknown for record in read.records)


def test_fingerprint_changes_with_what_is_unknown_alone() -> None:
    known = make_manifest([make_record(0, ["sea"]), make_record(1, ["sun"])], "multilabel")
    first, second = known.records
    unknown = replace(known, records=(replace(first, unknown=("sun",)), second))
    assert unknown.fingerprint != known.fingerprint
    # As it was before anything could be unknown: models find their data again.
    assert known.fingerprint == ("50a3e30eb47cb4c2cb76e94801f42d575a941148fc82c028144e9d432d62f39d")


def test_tag_in_a_csv_table_may_not_look_unknown(tmp_path: Path) -> None:
    manifest = make_manifest([make_record(0, ["?sea"]), make_record(1, ["sun"])], "multilabel")
    with pytest.raises(DataError, match=r"begins with '\?'.*Parquet"):
        write_manifest_table(manifest, tmp_path / "m.csv")


def test_plan_names_what_was_and_what_stays_unknown() -> None:
    record = make_record(0, ["sea"], unknown=["fog", "sun"])
    manifest = make_manifest([record, make_record(1, ["fog", "sun"])], "multilabel")
    step = Relabel(id=record.id, was=("sea", "?fog", "?sun"), labels=("sun", "?fog"))
    changed = apply_plan(manifest, Plan(relabel=(step,)))
    assert changed.records[0].marked == ("sun", "?fog")
    assert apply_plan(changed, Plan(relabel=(step,))).records == changed.records
    with pytest.raises(DataError, match=r"its label now is sea, \?fog, \?sun; make the plan anew"):
        apply_plan(manifest, Plan(relabel=(Relabel(id=record.id, was=("sea",), labels=("sun",)),)))
    bad = Plan(relabel=(Relabel(id=record.id, was=record.marked, labels=("?dew",)),))
    with pytest.raises(DataError, match=r"cannot relabel .* unknown class 'dew'"):
        apply_plan(manifest, bad)


def test_plan_that_empties_a_class_forgets_where_it_was_unknown() -> None:
    records = [make_record(0, ["sea"], unknown=["sun"]), make_record(1, ["sun"])]
    manifest = make_manifest([*records, make_record(2, [])], "multilabel")
    step = Relabel(id=records[1].id, was=("sun",), labels=("sea",))
    changed = apply_plan(manifest, Plan(relabel=(step,)))
    assert changed.label_space.names == ("sea",)
    np.testing.assert_array_equal(changed.targets(), [[1], [1], [0]])


# Splits and sampling


def _records(targets: Targets) -> Manifest:
    """A manifest of these targets over TAGS."""
    records = [
        make_record(
            position,
            [name for name, value in zip(TAGS, row, strict=True) if value == 1],
            unknown=[name for name, value in zip(TAGS, row, strict=True) if value == UNKNOWN],
        )
        for position, row in enumerate(targets)
    ]
    return Manifest(tuple(records), SPACE, Path("data"))


def test_split_spreads_yes_no_and_unknown_evenly() -> None:
    # A tenth of the pictures is annotated for fog, and few of these have it.
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 3)) < (0.15, 0.4, 0.5)).astype(np.int64)
    targets[rng.random(400) < 0.9, 0] = UNKNOWN
    manifest = _records(targets)
    for seed in range(5):
        split = ensure_split(manifest, validation=0.2, test=0.2, seed=seed).manifest
        np.testing.assert_array_equal(split.targets(), manifest.targets())
        for part in ("train", "validation", "test"):
            found = split.part(part).targets()  # type: ignore[arg-type]
            for value in (0, 1, UNKNOWN):
                wanted = (targets == value).sum(axis=0) * len(found) / len(targets)
                assert np.abs((found == value).sum(axis=0) - wanted).max() <= 2


@pytest.mark.parametrize("strategy", ["weighted-sampler", "oversample"])
def test_unknown_entry_is_sampled_like_a_picture_without_the_tag(strategy: Any) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 3)) < (0.05, 0.1, 0.2)).astype(np.int64)  # most have no tag
    masked = np.where((targets == 0) & (rng.random(targets.shape) < 0.5), UNKNOWN, targets)
    manifest = _records(targets)
    config = taxon.config.ImbalanceConfig(strategy=(strategy,))
    plan = choose(config, manifest.counts(), "multilabel", pictures=200)
    one, other = (plan_epoch(each, plan, seed=0, epoch=1) for each in (targets, masked))
    np.testing.assert_array_equal(one.positions, other.positions)


# Metrics and decisions


def _case(seed: int, pictures: int = 60, share: float = 0.3) -> tuple[Targets, Targets, Any]:
    """Targets, the same with unknown entries, and a table of predictions."""
    rng = np.random.default_rng(seed)
    full = (rng.random((pictures, 3)) < (0.3, 0.5, 0.6)).astype(np.int64)
    masked = np.where(rng.random(full.shape) < share, UNKNOWN, full)
    logits = (2 * full - 1 + 1.5 * rng.normal(size=full.shape)).astype(np.float32)
    policy = DecisionPolicy.default(SPACE)
    ids = tuple(f"{row}.png" for row in range(pictures))
    probabilities = calibrate(logits, policy, "multilabel")
    return full, masked, PredictionTable(ids, TAGS, logits, probabilities)


def _metrics(table: PredictionTable, targets: Targets) -> Metrics:
    return compute_metrics(table, targets, SPACE, DecisionPolicy.default(SPACE), about={})


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.8]))
@property_test
def test_figures_equal_scikit_learn_on_the_known_rows(seed: int, share: float) -> None:
    _, targets, table = _case(seed, share=share)
    metrics = _metrics(table, targets)
    truths, answers, scores = [], [], []
    for column, name in enumerate(TAGS):
        rows = targets[:, column] != UNKNOWN
        truth, score = targets[rows, column], table.probabilities[rows, column]
        named = (score >= 0.5).astype(int)
        entry = metrics.per_class[name]
        assert entry.support == truth.sum()
        assert entry.unknown == (~rows).sum()
        truths.append(truth), answers.append(named), scores.append(score)
        if not truth.any():
            assert entry.f1.value is None
            continue
        assert entry.f1.value == pytest.approx(sk.f1_score(truth, named, zero_division=0))
        assert entry.recall.value == pytest.approx(sk.recall_score(truth, named))
        if named.any():
            assert entry.precision.value == pytest.approx(sk.precision_score(truth, named))
        average = sk.average_precision_score(truth, score)
        assert metrics.average_precision.per_class[name].value == pytest.approx(average)
        auc = metrics.auc_roc.per_class[name]
        if truth.all():
            assert auc.value is None
        else:
            assert auc.value == pytest.approx(sk.roc_auc_score(truth, score))
    truth, named, score = map(np.concatenate, (truths, answers, scores))
    micro = metrics.micro_f1.value
    assert micro is None or micro == pytest.approx(sk.f1_score(truth, named, zero_division=0))
    loss = sk.log_loss(truth, score.astype(np.float64), labels=[0, 1])
    assert metrics.log_loss.value == pytest.approx(loss)
    brier = metrics.calibration.brier.value
    assert brier == pytest.approx(np.mean((score.astype(np.float64) - truth) ** 2))
    assert reliability_bins(targets, table.probabilities).counts.sum() == len(truth)
    macro = [entry.f1.value for entry in metrics.per_class.values() if entry.f1.value is not None]
    assert metrics.macro_f1.value == pytest.approx(np.mean(macro))


@given(st.integers(0, 10**6))
@property_test
def test_what_is_predicted_at_unknown_entries_changes_no_figure(seed: int) -> None:
    _, targets, table = _case(seed)
    noise = np.random.default_rng(seed).random(targets.shape).astype(np.float32)
    probabilities = np.where(targets == UNKNOWN, noise, table.probabilities)
    logits = np.where(targets == UNKNOWN, 9 * noise, table.logits).astype(np.float32)
    other = replace(table, probabilities=probabilities, logits=logits)
    metrics = _metrics(table, targets)
    assert _metrics(other, targets) == metrics
    assert headline("multilabel", targets, probabilities) == headline(
        "multilabel", targets, table.probabilities
    )
    fitted = [fit_policy(_part(each, targets), DecisionConfig()) for each in (table, other)]
    assert fitted[0] == fitted[1]
    space = LabelSpace.flat("multilabel", table.names)
    found = [
        confident_mistakes(each, targets, space, DecisionPolicy.default(space))
        for each in (table, other)
    ]
    assert found[0] == found[1]


def test_class_with_unknown_rows_has_the_figures_and_intervals_of_the_others_alone() -> None:
    _, targets, table = _case(3, pictures=200)
    targets = np.column_stack([targets[:, 0], np.full((200, 2), UNKNOWN)])
    rows = np.flatnonzero(targets[:, 0] != UNKNOWN)
    alone = PredictionTable(
        tuple(table.ids[row] for row in rows), table.names, table.logits[rows],
        table.probabilities[rows],
    )  # fmt: skip
    masked, dropped = _metrics(table, targets), _metrics(alone, targets[rows])
    for name in ("auc_roc", "average_precision"):
        one, other = (getattr(each, name).per_class["fog"] for each in (masked, dropped))
        assert one.value == other.value
        assert one.ci95 == pytest.approx(other.ci95, abs=0.03)  # of other resamples
    assert masked.per_class["fog"].f1.value == dropped.per_class["fog"].f1.value
    assert masked.log_loss.value == pytest.approx(dropped.log_loss.value)
    assert masked.log_loss.ci95 == pytest.approx(dropped.log_loss.ci95, abs=0.03)
    assert masked.per_class["sea"].f1.value is None
    assert masked.per_class["sea"].unknown == 200


@pytest.mark.filterwarnings("error")
def test_nothing_known_at_all_is_undefined_and_no_crash() -> None:
    _, _, table = _case(0)
    metrics = _metrics(table, np.full((60, 3), UNKNOWN))
    figures = [metrics.macro_f1, metrics.micro_f1, metrics.log_loss, metrics.auc_roc.macro]
    figures += [metrics.calibration.ece, metrics.calibration.brier]
    assert [figure.value for figure in figures] == [None] * 6
    assert selection_score("multilabel", np.full((60, 3), UNKNOWN), table.probabilities) == 0


def _part(table: PredictionTable, targets: np.ndarray) -> CalibrationPart:
    return CalibrationPart("validation", table.logits, targets, SPACE, np.arange(len(targets)))


def test_policy_of_a_tag_is_fitted_on_its_known_pictures() -> None:
    """Whatever the logits of a tag are where it is unknown, nothing of the policy changes."""
    _, targets, table = _case(5, pictures=300)
    config = DecisionConfig(abstain_risk=0.6)
    fitted = fit_policy(_part(table, targets), config).policy
    wild = np.where(targets == UNKNOWN, 50, table.logits).astype(np.float32)
    other = fit_policy(_part(replace(table, logits=wild), targets), config).policy
    assert (fitted.scale, fitted.bias) == (other.scale, other.bias)
    assert fitted.thresholds == other.thresholds
    few = np.where(np.arange(300)[:, None] < 8, targets, UNKNOWN)
    notes = fit_policy(_part(table, few), DecisionConfig()).notes
    assert any("fewer than 10 examples" in note for note in notes)


# Probe and audit


def test_probe_learns_a_tag_from_its_known_pictures_alone() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 2)) < 0.5).astype(np.int64)
    features = np.hstack([truth, rng.normal(size=(300, 6))]).astype(np.float32)
    targets = truth.copy()
    hidden = rng.random(300) < 0.5
    targets[hidden, 0] = UNKNOWN
    groups = np.arange(300)
    found = out_of_fold_probabilities(features, targets, groups, classes=2, seed=0)
    # Taken for a no, the hidden half would halve what the probe says of a yes.
    assert found[truth[:, 0] == 1, 0].min() > 0.5 > found[truth[:, 0] == 0, 0].max()
    # Features of pictures that are unknown teach nothing (all pictures together set the scale).
    features[hidden, 1:] = features[hidden, 1:][::-1]
    again = out_of_fold_probabilities(features, targets, groups, classes=2, seed=0)
    np.testing.assert_allclose(again[~hidden, 0], found[~hidden, 0], atol=1e-4)
    targets[hidden, 0] = 0
    taught = out_of_fold_probabilities(features, targets, groups, classes=2, seed=0)
    assert np.abs(taught[~hidden, 0] - found[~hidden, 0]).max() > 0.1
    nothing = np.full((20, 1), UNKNOWN)
    empty = out_of_fold_probabilities(features[:20], nothing, groups[:20], classes=1, seed=0)
    assert not empty.any()


def test_label_issues_doubt_no_unknown_tag_and_keep_it_unknown() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < 0.5).astype(np.int64)
    said = np.clip(0.98 * truth + 0.01, 0, 1).astype(np.float32)
    targets = truth.copy()
    targets[:40, 0] = UNKNOWN
    said[:40, 0] = rng.random(40)
    targets[10, 1] = 1 - targets[10, 1]  # the one mistake
    manifest = _records(targets)
    (finding,) = find_label_issues(manifest, said)
    assert finding.record_ids == (manifest.records[10].id,)
    (step,) = finding.plan.relabel
    assert step.was == manifest.records[10].marked
    right = _records(np.where(targets == UNKNOWN, UNKNOWN, truth)).records[10]
    assert set(step.labels) == set(right.marked)
    assert "?fog" in step.labels
    accepted = Plan(relabel=(step.model_copy(update={"accept": True}),))
    assert apply_plan(manifest, accepted).records[10].marked == right.marked


def test_copies_contradict_where_one_is_known_to_have_what_the_other_lacks() -> None:
    def findings(*pair: tuple[list[str], list[str]]) -> set[str]:
        records = [make_record(9, ["fog"]), make_record(8, ["sea"]), make_record(7, ["sun"])]
        records += [
            make_record(position, labels, unknown=unknown, content="same")
            for position, (labels, unknown) in enumerate(pair)
        ]
        report = run_audit(Manifest(tuple(records), SPACE, Path("data")))
        return {finding.check for finding in report.findings}

    assert "contradicting_labels" not in findings((["sea"], ["sun"]), (["sea", "sun"], []))
    assert "contradicting_labels" not in findings((["sea"], ["sun"]), (["sun"], ["sea", "fog"]))
    assert "contradicting_labels" in findings((["sea"], []), (["sea", "sun"], []))
    assert "contradicting_labels" in findings((["sea"], ["fog"]), (["sun"], ["sea"]))


def test_of_equal_files_the_one_that_knows_most_is_kept() -> None:
    records = [
        make_record(0, ["sea"], unknown=["fog", "sun"], content="same"),
        make_record(1, ["sea"], unknown=["sun"], content="same"),
        *(make_record(position, [TAGS[position % 3]]) for position in range(2, 20)),
    ]
    report = run_audit(Manifest(tuple(records), SPACE, Path("data")))
    (finding,) = [each for each in report.findings if each.check == "equal_files"]
    assert [step.id for step in finding.plan.drop] == [records[0].id]


# The whole way


@pytest.fixture(scope="module")
def sparse_tags(tags: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Columns]:
    """The generated pictures with columns of 0 and 1, a quarter of the cells empty."""
    with (tags / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    column = next(name for name in ("labels", "tags") if name in rows[0])
    names = sorted({tag for row in rows for tag in row[column].split("|") if tag})
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("sparse") / "sparse.csv"
    cells = [
        (
            row["path"],
            *(
                "" if rng.random() < 0.25 else str(int(name in row[column].split("|")))
                for name in names
            ),
        )
        for row in rows
    ]
    write_table(path, ("path", *names), cells, pictures=False)
    return path, Columns(tags=tuple(names), image_root=tags)


@pytest.mark.usefixtures("without_export")
def test_training_and_evaluation_of_a_table_with_unknown_cells(
    sparse_tags: tuple[Path, Columns], tmp_path: Path
) -> None:
    path, columns = sparse_tags
    heard: list[str] = []
    model = taxon.train(
        path,
        out=tmp_path / "run",
        model="test_convnext",
        weights="none",
        epochs=2,
        columns=columns,
        overrides=[
            "preprocessing.size=32", "loss.multilabel=asymmetric", "augment.mixup=0.3",
            "imbalance.strategy=class-weights",
        ],
        device="cpu",
        listener=lambda event: heard.append(str(event)),
    )  # fmt: skip
    assert any("annotations (2" in said and "are unknown" in said for said in heard)
    manifest = read_manifest(model.path / "manifest.parquet")
    assert (
        manifest.fingerprint
        == json.loads((model.path / "bundle.json").read_text())["provenance"]["data_fingerprint"]
    )
    result = model.evaluate()
    test = manifest.part("test")
    known = (test.targets() != UNKNOWN).sum(axis=0)
    for column, name in enumerate(columns.tags):
        entry = result.metrics.per_class[name]
        assert entry.support == (test.targets()[:, column] == 1).sum()
        assert entry.unknown == len(test) - known[column] > 0
    assert Metrics.model_validate_json((model.path / "metrics.json").read_text()) == result.metrics
    assert any("are unknown: no figure counts them" in note for note in result.notes)
    assert "of the annotations are unknown" in result.report.read_text()
    other = model.evaluate(path, columns=columns, split="all", out=tmp_path / "all")
    assert other.metrics.n == len(manifest)
    assert sum(entry.unknown for entry in other.metrics.per_class.values()) == sum(
        len(record.unknown) for record in manifest.records
    )
