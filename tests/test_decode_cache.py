"""The decode cache: what is kept is right, bounded, shared by processes, and never in the way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, pattern, write_folders

from taxon.config import AugmentConfig, LoaderConfig
from taxon.core.cache import VARIABLE
from taxon.core.errors import ImageError, OutputError
from taxon.data import Manifest, load_manifest
from taxon.data.loading import decode_cache as module
from taxon.data.loading.decode_cache import (
    DecodeCache,
    entry_key,
    open_decode_cache,
    prepared_recipe,
    reduced_recipe,
)
from taxon.data.loading.pixel_store import DiskStore, Pixels
from taxon.preprocessing import Preprocessing, prepare

SPEC = Preprocessing(height=16, width=24)
AUGMENT = AugmentConfig()
ENTRY_BYTES = 3 * 16 * 24


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a cache folder of its own."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Ten different pictures of two classes."""
    return load_manifest(write_folders(tmp_path / "data", {"a": 6, "b": 4}))


def _open(
    manifest: Manifest, cache: str = "disk", *, gigabytes: float | None = None, workers: int = 0
) -> DecodeCache:
    """A cache of pictures as evaluation sees them."""
    config = LoaderConfig(cache=cache, cache_gigabytes=gigabytes)  # type: ignore[arg-type]
    opened = open_decode_cache((), manifest.records, SPEC, AUGMENT, config, workers=workers)
    assert opened is not None
    return opened


def _fetch_all(cache: DecodeCache, manifest: Manifest) -> list[Pixels]:
    recipe = prepared_recipe(SPEC)
    return [
        cache.fetch(record, recipe, lambda data: prepare(data, SPEC)) for record in manifest.records
    ]


def _expected(manifest: Manifest) -> list[Pixels]:
    return [prepare(record.path.read_bytes(), SPEC) for record in manifest.records]


def _same(one: Sequence[Pixels], other: Sequence[Pixels]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _entries(home: Path) -> list[Path]:
    return sorted(path for path in (home / "pixels").rglob("*") if path.is_file())


def _without_files(manifest: Manifest) -> Manifest:
    records = tuple(replace(record, path=Path("gone.png")) for record in manifest.records)
    return replace(manifest, records=records)


@pytest.mark.parametrize("place", ["ram", "disk", "auto"])
def test_kept_pictures_are_right_and_need_no_file(manifest: Manifest, place: str) -> None:
    cache, expected = _open(manifest, place), _expected(manifest)
    assert _same(_fetch_all(cache, manifest), expected)
    assert _same(_fetch_all(cache, _without_files(manifest)), expected)


def test_disk_outlives_the_run_and_memory_does_not(manifest: Manifest) -> None:
    for place in ("disk", "ram"):
        _fetch_all(_open(manifest, place), manifest)
    assert _same(_fetch_all(_open(manifest), _without_files(manifest)), _expected(manifest))
    with pytest.raises(ImageError, match=r"gone\.png"):
        _fetch_all(_open(manifest, "ram"), _without_files(manifest))


def test_switched_off_is_none(manifest: Manifest) -> None:
    config = LoaderConfig(cache="none")
    assert open_decode_cache(manifest.records, (), SPEC, AUGMENT, config) is None


# What is kept, and for what


def test_another_content_is_never_served(manifest: Manifest) -> None:
    _fetch_all(_open(manifest), manifest)
    first = manifest.records[0]
    first.path.write_bytes(encode(pattern(12, 10, 99)))
    fresh = load_manifest(manifest.root)
    assert fresh.records[0].sha256 != first.sha256
    assert _same(_fetch_all(_open(fresh), fresh), _expected(fresh))


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_file_that_changed_since_the_manifest_is_not_kept(manifest: Manifest, place: str) -> None:
    original = _expected(manifest)
    cache, first = _open(manifest, place), manifest.records[0]
    content = first.path.read_bytes()
    first.path.write_bytes(encode(pattern(12, 10, 99)))
    changed = _fetch_all(cache, manifest)
    assert not np.array_equal(changed[0], original[0])
    first.path.write_bytes(content)
    assert _same(_fetch_all(cache, manifest), original)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 32},
        {"resize": "pad"},
        {"interpolation": "bilinear"},
        {"jpeg_dct_scaling": True},
        {"exif_orientation": False},
        {"background": 0},
        {"truncated": "fill"},
    ],
)
def test_another_preprocessing_has_other_entries(change: dict[str, Any]) -> None:
    other = SPEC.model_copy(update=change)
    assert reduced_recipe(other, AUGMENT) != reduced_recipe(SPEC, AUGMENT)
    assert prepared_recipe(other) != prepared_recipe(SPEC)
    assert prepared_recipe(SPEC) != reduced_recipe(SPEC, AUGMENT)


