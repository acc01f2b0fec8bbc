"""Looks into pictures, their cache, and the manifest that is built from them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, pattern, plain, write_folders
from PIL import Image, ImageFilter

import taxon.data.build as build
from taxon.core.cache import cache_folder
from taxon.core.errors import DataError, OutputError
from taxon.core.fingerprint import sha256_bytes
from taxon.data import load_manifest, read_manifest, write_manifest
from taxon.data.look import Look, look_into
from taxon.data.manifest import is_manifest
from taxon.preprocessing import Preprocessing

SPEC = Preprocessing()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TAXON_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", {"a": 4, "b": 4})


def _look(image: Image.Image) -> Look:
    return look_into(encode(image), SPEC, "x")


class Counter:
    """Counts how often a picture is really decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []

        def counting(data: bytes, spec: Preprocessing, source: str) -> Look:
            self.names.append(source)
            return look_into(data, spec, source)

        monkeypatch.setattr(build, "look_into", counting)


def test_brightness_contrast_and_colours() -> None:
    dark, bright = _look(plain(40, 30, (0, 0, 0))), _look(plain(40, 30, (255, 255, 255)))
    assert (dark.brightness, dark.contrast) == (0, 0)
    assert bright.brightness == pytest.approx(1)
    framed = Image.new("RGB", (128, 128), (255, 0, 0))
    framed.paste((0, 0, 255), (16, 16, 112, 112))
    look = _look(framed)
    assert look.border_colour == pytest.approx((1, 0, 0))
    assert look.mean_colour[2] == pytest.approx((96 / 128) ** 2, abs=0.02)


def test_sharpness_falls_when_a_picture_is_blurred() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    sharp = Image.fromarray(noise)
    values = [
        _look(sharp.filter(ImageFilter.GaussianBlur(radius))).sharpness for radius in (0, 1, 4)
    ]
    assert values[0] > 10 * values[1] > 100 * values[2] > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2), (3000, 10)])
def test_every_size_can_be_looked_into(size: tuple[int, int]) -> None:
    look = _look(plain(*size, (10, 20, 30)))
    assert (look.width, look.height) == size
    assert len(look.thumbnail) == 256 and 0 <= look.hash < 2**64


def test_a_look_sees_the_whole_of_a_jpeg_that_training_may_shrink() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    data = encode(noise, "JPEG")
    shrinking = SPEC.model_copy(update={"height": 32, "width": 32, "jpeg_dct_scaling": True})
    assert look_into(data, shrinking, "x") == look_into(data, SPEC, "x")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of change of the file itself")
def test_a_file_replaced_with_its_old_size_and_time_is_seen(photos: Path) -> None:
    path = photos / "a" / "flat.bmp"
    path.write_bytes(encode(plain(20, 20, (1, 2, 3)), "BMP"))
    load_manifest(photos)
    before = path.stat()
    path.write_bytes(encode(plain(20, 20, (200, 2, 3)), "BMP"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    (record,) = [record for record in load_manifest(photos).records if record.id == "a/flat.bmp"]
    assert record.sha256 == sha256_bytes(path.read_bytes())


def test_a_second_look_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_manifest(photos)
    counter = Counter(monkeypatch)
    assert load_manifest(photos) == first
    assert counter.names == []


def test_only_what_changed_is_looked_into_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_manifest(photos)
    (photos / "a" / "00.png").write_bytes(encode(pattern(20, 20, 77)))
    (photos / "b" / "new.png").write_bytes(encode(pattern(20, 20, 78)))
    os.utime(photos / "a" / "01.png", ns=(1, 1))
    counter = Counter(monkeypatch)
    after = load_manifest(photos)
    assert sorted(counter.names) == ["a/00.png", "a/01.png", "b/new.png"]
    assert after.records[0].sha256 != before.records[0].sha256
    assert after.records[1] == before.records[1]


def test_failures_are_remembered_and_mended_files_are_seen(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = photos / "a" / "00.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    assert [row.id for row in load_manifest(photos).skipped] == ["a/00.png"]
    counter = Counter(monkeypatch)
    again = load_manifest(photos)
    assert counter.names == [] and again.skipped[0].kind in ("truncated", "damaged")
    broken.write_bytes(whole)
    assert load_manifest(photos).skipped == ()


def test_another_policy_for_truncated_files_looks_again(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "p", {"a": 2, "b": 2})
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
    (photos / "a" / "half.jpg").write_bytes(data[: len(data) // 2])
    assert [row.kind for row in load_manifest(photos).skipped] == ["truncated"]
    filled = load_manifest(photos, spec=SPEC.model_copy(update={"truncated": "fill"}))
    assert filled.skipped == ()
    assert [record.look.truncated for record in filled.records if record.look].count(True) == 1


@pytest.mark.parametrize("damage", [b"", b"ARROW1 but not really", None])
def test_a_damaged_cache_is_made_anew(
    photos: Path, cache: Path, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_manifest(photos)
    (file,) = (cache / "looks").iterdir()
    file.write_bytes(file.read_bytes()[:100] if damage is None else damage)
    counter = Counter(monkeypatch)
    assert load_manifest(photos) == first
    assert len(counter.names) == 8


def test_an_interrupted_look_is_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_manifest(photos, progress=stop)
    counter = Counter(monkeypatch)
    load_manifest(photos)
    assert counter.names == []


def test_a_full_disk_does_not_stop_the_look(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.feather.write_feather", full)
    manifest = load_manifest(photos)
    assert len(manifest) == 8
    (note,) = manifest.notes
    assert "the next run looks into every picture again" in note and "No space left" in note


def test_an_impossible_cache_does_not_stop_the_look(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "file"))
    manifest = load_manifest(photos)
    assert len(manifest) == 8
    (note,) = manifest.notes
    assert "the next run looks into every picture again" in note and "TAXON_CACHE" in note


def test_cache_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="TAXON_CACHE"):
        cache_folder("looks")


def test_manifest_keeps_mode_size_hash_and_weight(photos: Path, tmp_path: Path) -> None:
    manifest = load_manifest(photos)
    heavy = replace(manifest, records=tuple(replace(r, weight=2.5) for r in manifest.records))
    write_manifest(heavy, tmp_path / "m.parquet")
    again = read_manifest(tmp_path / "m.parquet")
    assert again.records == tuple(replace(record, look=None) for record in heavy.records)
    assert again.records[0].mode == "RGB" and again.records[0].hash is not None
    assert again.records[0].file_size == (photos / "a" / "00.png").stat().st_size
    assert is_manifest(tmp_path / "m.parquet") and not is_manifest(photos / "a" / "00.png")


def test_a_manifest_is_a_source_that_notices_changed_files(photos: Path, tmp_path: Path) -> None:
    manifest = load_manifest(photos)
    parts = ["train", "validation", "test", "train"] * 2
    write_manifest(manifest.with_splits(parts), tmp_path / "m.parquet")  # type: ignore[arg-type]
    (photos / "a" / "00.png").write_bytes(encode(pattern(20, 20, 77)))
    again = load_manifest(tmp_path / "m.parquet")
    assert [(row.id, row.kind) for row in again.skipped] == [("a/00.png", "changed")]
    assert [record.split for record in again.records] == parts[1:]
    assert again.label_space == manifest.label_space


def test_nothing_usable_names_the_first_reason(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/x\.png: the file is empty"):
        load_manifest(tmp_path / "p")
