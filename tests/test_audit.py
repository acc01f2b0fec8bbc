"""The audit: each check fires on data made for it, and is silent on clean data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pictures import make_classes, make_manifest, make_record, write_folders
from taxon.auditing.checks import FEW_PICTURES, HIGH_IMBALANCE

from taxon.auditing import CHECKS, Finding, run_audit
from taxon.core.labels import LabelSpace
from taxon.data import Manifest, Skipped, load_manifest

CLEAN = make_classes({"a": 30, "b": 40})


def _findings(manifest: Manifest) -> dict[str, Finding]:
    findings = run_audit(manifest)
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def test_clean_data_have_no_findings() -> None:
    assert run_audit(CLEAN) == []


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_is_silent_on_clean_data(check: str) -> None:
    assert CHECKS[check](CLEAN) == []


def test_unreadable_pictures_are_listed_with_a_reason() -> None:
    manifest = replace(
        CLEAN, skipped=(Skipped("x.png", "the file is empty"), Skipped("y.png", "-"))
    )
    finding = _findings(manifest)["unreadable"]
    assert finding.severity == "warning"
    assert finding.record_ids == ("x.png", "y.png")
    assert finding.score == 2
    assert "x.png: the file is empty" in finding.advice


def test_equal_files_are_listed_with_their_share() -> None:
    copies = [make_record(900 + position, "a", content="same") for position in range(3)]
    copies += [make_record(910 + position, "b", content="other") for position in range(2)]
    manifest = make_manifest([*CLEAN.records, *copies])
    findings = _findings(manifest)
    assert list(findings) == ["equal_files"]
    assert findings["equal_files"].severity == "info"
    assert findings["equal_files"].record_ids == tuple(record.id for record in copies)
    assert findings["equal_files"].score == pytest.approx(3 / 75)  # 2 and 1 add nothing
    assert "3 pictures are copies" in findings["equal_files"].advice


def _in_parts() -> Manifest:
    parts = ("train", "validation", "test")
    return make_manifest(
        replace(record, split=parts[position % 3]) for position, record in enumerate(CLEAN.records)
    )


def test_copy_in_another_part_is_leaked() -> None:
    pair = [
        make_record(900, "a", content="same", split="train"),
        make_record(901, "a", content="same", split="test"),
    ]
    findings = _findings(make_manifest([*_in_parts().records, *pair]))
    assert set(findings) == {"equal_files", "leaked_files"}
    assert findings["leaked_files"].severity == "error"
    assert findings["leaked_files"].record_ids == (pair[0].id, pair[1].id)
    assert findings["leaked_files"].score == pytest.approx(2 / 72)


def test_copy_in_the_same_part_is_not_leaked() -> None:
    pair = [make_record(900 + n, "a", content="same", split="test") for n in range(2)]
    assert set(_findings(make_manifest([*_in_parts().records, *pair]))) == {"equal_files"}


def test_group_in_two_parts_is_leaked() -> None:
    group = [
        make_record(900, "a", group="patient", split="train"),
        make_record(901, "b", group="patient", split="train"),
        make_record(902, "b", group="patient", split="validation"),
    ]
    findings = _findings(make_manifest([*_in_parts().records, *group]))
    assert set(findings) == {"leaked_files"}
    assert findings["leaked_files"].record_ids == tuple(record.id for record in group)


def test_group_in_one_part_is_not_leaked() -> None:
    group = [make_record(900 + n, "a", group="patient", split="train") for n in range(3)]
    assert run_audit(make_manifest([*_in_parts().records, *group])) == []


def test_group_and_copies_without_a_split_are_not_leaked() -> None:
    records = [make_record(900 + n, "a", group="patient", content="same") for n in range(3)]
    assert set(_findings(make_manifest([*CLEAN.records, *records]))) == {"equal_files"}


def test_picture_leaked_twice_counts_once() -> None:
    pair = [
        make_record(900, "a", group="g", content="same", split="train"),
        make_record(901, "a", group="g", content="same", split="test"),
    ]
    finding = _findings(make_manifest([*_in_parts().records, *pair]))["leaked_files"]
    assert finding.record_ids == (pair[0].id, pair[1].id)


def test_same_file_under_two_labels_contradicts() -> None:
    pair = [make_record(900, "a", content="same"), make_record(901, "b", content="same")]
    finding = _findings(make_manifest([*CLEAN.records, *pair]))["contradicting_labels"]
    assert finding.severity == "error"
    assert finding.record_ids == (pair[0].id, pair[1].id)
    assert finding.score == 1
    assert pair[0].id in finding.advice and pair[1].id in finding.advice


def test_same_file_with_the_same_tags_does_not_contradict() -> None:
    tagged = [make_record(n, ("x", "y")) for n in range(30)]
    pair = [make_record(900 + n, ("x", "y"), content="same") for n in range(2)]
    assert set(_findings(make_manifest([*tagged, *pair], "multilabel"))) == {"equal_files"}


def test_same_file_with_other_tags_contradicts() -> None:
    tagged = [make_record(n, ("x", "y")) for n in range(30)]
    pair = [make_record(900, ("x", "y"), content="same"), make_record(901, "x", content="same")]
    found = _findings(make_manifest([*tagged, *pair], "multilabel"))
    assert set(found) == {"equal_files", "contradicting_labels"}


def test_small_classes_are_counted_and_the_smallest_is_named() -> None:
    manifest = make_classes({"a": FEW_PICTURES - 1, "b": FEW_PICTURES - 2, "c": FEW_PICTURES})
    findings = _findings(manifest)
    assert set(findings) == {"small_classes"}
    assert findings["small_classes"].score == FEW_PICTURES - 2
    assert "2 classes" in findings["small_classes"].advice
    assert f"'b' with {FEW_PICTURES - 2}" in findings["small_classes"].advice


@pytest.mark.parametrize(("largest", "fires"), [(89, False), (90, True), (300, True)])
def test_imbalance_is_named_from_three_to_one_on(largest: int, fires: bool) -> None:
    findings = _findings(make_classes({"a": largest, "b": 30}))
    assert set(findings) == ({"imbalance"} if fires else set())
    if fires:
        assert findings["imbalance"].score == largest / 30 >= HIGH_IMBALANCE
        assert "'a'" in findings["imbalance"].advice and "'b'" in findings["imbalance"].advice


def test_class_of_the_label_space_without_pictures_does_not_break_the_ratio() -> None:
    space = LabelSpace.flat("multiclass", ["a", "b", "z"])
    assert run_audit(replace(CLEAN, label_space=space)) == []


def test_pictures_without_any_tag_do_not_break_the_audit() -> None:
    manifest = Manifest(
        (make_record(0, ()), make_record(1, ())),
        LabelSpace.flat("multilabel", ["x"]),
        Path("data"),
    )
    assert run_audit(manifest) == []


def test_audit_of_real_files_finds_what_is_wrong_with_them(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 20, "test/b": 20})
    source = tmp_path / "train" / "a" / "00.png"
    (tmp_path / "test" / "b" / "00.png").write_bytes(source.read_bytes())
    (tmp_path / "train" / "a" / "empty.png").write_bytes(b"")
    findings = _findings(load_manifest(tmp_path))
    assert set(findings) == {"unreadable", "equal_files", "leaked_files", "contradicting_labels"}
    for check in ("equal_files", "leaked_files", "contradicting_labels"):
        assert set(findings[check].record_ids) == {"train/a/00.png", "test/b/00.png"}
