"""The loader: the same batches for the same seed, every picture once, one preprocessing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, make_classes, pattern, write_folders
from PIL import Image, ImageOps

from taxon.config import AugmentConfig, LoaderConfig
from taxon.core.cache import VARIABLE
from taxon.core.errors import ImageError
from taxon.data import Manifest, load_manifest
from taxon.data.loading import loader
from taxon.data.loading.decode_cache import DecodeCache, open_decode_cache
from taxon.data.loading.loader import (
    Batch,
    evaluation_batches,
    pictures_at_once,
    training_batches,
)
from taxon.data.loading.pixel_store import DiskStore
from taxon.data.loading.processes import LoadingProcesses
from taxon.data.loading.sampling import EpochPlan
from taxon.data.loading.views import ViewMaker
from taxon.preprocessing import Preprocessing, prepare

SPEC = Preprocessing(height=16, width=24)
OFF = AugmentConfig(crop_scale=1, crop_ratio=1, horizontal_flip=0, vertical_flip=0, colour=0)
ON = AugmentConfig()
# All that can be switched on: the chance of every change must come from the view's generator.
EVERYTHING = AugmentConfig(policy="rand", operations=3, erasing=0.5, vertical_flip=0.5)
Batches = list[Batch]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Ten different pictures of two classes."""
    return load_manifest(write_folders(tmp_path_factory.mktemp("loader"), {"a": 6, "b": 4}))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Eight pictures that a cache reduces: JPEG and PNG, of 160x120 and 90x200."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(8):
        # Smooth, as photos are: reducing twice then changes little.
        small = Image.fromarray(pattern(8, 6, number))
        size = (160, 120) if number % 2 else (90, 200)
        picture = small.resize(size, Image.Resampling.BICUBIC)
        suffix, form = (".jpg", "JPEG") if number < 4 else (".png", "PNG")
        path = folder / "ab"[number % 2] / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(picture, form))
    return load_manifest(folder)


def _train(
    manifest: Manifest,
    config: AugmentConfig = ON,
    *,
    batch_size: int = 4,
    seed: int = 0,
    epoch: int = 0,
    workers: int = 0,
    plan: EpochPlan | None = None,
    cache: DecodeCache | None = None,
) -> Batches:
    maker = ViewMaker(manifest.records, SPEC, config, seed, cache=cache)
    processes = LoadingProcesses(workers) if workers else None
    return list(
        training_batches(
            manifest, maker, batch_size=batch_size, epoch=epoch, plan=plan, processes=processes
        )
    )


def _equal(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, y)
        for pair in zip(one, other, strict=True)
        for x, y in zip(*pair, strict=True)
    )


def _contents(batches: Iterable[Batch]) -> list[bytes]:
    return sorted(image.numpy().tobytes() for batch in batches for image in batch.images)


def _in_memory(manifest: Manifest, config: AugmentConfig = ON) -> DecodeCache:
    cache = open_decode_cache(manifest.records, (), SPEC, config, LoaderConfig(cache="ram"))
    assert cache is not None
    return cache


def _plan(positions: list[int], extra: list[bool]) -> EpochPlan:
    return EpochPlan(np.array(positions, dtype=np.int64), np.array(extra, dtype=np.bool_))


def _inputs(manifest: Manifest) -> list[np.ndarray]:
    return [prepare(record.path.read_bytes(), SPEC) for record in manifest.records]


def test_training_batches_are_uint8_pictures_with_their_targets(manifest: Manifest) -> None:
    batches = _train(manifest)
    for images, targets, weights in batches:
        assert images.dtype == torch.uint8
        assert images.shape == (len(targets), 3, 16, 24)
        assert targets.dtype == torch.int64
        assert weights.tolist() == [1.0] * len(targets)
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == [0] * 6 + [1] * 4


def test_targets_belong_to_their_pictures(manifest: Manifest) -> None:
    known = dict(
        zip((image.tobytes() for image in _inputs(manifest)), manifest.targets(), strict=True)
    )
    for images, targets, _ in _train(manifest, OFF):
        for image, target in zip(images, targets, strict=True):
            assert known[image.numpy().tobytes()] == target


