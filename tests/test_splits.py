"""Splits: every picture in one part, groups kept together, classes spread evenly."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_classes, make_manifest, make_record

from taxon.core.errors import DataError
from taxon.data import Manifest, Record
from taxon.data.manifest import SPLITS, Split
from taxon.data.splits import MINIMUM_CALIBRATION_PER_CLASS, ensure_split

PARTS = {"train", "validation", "test"}
property_test = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def _split(
    manifest: Manifest, *, validation: float = 0.15, test: float = 0.15, seed: int = 0
) -> Manifest:
    return ensure_split(manifest, validation=validation, test=test, seed=seed).manifest


def _parts(manifest: Manifest) -> list[Split | None]:
    return [record.split for record in manifest.records]


def _merged(part: str | None) -> str | None:
    """Calibration is taken out of validation: count it there."""
    return "validation" if part == "calibration" else part


def _parts_of_classes(manifest: Manifest) -> dict[str, Counter[str | None]]:
    found: dict[str, Counter[str | None]] = defaultdict(Counter)
    for record in manifest.records:
        for label in record.labels:
            found[label][_merged(record.split)] += 1
    return found


@given(st.lists(st.integers(3, 40), min_size=2, max_size=6), seeds)
@property_test
def test_every_picture_is_in_one_part_and_every_class_in_each(sizes: list[int], seed: int) -> None:
    before = make_classes({f"c{position}": size for position, size in enumerate(sizes)})
    after = _split(before, seed=seed)
    assert [replace(record, split=None) for record in after.records] == list(before.records)
    assert set(_parts(after)) <= set(SPLITS)
    for parts in _parts_of_classes(after).values():
        assert set(parts) == PARTS


@given(
    st.integers(2, 6),
    st.integers(10, 60),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    seeds,
)
@property_test
def test_shares_hold_for_every_class_within_one_picture(
    classes: int, size: int, validation: float, test: float, seed: int
) -> None:
    manifest = make_classes({f"c{position}": size for position in range(classes)})
    after = _split(manifest, validation=validation, test=test, seed=seed)
    for parts in _parts_of_classes(after).values():
        assert abs(parts["validation"] - size * validation) <= 1
        assert abs(parts["test"] - size * test) <= 1


@given(st.integers(0, 2**16), st.data())
@property_test
def test_shares_hold_for_the_whole_within_two_hundredths(seed: int, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(20, 60), min_size=3, max_size=6))
    manifest = make_classes({f"c{position}": size for position, size in enumerate(sizes)})
    counts = Counter(map(_merged, _parts(_split(manifest, seed=seed))))
    for part in ("validation", "test"):
        assert counts[part] / len(manifest) == pytest.approx(0.15, abs=0.02)


@st.composite
def _grouped(draw: st.DrawFn) -> Manifest:
    """Pictures of 2 or 3 classes; some share a group, some a content, across classes too."""
    count = draw(st.integers(20, 60))
    names = ["a", "b", "c"][: draw(st.integers(2, 3))]
    records: list[Record] = []
    for position in range(count):
        group = draw(st.none() | st.integers(0, 12).map(str))
        content = draw(st.none() | st.integers(0, 12).map(str))
        label = names[position % len(names)]
        records.append(make_record(position, label, group=group, content=content))
    # Whatever was drawn, each class has enough pictures of its own.
    records += [
        make_record(1000 + position, names[position % len(names)]) for position in range(12)
    ]
    return make_manifest(records)


@given(_grouped(), seeds)
@property_test
def test_groups_and_equal_files_never_straddle(manifest: Manifest, seed: int) -> None:
    after = _split(manifest, seed=seed)
    parts: dict[tuple[str, str], set[Split | None]] = defaultdict(set)
    for record in after.records:
        parts["file", record.sha256].add(record.split)
        if record.group is not None:
            parts["group", record.group].add(record.split)
    assert all(len(found) == 1 for found in parts.values())


def test_chains_of_groups_and_equal_files_stay_together() -> None:
    # 0 and 1 share a group, 1 and 2 a content, 2 and 3 a group.
    chain = [
        make_record(0, "a", group="g"),
        make_record(1, "a", group="g", content="same"),
        make_record(2, "b", group="h", content="same"),
        make_record(3, "b", group="h"),
    ]
    others = [make_record(10 + position, "ab"[position % 2]) for position in range(20)]
    for seed in range(10):
        assert len(set(_parts(_split(make_manifest(chain + others), seed=seed))[:4])) == 1


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=3, max_size=8), min_size=2, max_size=4), seeds
)
@property_test
def test_class_of_three_groups_is_in_each_part_however_large_one_is(
    groups: list[list[int]], seed: int
) -> None:
    records = [
        make_record(1000 * column + 100 * row + position, f"c{column}", group=f"{column}-{row}")
        for column, sizes in enumerate(groups)
        for row, size in enumerate(sizes)
        for position in range(size)
    ]
    after = _split(make_manifest(records), seed=seed)
    for parts in _parts_of_classes(after).values():
        assert set(parts) == PARTS


@given(_grouped(), seeds)
@property_test
def test_same_seed_gives_the_same_split(manifest: Manifest, seed: int) -> None:
    assert _parts(_split(manifest, seed=seed)) == _parts(_split(manifest, seed=seed))


def test_other_seeds_give_other_splits_of_the_same_sizes() -> None:
    manifest = make_classes({"a": 30, "b": 20})
    splits = [_split(manifest, seed=seed) for seed in range(5)]
    assert len({tuple(_parts(split)) for split in splits}) == 5
    assert len({tuple(split.split_counts().items()) for split in splits}) == 1


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_tags_are_about_as_frequent_in_each_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frequencies = {"often": 0.6, "half": 0.5, "some": 0.2, "rare": 0.06}
    records = [
        make_record(
            position, [tag for tag, frequency in frequencies.items() if rng.random() < frequency]
        )
        for position in range(400)
    ]
    manifest = make_manifest(records, "multilabel")
    after = _split(manifest, seed=seed)
    for split in ("validation", "test"):
        part = after.where(lambda record, split=split: _merged(record.split) == split)
        assert len(part) == pytest.approx(60, abs=12)
        for tag, count in part.counts().items():
            assert count == pytest.approx(0.15 * manifest.counts()[tag], abs=1.5)


def test_pictures_without_any_tag_are_spread_too() -> None:
    records = [make_record(position, ["x"] if position % 2 else []) for position in range(40)]
    after = _split(make_manifest(records, "multilabel"))
    untagged = Counter(record.split for record in after.records if not record.labels)
    assert untagged == {"train": 14, "validation": 3, "test": 3}


@pytest.mark.parametrize(("count", "said"), [(1, "1 picture "), (2, "2 pictures ")])
def test_class_too_small_for_every_part_is_named_with_its_count(count: int, said: str) -> None:
    with pytest.raises(DataError, match=rf"'rare' has {said}.*train, validation, test.*at least 3"):
        _split(make_classes({"rare": count, "usual": 20}))


def test_class_of_few_groups_is_too_small_however_many_pictures_it_has() -> None:
    records = [make_record(position, "a", group=str(position % 2)) for position in range(20)]
    records += [make_record(100 + position, "b") for position in range(20)]
    with pytest.raises(DataError, match="'a' has 2 pictures"):
        _split(make_manifest(records))


def test_small_class_is_enough_for_fewer_parts() -> None:
    manifest = make_classes({"rare": 2, "usual": 20})
    parts = _parts_of_classes(_split(manifest, test=0))
    assert parts["rare"] == {"train": 1, "validation": 1}


def test_without_validation_and_test_everything_trains() -> None:
    plan = ensure_split(make_classes({"a": 1, "b": 5}), validation=0, test=0, seed=0)
    assert set(_parts(plan.manifest)) == {"train"}
    assert any("last epoch" in note for note in plan.notes)


def _given(counts: dict[Split, int]) -> Manifest:
    """A data set with its own split: `counts[part]` pictures of each of the classes a and b."""
    rows = [(part, name) for part, count in counts.items() for name in "ab" for _ in range(count)]
    return make_manifest(
        make_record(position, name, split=part) for position, (part, name) in enumerate(rows)
    )


def test_split_of_the_data_is_kept() -> None:
    manifest = _given({"train": 5, "validation": 3, "test": 2})
    plan = ensure_split(manifest, validation=0.4, test=0.4, seed=3)
    assert plan.manifest == manifest
    assert plan.notes[0] == "split as the data give it"


def test_split_of_the_data_without_train_is_refused() -> None:
    with pytest.raises(DataError, match=r"no part 'train' \(only: validation, test\)"):
        _split(_given({"validation": 5, "test": 5}))


def test_missing_validation_is_taken_out_of_train_alone() -> None:
    manifest = _given({"train": 20, "test": 10})
    plan = ensure_split(manifest, validation=0.25, test=0.5, seed=0)
    assert plan.manifest.split_counts() == {"train": 30, "validation": 10, "test": 20}
    for before, after in zip(manifest.records, plan.manifest.records, strict=True):
        assert after.split == before.split or (before.split, after.split) == ("train", "validation")
    assert any("25% of train" in note for note in plan.notes)


def test_missing_validation_is_left_out_when_none_is_wanted() -> None:
    plan = ensure_split(_given({"train": 5, "test": 2}), validation=0, test=0.2, seed=0)
    assert plan.manifest.split_counts() == {"train": 10, "test": 4}
    assert any("no validation part" in note for note in plan.notes)


def test_class_that_only_the_test_part_has_is_refused_by_name() -> None:
    records = [*_given({"train": 10, "validation": 5}).records, make_record(99, "z", split="test")]
    with pytest.raises(DataError, match="no training pictures of 'z'"):
        _split(make_manifest(records))


def test_calibration_is_half_of_a_validation_part_that_is_large_enough() -> None:
    manifest = _given({"train": 50, "validation": 2 * MINIMUM_CALIBRATION_PER_CLASS, "test": 5})
    after = _split(manifest)
    assert after.split_counts() == {"train": 100, "validation": 40, "calibration": 40, "test": 10}
    assert after.part("calibration").counts() == {"a": 20, "b": 20}


def test_validation_one_picture_short_stays_whole_and_the_notes_say_so() -> None:
    manifest = _given({"train": 50, "validation": 2 * MINIMUM_CALIBRATION_PER_CLASS - 1})
    plan = ensure_split(manifest, validation=0.15, test=0, seed=0)
    assert "calibration" not in plan.manifest.split_counts()
    assert any("validation serves for calibration" in note for note in plan.notes)


def test_calibration_of_the_data_is_kept() -> None:
    manifest = _given({"train": 5, "validation": 100, "calibration": 3})
    assert _split(manifest) == manifest


def test_validation_of_one_large_group_is_not_divided() -> None:
    records = [make_record(position, "ab"[position % 2], split="train") for position in range(20)]
    records += [
        make_record(100 + position, "ab"[position % 2], split="validation", group=str(position % 2))
        for position in range(100)
    ]
    plan = ensure_split(make_manifest(records), validation=0.15, test=0.15, seed=0)
    assert plan.manifest.split_counts() == {"train": 20, "validation": 100}
    assert any("validation serves for calibration" in note for note in plan.notes)
