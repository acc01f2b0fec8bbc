"""Near-duplicates: hashes that survive a copy, an exact search, groups that do not chain."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from taxon.core.errors import ConfigError, DataError
from taxon.data.duplicates import hamming
from taxon.data.duplicates.hamming import count_bits, similar_pairs
from taxon.data.duplicates.linking import Linked, Linker, Links
from taxon.data.duplicates.near_duplicates import (
    NearDuplicates,
    hashes_of_thumbnails,
    near_duplicate_groups,
    perceptual_hash,
    thumbnail,
)

Hashes = npt.NDArray[np.uint64]


def _scene(seed: int, size: tuple[int, int] = (240, 200)) -> Image.Image:
    """A picture of coarse random shapes, like no other one."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(30, 200, (9, 11, 3)).astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _groups(
    images: list[Image.Image], features: npt.NDArray[np.float32] | None = None
) -> NearDuplicates:
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    levels = [np.frombuffer(thumbnail(image), np.uint8) for image in images]
    thumbnails = np.stack(levels) if levels else np.zeros((0, 256), np.uint8)
    return near_duplicate_groups(hashes, thumbnails, features=features)


def _brute_force(hashes: Hashes, distance: int) -> dict[tuple[int, int], int]:
    pairs = combinations(range(len(hashes)), 2)
    found = {(i, j): (int(hashes[i]) ^ int(hashes[j])).bit_count() for i, j in pairs}
    return {pair: differing for pair, differing in found.items() if differing <= distance}


