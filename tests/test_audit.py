"""The audit: each check fires on data made for it, and is silent on clean data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import encode, make_classes, make_manifest, make_record, pattern, plain, write_folders

from taxon.auditing import (
    CHECKS,
    AuditReport,
    Finding,
    find_label_issues,
    out_of_fold_probabilities,
    quick_findings,
    run_audit,
    text_lines,
)
from taxon.auditing.balance import FEW_PICTURES, HIGH_IMBALANCE
from taxon.auditing.leakage import estimate_optimism
from taxon.auditing.run import QUICK
from taxon.core.errors import ConfigError, DataError, ImageProblem
from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import FloatArray
from taxon.data import Manifest, Record, Skipped, load_manifest
from taxon.data.look import Look
from taxon.data.manifest import Split
from taxon.data.plan import Plan, apply_plan
from taxon.preprocessing import Preprocessing

CLEAN = make_classes({"a": 300, "b": 320})
ALL_SIZES = Preprocessing(resize="squash")


def look(seed: int, **changes: Any) -> Look:
    """A look at an ordinary picture; another seed makes another one."""
    rng = np.random.default_rng(seed)
    colour = tuple(float(value) for value in rng.uniform(0.3, 0.6, 3))
    values: dict[str, Any] = {
        "sha256": "",
        "file_size": int(rng.integers(40_000, 60_000)),
        "format": "JPEG",
        "mode": "RGB",
        "width": int(rng.integers(380, 420)),
        "height": int(rng.integers(380, 420)),
        "camera": None,
        "truncated": False,
        "brightness": float(rng.uniform(0.4, 0.6)),
        "contrast": float(rng.uniform(0.15, 0.25)),
        "sharpness": float(np.exp(rng.normal(6, 0.4))),
        "mean_colour": colour,
        "border_colour": tuple(float(value) for value in rng.uniform(0.3, 0.6, 3)),
        "hash": int(rng.integers(0, 2**63)) * 2 + int(rng.integers(0, 2)),
        "thumbnail": rng.integers(0, 256, 256, np.uint8).tobytes(),
    }
    return Look(**{**values, **changes})


def seen(record: Record, seed: int, **changes: Any) -> Record:
    """The record as after a look into an ordinary picture."""
    found = look(seed, sha256=record.sha256, **changes)
    return replace(
        record,
        id=str(Path(record.id).with_suffix(".jpg")),
        width=found.width,
        height=found.height,
        mode=found.mode,
        file_size=found.file_size,
        hash=found.hash,
        look=found,
    )


def ordinary(
    counts: dict[str, int], change: Callable[[int, str], dict[str, Any]] = lambda *_: {}
) -> Manifest:
    """Ordinary pictures of some classes; `change` (position, class) alters their looks."""
    manifest = make_classes(counts)
    return replace(
        manifest,
        records=tuple(
            seen(record, position, **change(position, record.labels[0]))
            for position, record in enumerate(manifest.records)
        ),
    )


def in_parts(manifest: Manifest, parts: Sequence[Split] = ("train", "train", "test")) -> Manifest:
    return manifest.with_splits([parts[row % len(parts)] for row in range(len(manifest))])


def with_records(manifest: Manifest, *records: Record) -> Manifest:
    return replace(manifest, records=(*manifest.records, *records))


def told_apart(manifest: Manifest, distance: float, seed: int = 0, size: int = 16) -> FloatArray:
    """Features with a cluster for each class, `distance` standard deviations apart."""
    rng = np.random.default_rng(seed)
    truth = manifest.targets()
    if truth.ndim == 1:
        truth = np.eye(len(manifest.label_space.names), dtype=np.int64)[truth]
    centres = np.zeros((truth.shape[1], size))
    centres[:, : truth.shape[1]] = np.eye(truth.shape[1]) * distance
    return (truth @ centres + rng.normal(size=(len(truth), size))).astype(np.float32)


def findings_of(manifest: Manifest, **options: Any) -> dict[str, Finding]:
    findings = run_audit(manifest, spec=ALL_SIZES, **options).findings
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def quick_findings_of(manifest: Manifest, **options: Any) -> dict[str, Finding]:
    """The same without the checks that cross-validate, which take most of the time."""
    return findings_of(manifest, checks=QUICK, **options)


# Clean data -----------------------------------------------------------------------------------


def test_clean_data_have_no_findings() -> None:
    manifest = in_parts(ordinary({"a": 300, "b": 320}), ("train", "validation", "test"))
    report = run_audit(manifest, features=told_apart(manifest, 9.0), features_from="clusters")
    assert report.findings == ()
    assert report.not_run == {}
    assert set(CHECKS) < set(report.ran)
    assert "Nothing was found" in text_lines(report)[-1]


def test_records_that_nobody_looked_into_are_checked_as_far_as_possible() -> None:
    report = run_audit(CLEAN)
    assert report.findings == ()
    assert {"quality", "shortcuts", "label issues", "drift"} == set(report.not_run)
    assert all(report.not_run.values())
    assert report.sizes is None


def test_report_survives_json() -> None:
    manifest = in_parts(ordinary({"a": 40, "b": 12}))
    report = run_audit(manifest, features=told_apart(manifest, 3.0))
    assert report.findings
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_same_seed_gives_the_same_report() -> None:
    manifest = in_parts(ordinary({"a": 60, "b": 30}))
    first, second = (run_audit(manifest, features=told_apart(manifest, 1.5)) for _ in range(2))
    assert first.findings == second.findings


def test_errors_come_first_and_the_verdict_counts_them() -> None:
    pair = [make_record(900, "a", content="same"), make_record(901, "b", content="same")]
    report = run_audit(make_manifest([*make_classes({"a": 90, "b": 19}).records, *pair]))
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    lines = text_lines(report)
    assert lines[1].startswith("error    contradicting_labels: ")
    assert lines[-1].startswith(f"1 error, {report.count('warning')} warning")


def test_subset_of_the_checks() -> None:
    report = run_audit(make_classes({"a": 300, "b": 10}), checks=["balance"])
    assert {finding.check for finding in report.findings} == {"small_classes", "imbalance"}
    assert set(report.ran) == {"search for near-duplicates", "balance"}


def test_unknown_check_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no check 'ballance'.*Did you mean 'balance'"):
        run_audit(CLEAN, checks=["ballance"])


def test_features_of_other_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows of features for 620 pictures"):
        run_audit(CLEAN, features=np.zeros((2, 4), np.float32))


def test_quick_findings_are_those_of_the_quick_checks() -> None:
    manifest = replace(make_classes({"a": 300, "b": 10}), skipped=(Skipped("x", "-", "empty"),))
    expected = run_audit(manifest, checks=QUICK).findings
    assert quick_findings(manifest) == expected
    assert {"empty_files", "small_classes"} <= {finding.check for finding in expected}


def test_reason_for_missing_features_is_given() -> None:
    report = run_audit(CLEAN, features_from="no weights on this machine")
    assert report.not_run["label issues"] == "no weights on this machine"
    assert report.about.features_from == ""


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("missing", "missing_files"),
        ("empty", "empty_files"),
        ("truncated", "truncated"),
        ("damaged", "damaged"),
        ("format", "unknown_format"),
        ("too-large", "too_large"),
        ("changed", "changed"),
        ("name", "unusable_names"),
        ("row", "rows_passed_over"),
    ],
)
def test_what_was_left_out_is_listed_with_its_reason(kind: ImageProblem, check: str) -> None:
    rows = (Skipped("x.png", "for a reason", kind), Skipped("y.png", "another", kind))
    finding = quick_findings_of(replace(CLEAN, skipped=rows))[check]
    assert finding.severity == "warning"
    assert finding.record_ids == ("x.png", "y.png")
    assert finding.details == ("for a reason", "another")
    assert finding.score == 2
    assert "x.png: for a reason" in finding.advice


SMALL, LARGE = "9000x10000 is over the limit", "400000000 pixels, over the limit of 89478485 pixels"


@pytest.mark.parametrize(
    ("reasons", "said", "options"),
    [
        ([SMALL], "Make it smaller, or allow more if it is meant (--max-pixels 90000000;", True),
        ([LARGE], "Make it smaller: above 178,956,970 pixels, or 1 GB of file, no option", False),
        (["20000x20000 is over the limit"], "Make it smaller: above 178,956,970", False),
        (["the file has 2,000,000,000 bytes"], "Make it smaller: above 178,956,970", False),
        ([SMALL, LARGE], "Make them smaller, or allow 1 of them if it is meant (--max-", True),
    ],
)
def test_advice_on_pictures_that_are_too_large_can_be_followed(
    reasons: Sequence[str], said: str, options: bool
) -> None:
    rows = tuple(Skipped(f"{n}.png", reason, "too-large") for n, reason in enumerate(reasons))
    advice = quick_findings_of(replace(CLEAN, skipped=rows))["too_large"].advice
    assert said in advice
    assert ("--max-pixels" in advice and "preprocessing.max_pixels=90000000" in advice) is options


def test_limit_that_the_advice_names_is_that_of_the_look(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "large.png").write_bytes(encode(plain(400, 300, (9, 9, 9))))
    manifest = load_manifest(tmp_path, spec=Preprocessing(max_pixels=100_000))
    advice = quick_findings_of(manifest)["too_large"].advice
    assert "--max-pixels 120000;" in advice
    assert not load_manifest(tmp_path, spec=Preprocessing(max_pixels=120_000)).skipped


@pytest.mark.parametrize(("count", "said"), [(1, "Fetch it again."), (2, "Fetch them again.")])
def test_one_file_is_not_called_them(count: int, said: str) -> None:
    rows = tuple(Skipped(f"{n}.png", "empty", "empty") for n in range(count))
    advice = quick_findings_of(replace(CLEAN, skipped=rows))["empty_files"].advice
    assert advice.endswith(said)
    assert ("(say " in advice) is (count > 1)


def test_many_unreadable_pictures_are_an_error() -> None:
    rows = tuple(Skipped(f"{n}.png", "ends early", "truncated") for n in range(100))
    assert quick_findings_of(replace(CLEAN, skipped=rows))["truncated"].severity == "error"


def test_pictures_that_a_plan_dropped_are_but_mentioned() -> None:
    manifest = replace(CLEAN, skipped=(Skipped("x.png", "plan: bad", "plan"),))
    assert quick_findings_of(manifest)["dropped_by_plan"].severity == "info"


def test_filled_pictures_may_be_dropped() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda row, _: {"truncated": row == 5})
    finding = quick_findings_of(manifest)["filled"]
    assert finding.record_ids == ("00005.jpg",)
    assert "00005.jpg" not in {record.id for record in finding.apply(manifest).records}


def test_wrong_suffix_is_named() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda row, _: {"format": "PNG"} if row == 3 else {})
    finding = quick_findings_of(manifest)["wrong_suffix"]
    assert finding.record_ids == ("00003.jpg",)
    assert finding.details == (".jpg holds PNG",)


# Shapes and quality ---------------------------------------------------------------------------


def test_tiny_pictures_come_smallest_first() -> None:
    sizes = {7: (20, 300), 9: (12, 12)}

    def change(row: int, _: str) -> dict[str, Any]:
        width, height = sizes.get(row, (400, 400))
        return {"width": width, "height": height}

    findings = quick_findings_of(ordinary({"a": 300, "b": 300}, change))
    assert findings["tiny"].record_ids == ("00009.jpg", "00007.jpg")
    assert findings["tiny"].details == ("12x12", "20x300")
    assert findings["extreme_aspect"].record_ids == ("00007.jpg",)


def test_strips_are_not_extreme_where_all_pictures_are_strips() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda *_: {"width": 1200, "height": 300})
    assert "extreme_aspect" not in quick_findings_of(manifest)


def test_centre_crop_that_loses_much_is_reported() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda *_: {"width": 900, "height": 300})
    report = run_audit(manifest, spec=Preprocessing(resize="crop", crop_fraction=1.0))
    (finding,) = (finding for finding in report.findings if finding.check == "centre_crop")
    assert finding.severity == "warning"
    assert finding.score == pytest.approx(2 / 3)
    assert "66.7 %" in finding.advice and "squash" in finding.advice
    assert report.sizes is not None and report.sizes.cut_away is not None
    assert report.sizes.cut_away.median == pytest.approx(2 / 3)


def test_squashed_pictures_lose_nothing() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda *_: {"width": 900, "height": 300})
    report = run_audit(manifest, spec=ALL_SIZES)
    assert "centre_crop" not in {finding.check for finding in report.findings}
    assert report.sizes is not None and report.sizes.cut_away is None


def test_small_pictures_are_mentioned_where_the_model_is_larger() -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda *_: {"width": 64, "height": 64})
    large = Preprocessing(height=224, width=224, resize="squash")
    small = Preprocessing(height=64, width=64, resize="squash")
    assert [finding.check for finding in run_audit(manifest, spec=large).findings].count("enlarged")
    assert "enlarged" not in [finding.check for finding in run_audit(manifest, spec=small).findings]


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("very_dark", {"brightness": 0.03, "contrast": 0.03}),
        ("very_bright", {"brightness": 0.98, "contrast": 0.03}),
        ("blurred", {"sharpness": 5.0}),
        ("constant", {"contrast": 0.001, "sharpness": 0.2}),
        ("mixed_modes", {"mode": "I;16"}),
        ("mixed_modes", {"mode": "CMYK"}),
        ("mixed_modes", {"mode": "RGBA"}),
    ],
)
def test_odd_picture_among_ordinary_ones(check: str, changes: dict[str, Any]) -> None:
    manifest = ordinary({"a": 300, "b": 300}, lambda row, _: changes if row == 17 else {})
    findings = quick_findings_of(manifest)
    assert set(findings) == {check}
    assert findings[check].record_ids == ("00017.jpg",)
    assert findings[check].details[0]


@pytest.mark.parametrize(
    "changes", [{"brightness": 0.05, "contrast": 0.03}, {"sharpness": 8.0}, {"mode": "I;16"}]
)
def test_what_all_pictures_have_is_not_odd(changes: dict[str, Any]) -> None:
    assert quick_findings_of(ordinary({"a": 300, "b": 300}, lambda *_: changes)) == {}


# Duplicates -----------------------------------------------------------------------------------


def test_equal_files_are_listed_with_their_share_and_dropped_but_one() -> None:
    copies = [make_record(900 + position, "a", content="same") for position in range(3)]
    copies += [make_record(910 + position, "b", content="other") for position in range(2)]
    manifest = make_manifest([*CLEAN.records, *copies])
    findings = quick_findings_of(manifest)
    assert list(findings) == ["equal_files"]
    finding = findings["equal_files"]
    assert finding.severity == "info"
    assert finding.record_ids == tuple(record.id for record in copies)
    assert finding.groups == (finding.record_ids[:3], finding.record_ids[3:])
    assert finding.score == pytest.approx(3 / 625)  # 2 and 1 add nothing
    assert finding.advice.startswith("3 pictures are copies of others, byte for byte")
    kept = {record.id for record in finding.apply(manifest).records}
    assert kept & set(finding.record_ids) == {copies[0].id, copies[3].id}


def test_one_copy_is_told_in_the_singular() -> None:
    pair = [make_record(900 + position, "a", content="same") for position in range(2)]
    assert quick_findings_of(make_manifest([*CLEAN.records, *pair]))["equal_files"].advice == (
        "1 picture is a copy of another, byte for byte; a split by taxon keeps both together, but "
        "it adds nothing: leave it out."
    )


def test_of_copies_in_several_parts_the_one_that_measures_stays() -> None:
    pair = [
        make_record(900, "a", content="same", split="train"),
        make_record(901, "a", content="same", split="test"),
    ]
    manifest = with_records(in_parts(CLEAN), *pair)
    kept = quick_findings_of(manifest)["equal_files"].apply(manifest)
    assert {record.id for record in kept.records} & {"00900.png", "00901.png"} == {"00901.png"}


def test_same_file_under_two_labels_contradicts() -> None:
    pair = [make_record(900, "a", content="same"), make_record(901, "b", content="same")]
    findings = quick_findings_of(make_manifest([*CLEAN.records, *pair]))
    finding = findings["contradicting_labels"]
    assert finding.severity == "error"
    assert finding.record_ids == (pair[0].id, pair[1].id)
    assert finding.details == ("a", "b")
    assert finding.score == 1
    assert pair[0].id in finding.advice and pair[1].id in finding.advice
    assert not findings["equal_files"].plan  # a person decides which is right


@pytest.mark.parametrize(("tags", "contradicts"), [(("y", "x"), False), (("x",), True)])
def test_same_file_with_tags(tags: tuple[str, ...], contradicts: bool) -> None:
    tagged = [make_record(n, ("x", "y")) for n in range(300)]
    pair = [make_record(900, ("x", "y"), content="same"), make_record(901, tags, content="same")]
    found = quick_findings_of(make_manifest([*tagged, *pair], "multilabel"))
    assert ("contradicting_labels" in found) is contradicts


def _near_pair(manifest: Manifest, labels: tuple[str, str], *parts: Split) -> Manifest:
    """Add two pictures that look nearly the same."""
    rows = np.linspace(0, 230, 16)
    tones = (rows[:, None] * 0.6 + rows[None, :] * 0.3 + 20 * np.sin(rows[None, :])).clip(0, 240)
    grey = tones.astype(np.uint8)
    pair = [
        seen(make_record(900 + n, label), 900, hash=0xABCDEF, thumbnail=(grey + n).tobytes())
        for n, label in enumerate(labels)
    ]
    if parts:
        pair = [replace(record, split=part) for record, part in zip(pair, parts, strict=True)]
    return with_records(manifest, *pair)


def test_near_duplicates_are_grouped_and_the_plan_keeps_them_together() -> None:
    manifest = _near_pair(ordinary({"a": 300, "b": 300}), ("a", "a"))
    findings = quick_findings_of(manifest)
    assert set(findings) == {"near_duplicates"}
    assert findings["near_duplicates"].groups == (("00900.jpg", "00901.jpg"),)
    regrouped = findings["near_duplicates"].apply(manifest)
    groups = {record.id: record.group for record in regrouped.records}
    assert groups["00900.jpg"] is not None
    assert groups["00900.jpg"] == groups["00901.jpg"]
    assert groups["00000.jpg"] is None


def test_near_duplicates_under_two_labels() -> None:
    findings = quick_findings_of(_near_pair(ordinary({"a": 300, "b": 300}), ("a", "b")))
    assert findings["contradicting_near_duplicates"].severity == "warning"
    assert findings["contradicting_near_duplicates"].details == ("a", "b")


@pytest.mark.parametrize(
    "other", ["T-Shirt", "t-shirt ", "t  shirt", "t_shirt", "ｔ-shirt"]
)  # the last with a full-width letter
def test_classes_that_are_one_class_spelt_twice(other: str) -> None:
    manifest = make_classes({"t-shirt": 300, other: 20, "dress": 300})
    finding = quick_findings_of(manifest)["similar_class_names"]
    assert finding.severity == "error"
    assert f"'{other}'" in finding.advice
    assert finding.apply(manifest).counts() == {"t-shirt": 320, "dress": 300}


@pytest.mark.parametrize("pair", [("-1", "1"), ("A-", "A"), ("step -1", "step 1"), ("A+", "A")])
def test_signs_are_no_hyphens_between_words(pair: tuple[str, str]) -> None:
    assert quick_findings_of(make_classes(dict.fromkeys(pair, 300))) == {}


def test_parents_of_a_taxonomy_spelt_twice() -> None:
    space = LabelSpace.taxonomy([("Fruit", "apple"), ("fruit", "pear"), ("tools", "saw")])
    records = [make_record(n, space.names[n % 3]) for n in range(900)]
    findings = quick_findings_of(Manifest(tuple(records), space, Path("data")))
    assert set(findings) == {"similar_class_names"}
    assert not findings["similar_class_names"].plan  # the leaves are different classes


# Leakage --------------------------------------------------------------------------------------


def test_copy_in_another_part_is_leaked() -> None:
    pair = [
        make_record(900, "a", content="same", split="train"),
        make_record(901, "a", content="same", split="test"),
    ]
    findings = quick_findings_of(with_records(in_parts(CLEAN), *pair))
    assert set(findings) == {"equal_files", "leaked_files"}
    assert findings["leaked_files"].severity == "error"
    assert findings["leaked_files"].record_ids == (pair[0].id, pair[1].id)
    assert findings["leaked_files"].details == ("train", "test")
    assert findings["leaked_files"].score == pytest.approx(2 / 622)


def test_copy_in_the_same_part_is_not_leaked() -> None:
    pair = [make_record(900 + n, "a", content="same", split="test") for n in range(2)]
    assert set(quick_findings_of(with_records(in_parts(CLEAN), *pair))) == {"equal_files"}


def test_group_in_two_parts_is_leaked() -> None:
    group = [
        make_record(900, "a", group="patient", split="train"),
        make_record(901, "b", group="patient", split="train"),
        make_record(902, "b", group="patient", split="test"),
    ]
    findings = quick_findings_of(with_records(in_parts(CLEAN), *group))
    assert set(findings) == {"leaked_groups"}
    assert findings["leaked_groups"].record_ids == tuple(record.id for record in group)


def test_group_in_one_part_is_not_leaked() -> None:
    group = [make_record(900 + n, "a", group="patient", split="train") for n in range(3)]
    assert quick_findings_of(with_records(in_parts(CLEAN), *group)) == {}


def test_group_and_copies_without_a_split_are_not_leaked() -> None:
    records = [make_record(900 + n, "a", group="patient", content="same") for n in range(3)]
    assert set(quick_findings_of(with_records(CLEAN, *records))) == {"equal_files"}


def test_near_duplicates_in_two_parts_are_leaked() -> None:
    manifest = _near_pair(in_parts(ordinary({"a": 300, "b": 300})), ("a", "a"), "train", "test")
    finding = quick_findings_of(manifest)["leaked_near_duplicates"]
    assert finding.record_ids == ("00900.jpg", "00901.jpg")
    assert finding.plan


def _leaking(share: float, seed: int) -> tuple[Manifest, FloatArray]:
    """Pictures whose features say nothing of their class, some in both train and test."""
    rng = np.random.default_rng(seed)
    manifest = in_parts(make_classes({"a": 150, "b": 150}), ("train", "test"))
    features = rng.normal(size=(300, 16)).astype(np.float32)
    records = list(manifest.records)
    for row in range(0, 300, 2):
        partner = int(rng.permutation(np.arange(row % 2, 300, 2))[0])
        if rng.random() < share and records[partner].group is None:
            group = f"g{row}"
            records[partner] = replace(records[partner], group=group)
            records[row + 1] = replace(
                records[row + 1], group=group, labels=records[partner].labels
            )
            features[row + 1] = features[partner]
    return replace(manifest, records=tuple(records)), features


def test_optimism_of_leaks_is_found_and_said() -> None:
    manifest, features = _leaking(0.6, seed=0)
    findings = quick_findings_of(manifest, features=features, features_from="noise")
    advice = findings["leaked_groups"].advice
    assert "Scores are about " in advice and " too good (95 % interval " in advice
    assert "a nearest-neighbour classifier on features of noise" in advice


@pytest.mark.parametrize("seed", range(3))
def test_optimism_is_the_difference_that_the_leaks_make(seed: int) -> None:
    from taxon.auditing.evidence import gather

    manifest, features = _leaking(0.6, seed)
    evidence = gather(
        manifest, features=features, features_from="", spec=ALL_SIZES, seed=0, search=False
    )
    groups: dict[str, list[Record]] = {}
    for record in manifest.records:
        if record.group:
            groups.setdefault(record.group, []).append(record)
    found = estimate_optimism(evidence, list(groups.values()))
    assert found is not None and found.part == "test"
    assert 0 < found.low < found.difference < found.high
    assert found.without == pytest.approx(0.5, abs=0.15)  # the features say nothing


def test_groups_that_do_not_help_have_no_optimism() -> None:
    manifest = in_parts(make_classes({"a": 200, "b": 200}), ("train", "test"))
    grouped = replace(
        manifest,
        records=tuple(
            replace(record, group=f"g{row // 2}") if row % 8 < 2 else record
            for row, record in enumerate(manifest.records)
        ),
    )
    noise = np.random.default_rng(3).normal(size=(400, 16)).astype(np.float32)
    advice = quick_findings_of(grouped, features=noise)["leaked_groups"].advice
    assert "There is no sign that it makes scores better" in advice


# Balance --------------------------------------------------------------------------------------


def test_small_classes_are_counted_and_the_smallest_is_named() -> None:
    manifest = make_classes({"a": FEW_PICTURES - 1, "b": FEW_PICTURES - 2, "c": FEW_PICTURES})
    finding = quick_findings_of(manifest)["small_classes"]
    assert finding.score == FEW_PICTURES - 2
    assert "2 classes" in finding.advice
    assert f"'b' with {FEW_PICTURES - 2}" in finding.advice


@pytest.mark.parametrize(("largest", "fires"), [(899, False), (900, True), (3000, True)])
def test_imbalance_is_named_from_three_to_one_on(largest: int, fires: bool) -> None:
    findings = quick_findings_of(make_classes({"a": largest, "b": 300}))
    assert set(findings) == ({"imbalance"} if fires else set())
    if fires:
        assert findings["imbalance"].score == largest / 300 >= HIGH_IMBALANCE
        assert "'a'" in findings["imbalance"].advice and "'b'" in findings["imbalance"].advice
        assert "--imbalance" in findings["imbalance"].advice


def test_classes_too_small_for_a_split() -> None:
    finding = quick_findings_of(make_classes({"a": 300, "b": 300, "c": 2}))["unsplittable_classes"]
    assert finding.severity == "error"
    assert len(finding.record_ids) == 2
    assert "'c' has 2" in finding.advice


def test_pictures_of_one_group_count_once_for_the_split() -> None:
    together = [make_record(900 + n, "c", group="one") for n in range(30)]
    manifest = make_manifest([*CLEAN.records, *together])
    assert "'c' has 1" in quick_findings_of(manifest)["unsplittable_classes"].advice


def test_class_that_a_part_lacks() -> None:
    alone = [make_record(900 + n, "c", split="test") for n in range(30)]
    finding = quick_findings_of(make_manifest([*in_parts(CLEAN).records, *alone]))["absent_classes"]
    assert finding.severity == "error"
    assert "train has no 'c'" in finding.advice


def test_few_pictures_for_calibration() -> None:
    finding = findings_of(make_classes({"a": 300, "b": 100}))["few_for_calibration"]
    assert finding.severity == "info"
    assert "15 pictures of 'b'" in finding.advice


def test_class_of_the_label_space_without_pictures_does_not_break_the_ratio() -> None:
    space = LabelSpace.flat("multiclass", ["a", "b", "z"])
    findings = findings_of(replace(CLEAN, label_space=space))
    assert (
        list(findings) == ["empty_classes"]
        and "'z' has no picture" in findings["empty_classes"].advice
    )


# Label issues ---------------------------------------------------------------------------------


def _mislabelled(manifest: Manifest, share: float, seed: int = 0) -> tuple[Manifest, set[str]]:
    """Give some pictures another class."""
    rng = np.random.default_rng(seed)
    names = manifest.label_space.names
    wrong = set()
    records = []
    for record in manifest.records:
        if rng.random() < share:
            others = [name for name in names if name not in record.labels]
            record = replace(record, labels=(str(rng.choice(others)),))
            wrong.add(record.id)
        records.append(record)
    return replace(manifest, records=tuple(records)), wrong


def test_planted_label_errors_are_found() -> None:
    truth = make_classes({"a": 200, "b": 200, "c": 200})
    features = told_apart(truth, 6.0)
    manifest, wrong = _mislabelled(truth, 0.06)
    finding = findings_of(manifest, features=features)["label_issues"]
    found = set(finding.record_ids)
    assert len(found & wrong) > 0.85 * len(wrong)
    assert len(found & wrong) > 0.85 * len(found)
    assert finding.severity == "warning"
    assert finding.score == pytest.approx(0.06, abs=0.03)
    assert finding.details[0].startswith("labelled ")
    assert ", looks like " in finding.details[0]


def test_proposals_to_relabel_are_right() -> None:
    truth = make_classes({"a": 200, "b": 200, "c": 200})
    manifest, _ = _mislabelled(truth, 0.06)
    finding = findings_of(manifest, features=told_apart(truth, 6.0))["label_issues"]
    assert 0 < len(finding.plan.relabel) <= len(finding.record_ids)
    assert finding.apply(manifest).records == manifest.records  # proposals wait for a person
    accepted = [step.model_copy(update={"accept": True}) for step in finding.plan.relabel]
    mended = apply_plan(manifest, Plan(relabel=tuple(accepted)))
    right = [
        mine.labels == theirs.labels
        for mine, theirs in zip(mended.records, truth.records, strict=True)
        if mine.id in {change.id for change in finding.plan.relabel}
    ]
    assert sum(right) > 0.9 * len(right)
    assert {change.id for change in finding.plan.relabel} <= set(finding.record_ids)


def test_features_that_do_not_tell_the_classes_judge_no_label() -> None:
    noise = np.random.default_rng(0).normal(size=(620, 16)).astype(np.float32)
    report = run_audit(CLEAN, features=noise)
    assert "label issues" in report.not_run
    assert "label_issues" not in {finding.check for finding in report.findings}


def test_wrong_tags_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = make_manifest(
        (
            make_record(n, tuple(name for name in "xyz" if rng.random() < 0.5) or ("x",))
            for n in range(500)
        ),
        "multilabel",
    )
    features = told_apart(truth, 5.0)
    wrong = {truth.records[row].id for row in rng.choice(500, 20, replace=False)}
    manifest = replace(
        truth,
        records=tuple(
            replace(record, labels=tuple(sorted(set(record.labels) ^ {"y"})))
            if record.id in wrong
            else record
            for record in truth.records
        ),
    )
    finding = findings_of(manifest, features=features)["label_issues"]
    found = set(finding.record_ids)
    assert len(found & wrong) > 0.7 * len(wrong)
    assert len(found & wrong) > 0.8 * len(found)
    detail = finding.details[0]
    assert detail.startswith(("has y, which looks absent", "lacks y, which looks present"))


def test_held_out_probabilities_of_a_model_can_be_used() -> None:
    truth = make_classes({"a": 100, "b": 100})
    manifest, wrong = _mislabelled(truth, 0.05)
    probabilities = np.where(truth.targets()[:, None] == np.arange(2), 0.97, 0.03)
    probabilities = probabilities.astype(np.float32)
    (finding,) = find_label_issues(manifest, probabilities)
    assert set(finding.record_ids) == wrong
    assert find_label_issues(truth, probabilities) == []
    report = run_audit(manifest, probabilities=probabilities)
    assert finding in report.findings


def test_probabilities_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(620, 3\), expected \(620, 2\)"):
        find_label_issues(CLEAN, np.zeros((620, 3), np.float32))


def test_out_of_fold_probabilities_never_saw_the_group() -> None:
    # Features say which group a picture is of, and nothing else; a group has one class.
    records = [
        make_record(n, "ab"[group % 2], group=str(group))
        for n, group in enumerate(np.repeat(np.arange(20), 10).tolist())
    ]
    manifest = make_manifest(records)
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(20, 32)), 10, axis=0).astype(np.float32)
    targets = manifest.targets()
    probabilities = out_of_fold_probabilities(manifest, features)
    assert probabilities.shape == (200, 2)
    assert (probabilities.argmax(axis=1) == targets).mean() < 0.8
    alone = make_manifest([replace(record, group=None) for record in records])
    seen_before = out_of_fold_probabilities(alone, features)
    assert (seen_before.argmax(axis=1) == targets).mean() > 0.95


def test_large_sets_are_judged_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxon.auditing.label_issues.BLOCK", 150)
    features = told_apart(CLEAN, 6.0)
    probabilities = out_of_fold_probabilities(CLEAN, features)
    assert (probabilities.argmax(axis=1) == CLEAN.targets()).mean() > 0.95
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(CLEAN)), abs=1e-4)


# Shortcuts ------------------------------------------------------------------------------------

PLANTED: dict[str, dict[str, Any]] = {
    "file_size": {"file_size": 90_000},
    "resolution": {"width": 500, "height": 420},
    "format": {"mode": "L"},
    "camera": {"camera": "Maker X1"},
    "border_colour": {"border_colour": (0.9, 0.9, 0.9)},
    "mean_colour": {"mean_colour": (0.9, 0.2, 0.2)},
}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in {"camera", "mean_colour"} else pytest.mark.slow)
        for name in PLANTED
    ],
)
def test_planted_shortcut_is_named(family: str) -> None:
    manifest = ordinary(
        {"a": 300, "b": 300, "c": 300}, lambda _, name: PLANTED[family] if name == "b" else {}
    )
    finding = findings_of(manifest)[f"shortcut_{family}"]
    assert finding.severity == "warning"
    assert finding.score > 0.95
    assert finding.advice.startswith("'b' can be told from the rest by")
    labels = {record.id: record.labels for record in manifest.records}
    assert {labels[name] for name in finding.record_ids} == {("b",)}
    assert len(finding.details) == len(finding.record_ids) > 0


@pytest.mark.parametrize("seed", range(3))
def test_no_shortcut_in_random_columns(seed: int) -> None:
    manifest = ordinary(
        {"a": 60, "b": 60, "c": 60, "d": 20},
        lambda row, _: {"camera": ["X1", "X2", None][hash((seed, row)) % 3]},
    )
    shuffled = replace(
        manifest, records=tuple(seen(r, 1000 * seed + n) for n, r in enumerate(manifest.records))
    )
    assert not [name for name in findings_of(shuffled) if name.startswith("shortcut")]


def test_columns_that_go_with_a_group_are_no_shortcut_by_themselves() -> None:
    """Two groups, each of one class and size: that the size tells the class may be chance."""
    manifest = ordinary(
        {"a": 100, "b": 100}, lambda _, name: {"width": 300 if name == "a" else 500, "height": 400}
    )
    grouped = replace(
        manifest, records=tuple(replace(r, group=r.labels[0]) for r in manifest.records)
    )
    assert "shortcut_resolution" in findings_of(manifest)
    assert "shortcut_resolution" not in findings_of(grouped)


def test_shortcut_of_a_tag() -> None:
    tagged = [
        seen(record, n, **({"camera": "Maker X1"} if "x" in record.labels else {}))
        for n, record in enumerate(
            make_record(n, ("x", "y") if n % 3 == 0 else ("y",) if n % 2 else ())
            for n in range(300)
        )
    ]
    finding = findings_of(make_manifest(tagged, "multilabel"))["shortcut_camera"]
    assert "'x' can be told" in finding.advice


# Drift ----------------------------------------------------------------------------------------


def test_drift_between_parts_is_found_on_features() -> None:
    manifest = in_parts(ordinary({"a": 300, "b": 300}))
    features = told_apart(manifest, 3.0)
    features[manifest_rows(manifest, "test")] += 1.0
    finding = findings_of(manifest, features=features)["drift_test"]
    assert finding.severity == "warning"
    assert finding.score > 0.9
    assert "can tell test from train" in finding.advice


def test_drift_is_found_without_features_and_its_column_named() -> None:
    manifest = in_parts(ordinary({"a": 300, "b": 300}))
    records = [
        seen(r, n, brightness=0.2 + 0.001 * (n % 50)) if r.split == "test" else r
        for n, r in enumerate(manifest.records)
    ]
    finding = findings_of(replace(manifest, records=tuple(records)))["drift_test"]
    assert "The brightness differs most: median 0.50 in train, 0.2" in finding.advice


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_no_drift_between_parts_drawn_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    manifest = ordinary({"a": 200, "b": 200})
    parts: list[Split] = ["train" if rng.random() < 0.7 else "test" for _ in manifest.records]
    drawn = manifest.with_splits(parts)
    for features in (None, told_apart(drawn, 2.0, seed)):
        found = findings_of(drawn, features=features)
        assert not [name for name in found if name.startswith(("drift", "label_shift"))]


def test_other_shares_of_the_classes_are_mentioned() -> None:
    records = [
        *make_classes({"a": 300, "b": 300}, "train").records,
        *(make_record(900 + n, "ab"[n % 5 == 0], split="test") for n in range(200)),
    ]
    finding = findings_of(make_manifest(records))["label_shift_test"]
    assert finding.score == pytest.approx(0.3)
    assert "'a': 50.0 % in train, 80.0 % in test" in finding.advice


def manifest_rows(manifest: Manifest, part: Split) -> list[int]:
    return [row for row, record in enumerate(manifest.records) if record.split == part]


# Real files and odd data ----------------------------------------------------------------------


def test_audit_of_real_files_finds_what_is_wrong_with_them(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 20, "test/b": 20})
    source = tmp_path / "train" / "a" / "00.png"
    (tmp_path / "test" / "b" / "00.png").write_bytes(source.read_bytes())
    (tmp_path / "train" / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "train" / "a" / "half.jpg").write_bytes(
        encode(pattern(80, 60, 7), "JPEG", quality=95)[:1500]
    )
    (tmp_path / "train" / "b" / "grey.jpg").write_bytes(encode(plain(80, 80, (90, 90, 90))))
    findings = {f.check: f for f in run_audit(load_manifest(tmp_path)).findings}
    pair = {"train/a/00.png", "test/b/00.png"}
    for check in ("equal_files", "leaked_files", "contradicting_labels"):
        assert set(findings[check].record_ids) == pair
    assert findings["empty_files"].record_ids == ("train/a/empty.png",)
    assert findings["truncated"].record_ids == ("train/a/half.jpg",)
    assert findings["constant"].record_ids == ("train/b/grey.jpg",)
    assert findings["wrong_suffix"].record_ids == ("train/b/grey.jpg",)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_almost_no_pictures(count: int, task: Task) -> None:
    space = LabelSpace.flat(task, ["a", "b"])
    records = tuple(seen(make_record(n, "a"), n) for n in range(count))
    manifest = Manifest(records, space, Path("data"))
    report = run_audit(manifest, features=np.ones((count, 3), np.float32))
    assert report.about.pictures == count
    assert text_lines(report)


def test_pictures_without_any_tag_do_not_break_the_audit() -> None:
    space = LabelSpace.flat("multilabel", ["x"])
    manifest = Manifest((make_record(0, ()), make_record(1, ())), space, Path("data"))
    assert findings_of(manifest) == {}


def test_taxonomy_is_audited(surfaces: Path) -> None:
    manifest = load_manifest(surfaces)
    assert manifest.label_space.is_taxonomy
    report = run_audit(manifest, features=told_apart(manifest, 5.0, size=32))
    assert set(report.class_counts) == set(manifest.label_space.names)
    assert report.not_run == {"drift": report.not_run["drift"]}


SPLIT_CHOICES: list[Split | None] = [None, "train", "validation", "calibration", "test"]


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    task: Task = draw(st.sampled_from(["multiclass", "multilabel"]))
    names = draw(st.sampled_from([("a", "b"), ("a", "A", "b/c"), ("x y", "x_y", "z", "é")]))
    split = draw(st.booleans())
    records = []
    for position in range(draw(st.integers(0, 40))):
        size = 1 if task == "multiclass" else draw(st.integers(0, len(names)))
        record = make_record(
            position,
            draw(st.permutations(names))[:size],
            group=draw(st.sampled_from([None, None, "g1", "g2"])),
            split=draw(st.sampled_from(SPLIT_CHOICES)) if split else None,
            content=str(draw(st.integers(0, 30))),
        )
        if draw(st.integers(0, 9)):
            record = seen(
                record,
                draw(st.integers(0, 5)),
                width=draw(st.sampled_from([1, 30, 400, 20000])),
                mode=draw(st.sampled_from(["RGB", "L", "I;16", "CMYK"])),
                camera=draw(st.sampled_from([None, "X1"])),
                contrast=draw(st.sampled_from([0.0, 0.2])),
                sharpness=draw(st.sampled_from([0.0, 300.0])),
                brightness=draw(st.sampled_from([0.0, 0.5, 1.0])),
            )
        records.append(record)
    kinds = st.sampled_from(["row", "plan", "empty", "too-large", "missing", "changed"])
    skipped = tuple(
        Skipped(f"s{n}", "a reason", kind)
        for n, kind in enumerate(draw(st.lists(kinds, max_size=4)))
    )
    return Manifest(tuple(records), LabelSpace.flat(task, names), Path("data"), skipped)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), st.booleans(), st.integers(0, 3))
def test_audit_never_raises(manifest: Manifest, has_features: bool, seed: int) -> None:
    features = None
    if has_features:
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(len(manifest), 4)).astype(np.float32)
    report = run_audit(manifest, features=features, seed=seed)
    known = {record.id for record in manifest.records} | {row.id for row in manifest.skipped}
    for finding in report.findings:
        assert set(finding.record_ids) <= known
        assert {name for group in finding.groups for name in group} <= known
        assert len(finding.details) in (0, len(finding.record_ids))
        assert np.isfinite(finding.score)
        try:
            finding.apply(manifest)
        except DataError:
            assert finding.plan.drop or finding.plan.relabel  # too little would be left
    assert AuditReport.model_validate_json(report.model_dump_json()) == report
    assert len(text_lines(report)) == 2 + len(report.findings) + len(report.not_run)
    quick_findings(manifest)