def test_smaller_crops_have_other_entries_and_colour_has_not() -> None:
    crops, colour = (
        AUGMENT.model_copy(update=change) for change in ({"crop_scale": 0.9}, {"colour": 0.0})
    )
    assert reduced_recipe(SPEC, crops) != reduced_recipe(SPEC, AUGMENT)
    assert reduced_recipe(SPEC, colour) == reduced_recipe(SPEC, AUGMENT)


# Damage


@pytest.mark.parametrize("damage", ["half", "empty", "header", "pixel", "longer", "other shape"])
def test_damaged_entry_is_made_anew_and_replaced(
    manifest: Manifest, cache_home: Path, damage: str
) -> None:
    _fetch_all(_open(manifest), manifest)
    whole = {path: path.read_bytes() for path in _entries(cache_home)}
    for path, content in whole.items():
        spoiled = {
            "half": content[: len(content) // 2],
            "empty": b"",
            "header": b"x" + content[1:],
            "pixel": content[:-1] + bytes([content[-1] ^ 1]),
            "longer": content + b"x",
            "other shape": content[:8] + b"\xff" * 12 + content[20:],
        }[damage]
        path.write_bytes(spoiled)
    assert _same(_fetch_all(_open(manifest), manifest), _expected(manifest))
    assert {path: path.read_bytes() for path in _entries(cache_home)} == whole


# Limits


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_limit_in_bytes_is_kept(manifest: Manifest, cache_home: Path, place: str) -> None:
    cache = _open(manifest, place, gigabytes=4.5 * ENTRY_BYTES / 1e9)
    assert "4 of 10" in cache.summary
    for _ in range(2):
        assert _same(_fetch_all(cache, manifest), _expected(manifest))
    if place == "disk":
        assert len(_entries(cache_home)) == 4
    kept = sum(
        cache.store.get(entry_key(record, prepared_recipe(SPEC))) is not None
        for record in manifest.records
    )
    assert kept == 4


def test_entry_larger_than_planned_is_not_kept(manifest: Manifest, cache_home: Path) -> None:
    cache = _open(manifest)
    record = manifest.records[0]
    huge = np.zeros((3, 160, 240), dtype=np.uint8)
    assert cache.fetch(record, prepared_recipe(SPEC), lambda data: huge) is huge
    assert _entries(cache_home) == []


def test_disk_is_bounded_across_runs_and_the_oldest_goes(
    manifest: Manifest, tmp_path: Path, cache_home: Path
) -> None:
    limit = 14.5 * (ENTRY_BYTES + 32) / 1e9
    _fetch_all(_open(manifest, gigabytes=limit), manifest)
    old = _entries(cache_home)
    for age, path in enumerate(old):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    other = load_manifest(write_folders(tmp_path / "other", {"a": 4, "b": 3}, first_seed=50))
    _fetch_all(_open(other, gigabytes=limit), other)
    left = _entries(cache_home)
    assert len(left) == 14
    assert {path for path in old if path in left} == set(old[:7])


def test_entries_of_the_run_itself_stay(manifest: Manifest, cache_home: Path) -> None:
    limit = 10.5 * ENTRY_BYTES / 1e9
    for _ in range(2):
        _fetch_all(_open(manifest, gigabytes=limit), manifest)
        assert len(_entries(cache_home)) == 10


def test_unfinished_entries_of_others_count_towards_the_limit(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.put("ab1", np.zeros((3, 10, 10), np.uint8))
    (tmp_path / "ab" / "half.tmp").write_bytes(bytes(1000))
    store.claim((), limit=1500, planned=0)
    assert store.path("ab1").exists()
    store.claim((), limit=1200, planned=0)
    assert not store.path("ab1").exists()


def test_abandoned_halves_are_removed(manifest: Manifest, cache_home: Path) -> None:
    _fetch_all(_open(manifest), manifest)
    half = _entries(cache_home)[0].with_name("half.tmp")
    half.write_bytes(b"x")
    _open(manifest)
    assert half.exists()  # perhaps another process is writing it
    os.utime(half, (1_000_000, 1_000_000))
    _open(manifest)
    assert not half.exists()


# Where


@pytest.mark.parametrize(
    ("memory", "disk", "workers", "place"),
    [
        (100, 100, 0, "in memory"),
        (5, 100, 0, "pixels"),
        (5, 3, 0, "in memory: 5 of 10"),
        (3, 5, 0, "pixels: 5 of 10"),
        (100, 100, 2, "pixels"),
    ],
)
def test_auto_takes_memory_if_all_fit_else_the_disk_else_the_larger(
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    disk: int,
    workers: int,
    place: str,
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: memory * ENTRY_BYTES * 4)
    usage = type("Usage", (), {"free": disk * ENTRY_BYTES * 4})()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    assert place in _open(manifest, "auto", workers=workers).summary


def test_loading_processes_share_no_memory(manifest: Manifest) -> None:
    assert isinstance(_open(manifest, "ram", workers=2).store, DiskStore)


def test_disk_that_was_asked_for_and_cannot_be_had_is_named(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match=VARIABLE):
        _open(manifest, "disk")
    assert _same(_fetch_all(_open(manifest, "auto"), manifest), _expected(manifest))
    assert "0 of 10" in _open(manifest, "auto", workers=2).summary


def test_full_disk_is_noted_once_and_does_not_stop_the_run(
    manifest: Manifest, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = _open(manifest)
    real, calls = tempfile.NamedTemporaryFile, []

    def full(*arguments: Any, **options: Any) -> Any:
        stream = real(*arguments, **options)
        calls.append(stream.name)

        def write(data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        stream.write = write  # type: ignore[method-assign]
        return stream

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    for _ in range(2):
        assert _same(_fetch_all(cache, manifest), _expected(manifest))
    assert cache.notes == ["decoded pictures are no longer kept (No space left on device)"]
    assert len(calls) == 1
    assert _entries(cache_home) == []


# Several at once


def test_threads_may_write_and_read_the_same_entry(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    pictures = [np.full((40, 50, 3), level, dtype=np.uint8) for level in range(4)]

    def work(number: int) -> bool:
        store.put("k" * 64, pictures[number % 4])
        found = store.get("k" * 64)
        return found is not None and any(np.array_equal(found, one) for one in pictures)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert len(list(tmp_path.glob("*/*"))) == 1


def _fill(root: Path, home: Path, answers: Any) -> None:
    os.environ[VARIABLE] = str(home)
    manifest = load_manifest(root)
    answers.put([_same(_fetch_all(_open(manifest), manifest), _expected(manifest))] * 2)


def test_two_processes_at_once_share_the_cache(manifest: Manifest, cache_home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_fill, args=(manifest.root, cache_home, answers)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    assert all(all(answers.get(timeout=60)) for _ in processes)
    for process in processes:
        process.join()
    assert len([path for path in _entries(cache_home) if path.suffix == ".pixels"]) == 10
    assert _same(_fetch_all(_open(manifest), _without_files(manifest)), _expected(manifest))