def test_same_seed_and_epoch_give_the_same_batches(manifest: Manifest) -> None:
    assert _equal(_train(manifest, seed=3, epoch=2), _train(manifest, seed=3, epoch=2))


@pytest.mark.parametrize("config", [ON, OFF])
def test_other_epochs_and_seeds_give_other_batches(
    manifest: Manifest, config: AugmentConfig
) -> None:
    first = _train(manifest, config)
    assert not _equal(first, _train(manifest, config, epoch=1))
    assert not _equal(first, _train(manifest, config, seed=1))


def test_views_change_from_epoch_to_epoch(manifest: Manifest) -> None:
    first, second = _contents(_train(manifest)), _contents(_train(manifest, epoch=1))
    assert not set(first) & set(second)


@pytest.mark.parametrize("batch_size", [3, 4, 9, 10, 64])
def test_every_picture_is_shown_once_an_epoch(manifest: Manifest, batch_size: int) -> None:
    expected = sorted(image.tobytes() for image in _inputs(manifest))
    assert _contents(_train(manifest, OFF, batch_size=batch_size)) == expected


@pytest.mark.parametrize("batch_size", [3, 10])
def test_views_do_not_depend_on_the_batch_size(manifest: Manifest, batch_size: int) -> None:
    views = [image for batch in _train(manifest, EVERYTHING) for image in batch.images]
    other = _train(manifest, EVERYTHING, batch_size=batch_size)
    assert torch.equal(torch.stack(views), torch.cat([batch.images for batch in other]))