@st.composite
def crowds(draw: st.DrawFn) -> Hashes:
    """Distinct hashes, many of them near each other: few centres, few bits flipped."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres = rng.integers(0, 2**64, draw(st.integers(1, 4)), dtype=np.uint64, endpoint=False)
    hashes = centres[rng.integers(0, len(centres), draw(st.integers(0, 50)))]
    for _ in range(draw(st.integers(0, 12))):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, len(hashes)).astype(np.uint64))
    # Not in ascending order, so that positions and hashes cannot be confused.
    return rng.permutation(np.unique(hashes))


@pytest.fixture(params=[True, False], ids=["by bands", "each with each"], scope="module")
def search(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to search; few hashes are compared each with each unless a test forbids it."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param:
            patched.setattr(hamming, "_FEW_PAIRS", -1)
        yield


@pytest.mark.usefixtures("search")
@given(crowds(), st.integers(0, 15))
@settings(max_examples=80, deadline=None)
def test_the_search_finds_what_comparing_all_finds(hashes: Hashes, distance: int) -> None:
    found = similar_pairs(hashes, distance)
    pairs = [(int(left), int(right)) for left, right in found.pairs]
    assert dict(zip(pairs, found.distances.tolist(), strict=True)) == _brute_force(hashes, distance)
    assert pairs == sorted(set(pairs))
    assert not found.incomplete.any()


@pytest.mark.usefixtures("search")
@given(crowds(), st.integers(0, 11))
@settings(max_examples=40, deadline=None)
def test_the_first_of_equal_hashes_stands_for_all(hashes: Hashes, distance: int) -> None:
    doubled = np.concatenate([hashes, hashes[::2], hashes[::2]])
    found = similar_pairs(doubled, distance)
    pairs = {(int(left), int(right)) for left, right in found.pairs}
    first = {int(value): position for position, value in reversed(list(enumerate(doubled)))}
    copies = {
        (first[int(value)], position)
        for position, value in enumerate(doubled)
        if first[int(value)] != position
    }
    assert pairs == copies | set(_brute_force(hashes, distance))
    assert len(found.pairs) == len(pairs)


@pytest.mark.usefixtures("search")
@given(crowds(), st.integers(0, 2000))
@settings(max_examples=60, deadline=None)
def test_a_limited_search_names_what_it_may_have_missed(hashes: Hashes, limit: int) -> None:
    found = similar_pairs(hashes, 10, max_comparisons=limit)
    pairs = {(int(left), int(right)) for left, right in found.pairs}
    assert len(pairs) == len(found.pairs)
    everything = _brute_force(hashes, 10)
    assert pairs <= set(everything)
    for left, right in set(everything) - pairs:
        assert found.incomplete[left] and found.incomplete[right]


def test_thousands_of_crowded_hashes_are_bounded_and_reported() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 2**16, 20_000).astype(np.uint64)
    found = similar_pairs(low, 2, max_comparisons=100_000)
    assert found.incomplete.any()
    cut = similar_pairs(np.arange(500, dtype=np.uint64), 9, max_pairs=1000)
    assert cut.incomplete.all()


@pytest.mark.parametrize("count", [0, 1])
def test_no_pairs_and_no_groups_of_less_than_two(count: int) -> None:
    assert similar_pairs(np.zeros(count, np.uint64), 7).pairs.shape == (0, 2)
    found = _groups([_scene(position) for position in range(count)])
    assert found == NearDuplicates((), (), (), ())
    features = np.ones((count, 4), np.float32)
    assert _groups([_scene(position) for position in range(count)], features).groups == ()


@pytest.mark.parametrize("distance", [-1, 16, 64])
def test_an_impossible_distance_is_refused(distance: int) -> None:
    with pytest.raises(ConfigError, match="0 to 15"):
        similar_pairs(np.zeros(3, np.uint64), distance)


def test_bits_are_counted_without_the_function_of_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64, endpoint=False)
    values[:2] = 0, 2**64 - 1
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_bits(values).tolist() == [int(value).bit_count() for value in values]


def test_copies_are_found_and_other_pictures_are_not() -> None:
    scenes = [_scene(seed) for seed in range(40)]
    width, height = scenes[0].size
    copies = [
        _jpeg(scenes[3], 40),
        scenes[3].resize((90, 75)),
        ImageEnhance.Brightness(scenes[3]).enhance(0.6),
        ImageEnhance.Contrast(scenes[3]).enhance(0.7),
        scenes[3].convert("L").convert("RGB"),
        scenes[3].resize((224, 224)),
        scenes[7].crop((2, 2, width - 2, height - 3)),
        _jpeg(ImageEnhance.Brightness(scenes[7]).enhance(1.15).resize((150, 125)), 60),
    ]
    found = _groups([*scenes, *copies])
    assert found.groups == ((3, 40, 41, 42, 43, 44, 45), (7, 46, 47))
    assert all(0.9 <= similarity <= 1 for similarity in found.similarities)
    assert found.notes == found.plain == ()


def test_plain_pictures_are_named_and_not_joined() -> None:
    rng = np.random.default_rng(0)
    plain = [Image.new("RGB", (80, 60), (level, level, 40)) for level in range(0, 250, 10)]
    noise = rng.normal(128, 3, (5, 80, 80, 3)).astype(np.uint8)
    images = [*plain, *map(Image.fromarray, noise), _scene(1), _scene(1)]
    found = _groups(images, np.ones((len(images), 8), np.float32))
    assert found.plain == tuple(range(30))
    assert found.groups == ((30, 31),)


def test_pictures_of_equal_hash_are_joined_only_where_they_look_the_same() -> None:
    images = [_scene(seed) for seed in (1, 2, 1, 3, 2, 1)]
    levels = np.stack([np.frombuffer(thumbnail(image), np.uint8) for image in images])
    found = near_duplicate_groups(np.full(6, 77, np.uint64), levels)
    assert found.groups == ((0, 2, 5), (1, 4))


def test_features_find_other_crops_and_join_nothing_by_themselves() -> None:
    width, height = _scene(0).size
    shifted = _scene(5).crop((10, 8, width, height))
    images = [*(_scene(seed) for seed in range(12)), shifted]
    features = np.random.default_rng(0).normal(size=(13, 32)).astype(np.float32)
    features[12] = features[5]
    features[1] = features[0]  # a backbone's mistake: these look different
    assert _groups(images).groups == ()
    assert _groups(images, features).groups == ((5, 12),)


def test_the_same_pictures_give_the_same_groups() -> None:
    images = [_jpeg(_scene(seed % 9), 30 + seed) for seed in range(40)]
    features = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    first, second = _groups(images, features), _groups(images, features)
    assert first == second
    assert sorted(position for group in first.groups for position in group) == list(range(40))
    turned = {frozenset(39 - position for position in group) for group in first.groups}
    again = _groups(images[::-1], features[::-1])
    assert {frozenset(group) for group in again.groups} == turned


def test_hashes_one_by_one_and_in_a_batch_are_the_same() -> None:
    images = [_scene(seed) for seed in range(50)]
    levels = np.stack([np.frombuffer(thumbnail(image), np.uint8) for image in images])
    assert hashes_of_thumbnails(levels).tolist() == [perceptual_hash(image) for image in images]


def test_a_search_that_was_cut_short_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (40, 256)).astype(np.uint8)
    hashes = np.arange(40, dtype=np.uint64)
    assert near_duplicate_groups(hashes, levels).notes == ()
    monkeypatch.setattr("taxon.data.duplicates.near_duplicates._MAX_VERIFIED", 10)
    assert "40 of 40 pictures" in near_duplicate_groups(hashes, levels).notes[0]


def test_tiny_and_grey_pictures_have_a_hash() -> None:
    for size in ((1, 1), (1, 300), (5, 3)):
        image = _scene(0, size)
        assert 0 <= perceptual_hash(image) < 2**64
        assert len(thumbnail(image.convert("L"))) == 256


def test_arrays_that_do_not_fit_are_refused() -> None:
    hashes, levels = np.zeros(3, np.uint64), np.zeros((3, 256), np.uint8)
    with pytest.raises(DataError, match="thumbnails of shape"):
        near_duplicate_groups(hashes, levels[:2])
    with pytest.raises(DataError, match="features of shape"):
        near_duplicate_groups(hashes, levels, features=np.zeros((2, 4), np.float32))
    with pytest.raises(DataError, match="finite"):
        near_duplicate_groups(hashes, levels, features=np.full((3, 4), np.nan, np.float32))


def _chain(count: int, strengths: npt.NDArray[np.float32]) -> Links:
    return Links(np.arange(count - 1), np.arange(1, count), strengths)


def test_a_chain_through_the_data_is_cut_at_its_weakest_links() -> None:
    strengths = np.full(199, 0.95, np.float32)
    strengths[9::10] = 0.91
    linker = Linker(200)
    linker.add(_chain(200, strengths))
    linked = linker.groups()
    assert linked.groups == tuple(tuple(range(start, start + 10)) for start in range(0, 200, 10))
    assert linked.strengths == pytest.approx([0.95] * 20)
    assert linked.tightened == (200,)
    assert len(linked.dissolved) == 0


def test_a_chain_that_cannot_be_cut_is_dissolved_and_a_group_beside_it_stays() -> None:
    linker = Linker(100)
    linker.add(_chain(90, np.full(89, 0.999, np.float32)))
    linker.add(Links(np.array([95]), np.array([97]), np.array([0.9], np.float32)))
    linked = linker.groups()
    assert linked.groups == ((95, 97),)
    assert linked.dissolved.tolist() == list(range(90))


def test_links_that_are_thinned_out_on_the_way_give_the_same_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    links = [
        Links(
            rng.integers(0, 150, 30),
            rng.integers(150, 300, 30),
            rng.uniform(0.9, 1, 30).astype(np.float32),
        )
        for _ in range(10)
    ]

    def linked() -> Linked:
        linker = Linker(300)
        for part in links:
            linker.add(part)
        return linker.groups()

    whole = linked()
    assert whole.tightened and whole.groups
    inside = {position for group in whole.groups for position in group}
    ends = {int(end) for part in links for end in (*part.left, *part.right)}
    assert inside | set(whole.dissolved.tolist()) == ends
    monkeypatch.setattr("taxon.data.duplicates.linking._PENDING", 40)
    thinned = linked()
    assert thinned.groups == whole.groups
    assert thinned.strengths == whole.strengths


def test_many_nearly_equal_pictures_do_not_become_one_group_silently() -> None:
    scene = _scene(0)
    found = _groups([*(_jpeg(scene, 40 + seed) for seed in range(50)), _scene(1), _scene(2)])
    assert found.groups == ()
    assert any("are in none" in note for note in found.notes)


def test_exposures_of_magnetic_tiles_are_found(shared: Path) -> None:
    root = shared / "data" / "magnetic_tile"
    with (root / "labels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"] in ("crack", "blowhole")]
    images = []
    for row in rows:
        with Image.open(root / row["path"]) as image:
            images.append(image.convert("RGB"))
    found = np.arange(len(rows)) + len(rows)
    for number, group in enumerate(_groups(images).groups):
        found[list(group)] = number
    given = np.array([row["tile_group"] for row in rows])
    upper = np.triu_indices(len(rows), 1)
    joined = (found[:, None] == found)[upper]
    same = (given[:, None] == given)[upper]
    assert (joined & same).sum() > 0.8 * joined.sum()
    assert (joined & same).sum() > 0.8 * same.sum()


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_mirrored_and_turned_copies_are_found(turn: Image.Transpose) -> None:
    scenes = [_scene(seed) for seed in range(30)]
    copy = _jpeg(ImageEnhance.Brightness(scenes[7].transpose(turn)).enhance(1.1), 80)
    assert _groups([*scenes, copy]).groups == ((7, 30),)


def test_a_symmetric_picture_is_no_copy_of_itself_or_others() -> None:
    halves = [np.asarray(_scene(seed)) for seed in range(10)]
    symmetric = [Image.fromarray(np.hstack([half, half[:, ::-1]])) for half in halves]
    assert _groups(symmetric).groups == ()
