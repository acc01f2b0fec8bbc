"""Splits: every picture in one part, groups kept together, classes spread evenly."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_classes, make_manifest, make_record

from taxon.core.errors import ConfigError, DataError
from taxon.data import Manifest, Record
from taxon.data.duplicates.near_duplicates import hashes_of_thumbnails
from taxon.data.look import Look
from taxon.data.manifest import SPLITS, Split
from taxon.data.splitting.splits import (
    MINIMUM_CALIBRATION_PER_CLASS,
    SplitPlan,
    ensure_split,
    k_folds,
)

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
    assert all(set(parts) == PARTS for parts in _parts_of_classes(after).values())
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
        assert len(part) == pytest.approx(60, abs=2)
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
    with pytest.raises(DataError, match="'a' has 20 pictures in 2 groups"):
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


def _seen(record: Record, scene: int) -> Record:
    """The record as if it had been looked at: records of one scene look the same."""
    rng = np.random.default_rng(scene)
    thumbnail = rng.integers(0, 256, (1, 256)).astype(np.uint8)
    grey = (0.5, 0.5, 0.5)
    look = Look(
        sha256=record.sha256,
        file_size=1,
        format="PNG",
        mode="RGB",
        width=64,
        height=64,
        camera=None,
        truncated=False,
        brightness=0.5,
        contrast=0.3,
        sharpness=1.0,
        mean_colour=grey,
        border_colour=grey,
        hash=int(hashes_of_thumbnails(thumbnail)[0]),
        thumbnail=thumbnail.tobytes(),
    )
    return replace(record, hash=look.hash, look=look)


def _sides(manifest: Manifest, positions: range | list[int]) -> set[Split | None]:
    parts = {record.id: record.split for record in manifest.records}
    return {parts[f"{position:05d}.png"] for position in positions}


def _pairs(count: int) -> Manifest:
    """`count` pairs of pictures that look the same, of two classes in turn."""
    return make_manifest(
        _seen(make_record(position, "ab"[position // 2 % 2]), scene=position // 2)
        for position in range(2 * count)
    )


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_stay_together(seed: int) -> None:
    plan = ensure_split(_pairs(30), validation=0.2, test=0.2, seed=seed)
    assert all(len(_sides(plan.manifest, [row, row + 1])) == 1 for row in range(0, 60, 2))
    assert "30 groups of near-duplicates (60 pictures) kept together" in plan.notes
    assert plan.manifest.split_counts() == {"train": 36, "validation": 12, "test": 12}


def test_near_duplicates_are_left_alone_on_request() -> None:
    plan = ensure_split(_pairs(30), validation=0.2, test=0.2, seed=0, near_duplicates=False)
    assert any(len(_sides(plan.manifest, [row, row + 1])) == 2 for row in range(0, 60, 2))
    assert not any("near-duplicates" in note for note in plan.notes)


def test_class_of_look_alikes_is_split_all_the_same_and_the_notes_say_so() -> None:
    belt = [_seen(make_record(row, "empty"), scene=7) for row in range(15)]
    pairs = [_seen(make_record(100 + row, "full"), scene=1000 + row // 2) for row in range(60)]
    plan = ensure_split(make_manifest(belt + pairs), validation=0.2, test=0.2, seed=0)
    assert _parts_of_classes(plan.manifest)["empty"] == {"train": 9, "validation": 3, "test": 3}
    assert any("'empty' look the same" in note for note in plan.notes)
    # Only what is in the way is let go.
    assert all(len(_sides(plan.manifest, [row, row + 1])) == 1 for row in range(100, 160, 2))


@given(_grouped(), seeds, st.randoms(use_true_random=False))
@property_test
def test_order_and_names_of_the_pictures_do_not_matter(
    manifest: Manifest, seed: int, random: Random
) -> None:
    records = list(manifest.records)
    random.shuffle(records)
    renamed = [replace(record, id=f"x{record.id}") for record in records]
    first = _split(manifest, seed=seed)
    second = _split(replace(manifest, records=tuple(renamed)), seed=seed)
    assert {f"x{record.id}": record.split for record in first.records} == {
        record.id: record.split for record in second.records
    }


def _without_parts(records: list[Record]) -> list[Record]:
    return [replace(record, split=None) for record in records]


@given(_grouped(), seeds, st.data())
@property_test
def test_old_pictures_keep_their_part_when_others_come_and_go(
    manifest: Manifest, seed: int, data: st.DataObject
) -> None:
    old = _split(manifest, seed=seed)
    gone = data.draw(st.sets(st.sampled_from([record.id for record in old.records]), max_size=10))
    kept = [record for record in old.records if record.id not in gone]
    added = [
        make_record(2000 + row, "ab"[row % 2], group=data.draw(st.none() | st.just("3")))
        for row in range(data.draw(st.integers(0, 30)))
    ]
    now = make_manifest(_without_parts(kept) + added)
    plan = ensure_split(now, validation=0.15, test=0.15, seed=seed + 1, previous=old)
    after = {record.id: record.split for record in plan.manifest.records}
    assert len(after) == len(kept) + len(added)
    assert all(after[record.id] == record.split for record in kept)
    are = "is" if len(added) == 1 else "are"
    there = {record.sha256 for record in kept}
    count = sum(record.sha256 not in there for record in old.records)
    ones = "one is" if count == 1 else "ones are"
    assert plan.notes[0] == (
        f"{len(kept)} of {len(now)} pictures keep their part of the old split, "
        f"{len(added)} {are} new" + (f"; {count} old {ones} gone" if count else "")
    )
    side = {record.split for record in kept if record.group == "3"}
    if side:
        assert {after[record.id] for record in added if record.group == "3"} <= side


def test_new_pictures_bring_the_parts_to_their_shares() -> None:
    old = _split(make_classes({"a": 40, "b": 40}), validation=0.05, test=0.05)
    added = [make_record(1000 + row, "ab"[row % 2]) for row in range(120)]
    now = make_manifest(_without_parts(list(old.records)) + added)
    plan = ensure_split(now, validation=0.2, test=0.2, seed=0, previous=old)
    assert plan.manifest.split_counts() == {"train": 120, "validation": 40, "test": 40}


def test_new_picture_joins_the_part_of_what_it_looks_like() -> None:
    old = _split(_pairs(20))
    now = [replace(record, split=None) for record in old.records]
    now += [_seen(make_record(1000 + row, "ab"[row % 2]), scene=row) for row in range(20)]
    plan = ensure_split(make_manifest(now), validation=0.15, test=0.15, seed=0, previous=old)
    for row in range(20):
        assert _sides(plan.manifest, [1000 + row]) == _sides(old, [2 * row])


def test_new_picture_between_two_parts_goes_where_most_of_its_group_is() -> None:
    old = make_manifest(
        [
            *(make_record(row, "ab"[row % 2], split="train") for row in range(20)),
            *(make_record(20 + row, "ab"[row % 2], split="validation") for row in range(4)),
            *(make_record(30 + row, "ab"[row % 2], split="test") for row in range(4)),
        ]
    )
    joined = {30: "g", 31: "g", 0: "g"}
    now = [
        replace(record, split=None, group=joined.get(int(record.id[:5]))) for record in old.records
    ]
    now.append(make_record(99, "a", group="g"))
    plan = ensure_split(make_manifest(now), validation=0.15, test=0.15, seed=0, previous=old)
    assert _sides(plan.manifest, [99]) == {"test"} and _sides(plan.manifest, [0]) == {"train"}
    said = (
        "1 group has pictures in several parts of the old split (say 'g': 00000.png in train and "
    )
    assert any(note.startswith(f"{said}00030.png in test)") for note in plan.notes)
    assert "split by seed 0, groups and equal files kept together but for those below" in plan.notes


def _grown(old: list[Record], added: list[Record]) -> SplitPlan:
    """The split of old pictures, which have their parts, and of new ones."""
    now = make_manifest([*_without_parts(old), *added])
    return ensure_split(now, validation=0.2, test=0.2, seed=0, previous=make_manifest(old))


def _whole_parts() -> list[Record]:
    """Old pictures of two classes in three parts; `00000.png` in train is alone in the group g."""
    parts: list[Split] = ["train"] * 6 + ["validation"] * 4 + ["test"] * 4
    return [
        make_record(row, "ab"[row % 2], split=part, group=None if row else "g")
        for row, part in enumerate(parts)
    ]


def test_group_goes_before_what_looks_the_same() -> None:
    old = _whole_parts()
    old = [
        _seen(record, scene=7 if record.split == "test" else row)
        for row, record in enumerate(old, start=100)
    ]
    plan = _grown(old, [_seen(make_record(99, "a", group="g"), scene=7)])
    assert _sides(plan.manifest, [0, 99]) == {"train"}
    assert (
        "1 group of near-duplicates is in several parts (say 00010.png in test and 00099.png in "
        "train), since old pictures, groups and equal files go first"
    ) in plan.notes
    assert not any("near-duplicates (" in note or "group has" in note for note in plan.notes)
    assert "split by seed 0, groups and equal files kept together" in plan.notes


def test_group_goes_before_equal_files() -> None:
    old = _whole_parts()
    copy = replace(make_record(99, "a", group="g"), sha256=old[-1].sha256)
    plan = _grown(old, [copy])
    assert _sides(plan.manifest, [0, 99]) == {"train"} and _sides(plan.manifest, [13]) == {"test"}
    assert (
        "1 picture has equal files in several parts (say 00013.png in test and 00099.png in "
        "train), since old pictures and groups go first"
    ) in plan.notes
    assert any(note.endswith("kept together but for those below") for note in plan.notes)


def test_equal_files_go_before_what_looks_the_same() -> None:
    old = _whole_parts()
    old = [
        _seen(record, scene=7 if record.split == "test" else row)
        for row, record in enumerate(old, start=100)
    ]
    # One new picture is of an old group, the other its copy; both look like the test part.
    added = [make_record(98, "a", group="g", content="c"), make_record(99, "a", content="c")]
    plan = _grown(old, [_seen(record, scene=7) for record in added])
    assert _sides(plan.manifest, [0, 98, 99]) == {"train"}


def test_new_group_stays_whole_whatever_its_pictures_are_like() -> None:
    old = [_seen(record, scene=row) for row, record in enumerate(_whole_parts())]
    added = [
        replace(make_record(97, "a", group="h"), sha256=old[8].sha256),
        _seen(make_record(98, "a", group="h"), scene=4),
        _seen(make_record(99, "a", group="h"), scene=12),
    ]
    assert _sides(_grown(old, added).manifest, [97, 98, 99, 8]) == {"validation"}


def test_new_picture_goes_to_the_part_of_its_group_of_which_nothing_else_is_left() -> None:
    old = [*_whole_parts(), make_record(50, "a", group="gone", split="test")]
    now = make_manifest([*_without_parts(old[:-1]), make_record(99, "a", group="gone")])
    plan = ensure_split(now, validation=0.2, test=0.2, seed=0, previous=make_manifest(old))
    assert _sides(plan.manifest, [99]) == {"test"}
    assert plan.notes[0].endswith("1 is new; 1 old one is gone")


@st.composite
def _linked(draw: st.DrawFn, first: int) -> list[Record]:
    """Pictures of two classes of which some share a group, a content, or look the same."""
    records = []
    for position in range(first, first + draw(st.integers(10, 40))):
        group = draw(st.none() | st.integers(0, 6).map(str))
        content = draw(st.none() | st.integers(0, 6))
        name = None if content is None else str(content)
        record = make_record(position, "ab"[position % 2], group=group, content=name)
        scene = draw(st.none() | st.integers(0, 6)) if content is None else content
        records.append(record if scene is None else _seen(record, scene))
    return records


@given(_linked(0), _linked(1000), st.data())
@settings(max_examples=30, deadline=None)
def test_old_pictures_keep_their_part_and_no_whole_group_is_torn(
    pictures: list[Record], added: list[Record], data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.sampled_from(SPLITS), min_size=40, max_size=40))
    # Small and large parts of an older split, which may tear anything.
    old = [replace(record, split=part) for record, part in zip(pictures, parts, strict=False)]
    renamed = data.draw(st.booleans())
    now = [replace(r, id=f"x{r.id}") if renamed and r.id == r.path.name else r for r in old]
    alone = [make_record(2000 + row, "ab"[row % 2]) for row in range(16)]
    fresh = make_manifest([*_without_parts(now), *added, *alone])
    plan = ensure_split(fresh, validation=0.2, test=0.2, seed=0, previous=make_manifest(old))
    after = {record.id: record.split for record in plan.manifest.records}
    held = defaultdict(set)
    for record in old:
        held[record.sha256].add(record.split)
    copied = {record.sha256 for record in added}
    own: dict[str, Split | None] = {
        record.id: record.split
        for record in now
        if not renamed or (len(held[record.sha256]) == 1 and record.sha256 not in copied)
    }
    assert {name: after[name] for name in own} == own
    before, groups, files = (defaultdict(set) for _ in range(3))
    for record in plan.manifest.records:
        files[record.sha256].add(record.split)
        if record.group is not None:
            groups[record.group].add(record.split)
            before[record.group] |= {own[record.id]} if record.id in own else set()
    torn = {name for name, found in groups.items() if len(found) > 1}
    assert torn == {name for name, found in before.items() if len(found) > 1}
    said = [note for note in plan.notes if "pictures in several parts of the old split" in note]
    assert len(said) == bool(torn) and all(note.startswith(f"{len(torn)} group") for note in said)
    straddle = sum(len(found) > 1 for found in files.values())
    said = [note for note in plan.notes if "equal files in several parts" in note]
    assert len(said) == bool(straddle) and all(note.startswith(f"{straddle} pic") for note in said)
    whole = "split by seed 0, groups and equal files kept together"
    assert (whole in plan.notes) == (not torn and not straddle)


def test_calibration_of_the_old_split_stays_and_grows() -> None:
    old = _split(make_classes({"a": 400, "b": 400}))
    assert old.split_counts()["calibration"] == 60
    added = [make_record(5000 + row, "ab"[row % 2]) for row in range(200)]
    now = make_manifest(_without_parts(list(old.records)) + added)
    counts = ensure_split(
        now, validation=0.15, test=0.15, seed=0, previous=old
    ).manifest.split_counts()
    assert counts == {"train": 700, "validation": 75, "calibration": 75, "test": 150}


def test_new_class_too_small_for_every_part_is_refused_beside_an_old_split() -> None:
    old = _split(make_classes({"a": 20, "b": 20}))
    now = make_manifest([*_without_parts(list(old.records)), make_record(99, "new")])
    with pytest.raises(DataError, match="'new' has 1 picture and cannot be split"):
        ensure_split(now, validation=0.15, test=0.15, seed=0, previous=old)


def test_old_class_that_a_part_never_had_is_noted() -> None:
    records = [make_record(row, "ab"[row % 2], split="train") for row in range(20)]
    records += [make_record(50 + row, "a", split="test") for row in range(5)]
    now = make_manifest(_without_parts(records))
    plan = ensure_split(now, validation=0, test=0.2, seed=0, previous=make_manifest(records))
    assert "test has no picture of 'b'" in plan.notes


def test_old_manifest_without_a_split_is_refused() -> None:
    manifest = make_classes({"a": 20, "b": 20})
    with pytest.raises(DataError, match="no split that pictures could keep"):
        ensure_split(manifest, validation=0.15, test=0.15, seed=0, previous=manifest)


def test_old_manifest_of_other_pictures_is_refused() -> None:
    old = _split(make_classes({"a": 20, "b": 20}))
    other = make_manifest(
        make_record(row, "ab"[row % 2], content=f"other {row}") for row in range(40)
    )
    with pytest.raises(DataError, match=r"0 of 40 pictures are in the old .* leave --previous out"):
        ensure_split(other, validation=0.15, test=0.15, seed=0, previous=old)


def test_two_splits_at_once_are_refused() -> None:
    manifest = _given({"train": 10, "test": 5})
    with pytest.raises(DataError, match="--resplit"):
        ensure_split(manifest, validation=0.15, test=0.15, seed=0, previous=manifest)


def test_all_classes_that_are_too_small_are_named() -> None:
    with pytest.raises(DataError, match=r"'x' has 1 picture .*too few also: 'y' \(2\)"):
        _split(make_classes({"x": 1, "y": 2, "z": 20}))


def test_part_that_is_far_from_its_share_is_noted() -> None:
    records = [make_record(row, "ab"[row % 2], group=str(row // 50)) for row in range(150)]
    plan = ensure_split(make_manifest(records), validation=0.1, test=0.1, seed=0)
    assert (
        "test has 50 pictures where 15 were asked for, since what belongs together stays together"
    ) in plan.notes


def test_part_that_one_picture_a_class_makes_too_large_is_noted_as_such() -> None:
    manifest = make_classes({f"c{number}": 3 for number in range(6)})
    plan = ensure_split(manifest, validation=0.3, test=0.05, seed=0)
    assert (
        "test has 6 pictures where 1 was asked for, since each part gets a picture of every class"
    ) in plan.notes


def test_part_that_old_pictures_make_too_large_is_noted_as_such() -> None:
    old = _split(make_classes({"a": 40, "b": 40}), validation=0.1, test=0.5)
    now = make_manifest(_without_parts(list(old.records)))
    plan = ensure_split(now, validation=0.1, test=0.1, seed=0, previous=old)
    why = "since old pictures keep their part and what belongs to them goes with them"
    assert f"train has 32 pictures where 64 were asked for, {why}" in plan.notes
    assert f"test has 40 pictures where 8 were asked for, {why}" in plan.notes


@given(_grouped(), st.integers(2, 4), seeds)
@property_test
def test_every_picture_is_tested_in_one_fold(manifest: Manifest, folds: int, seed: int) -> None:
    plans = k_folds(manifest, folds, validation=0.1, seed=seed)
    assert len(plans) == folds
    tested = Counter(record.id for plan in plans for record in plan.manifest.part("test").records)
    assert tested == Counter(record.id for record in manifest.records)
    for plan in plans:
        units: dict[tuple[str, str], set[Split | None]] = defaultdict(set)
        for record in plan.manifest.records:
            units["file", record.sha256].add(record.split)
            if record.group is not None:
                units["group", record.group].add(record.split)
        assert all(len(found) == 1 for found in units.values())
        for parts in _parts_of_classes(plan.manifest).values():
            assert set(parts) == PARTS


def test_folds_are_even_and_take_validation_as_a_share_of_the_whole() -> None:
    for plan in k_folds(make_classes({"a": 50, "b": 100}), 5, validation=0.2, seed=3):
        assert plan.manifest.split_counts() == {"train": 90, "validation": 30, "test": 30}
        assert plan.manifest.part("test").counts() == {"a": 10, "b": 20}
        assert plan.manifest.part("validation").counts() == {"a": 10, "b": 20}


def test_folds_keep_near_duplicates_together_and_take_calibration() -> None:
    for plan in k_folds(_pairs(200), 4, validation=0.25, seed=0):
        assert all(len(_sides(plan.manifest, [row, row + 1])) == 1 for row in range(0, 400, 2))
        assert plan.manifest.split_counts() == {
            "train": 200,
            "validation": 50,
            "calibration": 50,
            "test": 100,
        }


def test_folds_without_validation() -> None:
    for plan in k_folds(make_classes({"a": 4, "b": 4}), 2, validation=0, seed=0):
        assert plan.manifest.split_counts() == {"train": 4, "test": 4}


def test_class_too_small_for_the_folds_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"^'a' has 4 pictures and cannot be split into 5 folds; at least 5 are needed\. Add "
        r"pictures, merge or remove the class, or ask for fewer folds \(--folds 4\)$",
    ):
        k_folds(make_classes({"a": 4, "b": 20}), 5, validation=0.1, seed=0)


@pytest.mark.parametrize(
    ("count", "folds", "way_out"),
    [
        (1, 40, "Add pictures, or merge or remove the class"),
        (2, 40, "or ask for 2 folds without validation (--folds 2 --validation-share 0)"),
        (3, 2, "or ask for 2 folds without validation (--folds 2 --validation-share 0)"),
    ],
)
def test_way_out_of_too_many_folds_is_one(count: int, folds: int, way_out: str) -> None:
    manifest = make_classes({"a": count, "b": 80})
    with pytest.raises(DataError, match=rf"{re.escape(way_out)}$"):
        k_folds(manifest, folds, validation=0.1, seed=0)
    if "--folds" in way_out:
        assert len(k_folds(manifest, 2, validation=0, seed=0)) == 2


@pytest.mark.parametrize(("folds", "validation"), [(1, 0.1), (2, 0.45)])
def test_folds_that_leave_nothing_to_train_on_are_refused(folds: int, validation: float) -> None:
    with pytest.raises(ConfigError, match="folds"):
        k_folds(make_classes({"a": 40, "b": 40}), folds, validation=validation, seed=0)


def test_each_of_two_folds_can_be_divided_into_train_and_validation() -> None:
    # By pictures alone the large group would be one fold, which nothing could be taken out of.
    records = [make_record(row, "a", group="large" if row < 4 else None) for row in range(8)]
    manifest = make_manifest([*records, *(make_record(100 + row, "b") for row in range(8))])
    for plan in k_folds(manifest, 2, validation=0.2, seed=0):
        assert set(_parts_of_classes(plan.manifest)["a"]) == PARTS
    few = manifest.where(lambda record: record.id not in ("00006.png", "00007.png"))
    with pytest.raises(DataError, match=r"'a' has 6 pictures in 3 groups.*at least 4 are needed"):
        k_folds(few, 2, validation=0.2, seed=0)