@pytest.mark.parametrize("cores", [1, 7])
def test_views_do_not_depend_on_the_number_of_threads(
    manifest: Manifest, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _train(manifest, EVERYTHING)
    monkeypatch.setattr(loader, "share_of_cores", lambda: cores)
    assert _equal(_train(manifest, EVERYTHING), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_views_do_not_depend_on_the_number_of_processes(manifest: Manifest, workers: int) -> None:
    assert _equal(
        _train(manifest, EVERYTHING, workers=workers, batch_size=3),
        _train(manifest, EVERYTHING, batch_size=3),
    )


@given(st.integers(2, 300), st.integers(3, 70))
@settings(max_examples=100, deadline=None)
def test_batches_are_of_nearly_equal_size_and_never_of_one(count: int, batch_size: int) -> None:
    records = make_classes({"a": count - count // 2, "b": count // 2})
    maker = ViewMaker(records.records, SPEC, OFF, seed=0)
    epoch = training_batches(records, maker, batch_size=batch_size, epoch=0)
    batches = epoch.places
    sizes = [len(batch) for batch in batches]
    assert len(epoch) == len(sizes)
    assert [place for batch in batches for place in batch] == list(range(count))
    assert min(sizes) >= 2
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_multilabel_targets_are_rows_of_0_and_1(manifest: Manifest) -> None:
    space = manifest.label_space.model_copy(update={"task": "multilabel"})
    targets = _train(replace(manifest, label_space=space), batch_size=10)[0].targets
    assert targets.shape == (10, 2)
    assert targets.sum(dim=1).tolist() == [1] * 10


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_evaluation_batches_are_the_one_preprocessing_in_order(
    manifest: Manifest, mode: str, batch_size: int
) -> None:
    spec = SPEC.model_copy(update={"resize": mode})
    batches = list(evaluation_batches(manifest.records, spec, batch_size=batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    expected = [prepare(record.path.read_bytes(), spec) for record in manifest.records]
    np.testing.assert_array_equal(np.concatenate(batches), np.stack(expected))


@pytest.mark.parametrize(
    ("height", "width", "pictures"), [(32, 32, 64), (224, 224, 64), (380, 380, 22), (4096, 4096, 1)]
)
def test_of_large_pictures_fewer_at_once(height: int, width: int, pictures: int) -> None:
    assert pictures_at_once(Preprocessing(height=height, width=width)) == pictures


def test_evaluation_batches_are_as_large_as_memory_allows(manifest: Manifest) -> None:
    spec = Preprocessing(height=600, width=600)
    sizes = [len(batch) for batch in evaluation_batches(manifest.records, spec)]
    assert sizes == [8, 2]


def test_no_records_give_no_evaluation_batches() -> None:
    assert list(evaluation_batches((), SPEC, batch_size=4)) == []


def test_picture_that_vanished_is_named(manifest: Manifest) -> None:
    gone = replace(manifest.records[0], path=Path("gone.png"))
    with pytest.raises(ImageError, match=r"gone\.png"):
        list(evaluation_batches([gone], SPEC, batch_size=4))


# Plans


def test_plan_says_which_pictures_are_shown_in_which_order(manifest: Manifest) -> None:
    inputs = _inputs(manifest)
    order = [3, 3, 9, 0]
    batches = _train(manifest, OFF, batch_size=2, plan=_plan(order, [False] * 4))
    shown = torch.cat([batch.images for batch in batches]).numpy()
    np.testing.assert_array_equal(shown, np.stack([inputs[position] for position in order]))
    targets = torch.cat([batch.targets for batch in batches]).tolist()
    assert targets == [manifest.targets()[position] for position in order]


def test_empty_plan_has_no_batches(manifest: Manifest) -> None:
    assert _train(manifest, plan=_plan([], [])) == []


def test_same_picture_has_another_view_each_time_it_is_shown(manifest: Manifest) -> None:
    views = _contents(_train(manifest, plan=_plan([2] * 6, [False] * 6)))
    assert len(set(views)) == 6


def test_rare_augmentation_changes_extra_views_alone(manifest: Manifest) -> None:
    plan = _plan([0, 0, 1, 1], [False, True, False, True])
    maker = ViewMaker(
        manifest.records, SPEC, OFF, seed=0, rare=lambda view, rng: ImageOps.invert(view)
    )
    batches = training_batches(manifest, maker, batch_size=4, epoch=0, plan=plan)
    images = next(iter(batches)).images
    assert torch.equal(images[1], 255 - images[0])
    assert torch.equal(images[3], 255 - images[2])


def test_weights_are_those_of_the_records(manifest: Manifest) -> None:
    records = tuple(
        replace(record, weight=float(position)) for position, record in enumerate(manifest.records)
    )
    plan = _plan([4, 1, 4], [False] * 3)
    batches = _train(replace(manifest, records=records), plan=plan)
    weights = torch.cat([batch.weights for batch in batches])
    assert weights.dtype == torch.float32
    assert weights.tolist() == [4.0, 1.0, 4.0]


# Leaving and failing


def test_threads_end_when_the_caller_leaves_early(manifest: Manifest) -> None:
    maker = ViewMaker(manifest.records, SPEC, ON, seed=0)
    batches = iter(training_batches(manifest, maker, batch_size=2, epoch=0))
    next(batches)
    assert _loading_threads()
    del batches
    assert not _loading_threads()


def _loading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "taxon-loader" in thread.name]


def test_loading_processes_leave_stop_requests_to_the_training(manifest: Manifest) -> None:
    maker, processes = ViewMaker(manifest.records, SPEC, ON, seed=0), LoadingProcesses(1)
    batches = iter(training_batches(manifest, maker, batch_size=2, epoch=0, processes=processes))
    next(batches)
    (process,) = multiprocessing.active_children()
    assert process.pid is not None
    # As torchrun and a terminal do: to the whole group.
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert len(list(batches)) == 4


def test_loading_processes_stay_over_the_epochs_and_end_when_they_are_closed(
    manifest: Manifest,
) -> None:
    maker, processes = ViewMaker(manifest.records, SPEC, ON, seed=0), LoadingProcesses(2)

    def epoch(number: int, kept: LoadingProcesses | None) -> Batches:
        return list(training_batches(manifest, maker, batch_size=2, epoch=number, processes=kept))

    assert _equal(epoch(1, processes), epoch(1, None))
    started = {child.pid for child in multiprocessing.active_children()}
    assert len(started) == 2
    # An epoch that was left early takes nothing from the next one.
    left = iter(training_batches(manifest, maker, batch_size=2, epoch=2, processes=processes))
    next(left)
    del left
    assert _equal(epoch(3, processes), epoch(3, None))
    assert {child.pid for child in multiprocessing.active_children()} == started
    # An iterator that somebody still holds keeps them no longer than any other.
    left = iter(training_batches(manifest, maker, batch_size=2, epoch=4, processes=processes))
    next(left)
    processes.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_training_picture_that_vanished_is_named(manifest: Manifest, workers: int) -> None:
    gone = replace(manifest.records[4], path=Path("gone.png"))
    records = (*manifest.records[:4], gone, *manifest.records[5:])
    with pytest.raises(ImageError, match=r"^gone\.png: No such file") as caught:
        _train(replace(manifest, records=records), workers=workers)
    assert caught.value.kind == "missing"
    assert not _loading_threads()


# With a cache


@pytest.mark.parametrize("config", [ON, OFF, EVERYTHING])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_views_are_the_same_while_the_cache_fills_and_when_it_is_full(
    large: Manifest, mode: str, config: AugmentConfig
) -> None:
    spec = SPEC.model_copy(update={"resize": mode})
    cache = open_decode_cache(large.records, (), spec, config, LoaderConfig(cache="ram"))
    maker = ViewMaker(large.records, spec, config, seed=0, cache=cache)
    first, second = (list(training_batches(large, maker, batch_size=3, epoch=0)) for _ in range(2))
    assert _equal(first, second)


def test_views_are_the_same_in_a_cache_without_room(large: Manifest) -> None:
    tiny = LoaderConfig(cache="ram", cache_gigabytes=1e-9)
    cache = open_decode_cache(large.records, (), SPEC, ON, tiny)
    assert _equal(_train(large, cache=cache), _train(large, cache=_in_memory(large)))


@pytest.mark.parametrize("dct", [False, True])
@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_views_with_a_cache_are_close_to_those_without(
    large: Manifest, mode: str, dct: bool
) -> None:
    spec = SPEC.model_copy(update={"resize": mode, "jpeg_dct_scaling": dct})
    cache = open_decode_cache(large.records, (), spec, ON, LoaderConfig(cache="ram"))
    kept, direct = (
        torch.cat(
            [
                batch.images.float()
                for batch in training_batches(
                    large,
                    ViewMaker(large.records, spec, ON, seed=0, cache=one),
                    batch_size=4,
                    epoch=0,
                )
            ]
        )
        for one in (cache, None)
    )
    assert not torch.equal(kept, direct)
    assert (kept - direct).abs().mean() < 6


def test_cached_pictures_are_read_no_more(large: Manifest) -> None:
    cache = _in_memory(large)
    expected = _train(large, cache=cache)
    moved = tuple(replace(record, path=Path("gone.png")) for record in large.records)
    assert _equal(_train(replace(large, records=moved), cache=cache), expected)


@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
def test_evaluation_batches_are_exactly_the_same_with_a_cache(large: Manifest, mode: str) -> None:
    spec = SPEC.model_copy(update={"resize": mode})
    cache = open_decode_cache((), large.records, spec, ON, LoaderConfig(cache="ram"))
    expected = [prepare(record.path.read_bytes(), spec) for record in large.records]
    for _ in range(2):
        batches = evaluation_batches(large.records, spec, batch_size=3, cache=cache)
        np.testing.assert_array_equal(np.concatenate(list(batches)), np.stack(expected))
    moved = [replace(record, path=Path("gone.png")) for record in large.records]
    batches = evaluation_batches(moved, spec, batch_size=3, cache=cache)
    np.testing.assert_array_equal(np.concatenate(list(batches)), np.stack(expected))


def test_loading_processes_share_a_cache_on_disk(
    large: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    config = LoaderConfig(cache="disk")
    cache = open_decode_cache(large.records, (), SPEC, ON, config, workers=2)
    assert cache is not None
    first = _train(large, workers=2, cache=cache)
    assert _equal(first, _train(large, cache=_in_memory(large)))
    moved = tuple(replace(record, path=Path("gone.png")) for record in large.records)
    assert _equal(_train(replace(large, records=moved), workers=2, cache=cache), first)


@pytest.mark.parametrize("workers", [0, 2])
def test_disk_that_cannot_be_written_is_noted_once(
    large: Manifest, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "file").write_text("")
    roomy = _in_memory(large)
    cache = replace(roomy, store=DiskStore(tmp_path / "file"))
    assert _equal(_train(large, workers=workers, cache=cache), _train(large, cache=roomy))
    (note,) = cache.notes
    assert note.startswith("decoded pictures are no longer kept (")
