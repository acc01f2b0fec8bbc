"""Sample data, through the one public function."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from taxon.core.errors import ConfigError, OutputError
from taxon.data.samples import SAMPLE_KINDS, SampleKind, generate_samples

SIZE = 64
COUNT = 45


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")  # the marker is hidden
    }


@pytest.mark.parametrize("kind", SAMPLE_KINDS)
def test_same_arguments_give_the_same_bytes_and_another_seed_others(
    kind: SampleKind, tmp_path: Path
) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        generate_samples(kind, tmp_path / name, seed=seed, size=SIZE, count=COUNT)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "again")
    other = contents(tmp_path / "other")
    pictures = [name for name in first if name.endswith(".jpg")]
    assert len(pictures) == len({first[name] for name in pictures}) == COUNT
    assert not any(first[name] == other.get(name) for name in pictures)


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    generate_samples("defects", tmp_path / "few", size=SIZE, count=20)
    generate_samples("defects", tmp_path / "more", size=SIZE, count=40)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert few == {name: more[name] for name in few}


def test_defects_are_unequal_class_folders(tmp_path: Path) -> None:
    counts = generate_samples("defects", tmp_path / "set", size=SIZE, count=COUNT)
    files = contents(tmp_path / "set")
    assert Counter(name.split("/")[0] for name in files) == counts
    assert set(counts) == {"good", "scratch", "stain", "pit", "crack", "dent"}
    assert sum(counts.values()) == COUNT
    assert counts["good"] > 2 * counts["dent"] > 0
    assert "scratch/scratch-0001.jpg" in files


def test_taxonomy_is_two_levels_of_balanced_folders(tmp_path: Path) -> None:
    counts = generate_samples("taxonomy", tmp_path / "set", size=SIZE, count=COUNT)
    files = contents(tmp_path / "set")
    assert Counter(name.rsplit("/", 1)[0] for name in files) == counts
    assert {name.split("/")[0] for name in counts} == {"metal", "tile", "fabric"}
    assert all(name.count("/") == 1 for name in counts)
    assert sum(counts.values()) == COUNT
    assert max(counts.values()) - min(counts.values()) <= 1


def test_tags_table_names_every_picture_and_agrees_with_the_counts(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    counts = generate_samples("tags", folder, size=SIZE, count=COUNT)
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "tags"]
    assert {row["path"] for row in rows} == set(contents(folder)) - {"labels.csv"}
    tags = [[tag for tag in row["tags"].split("|") if tag] for row in rows]
    assert Counter(tag for of_picture in tags for tag in of_picture) == counts
    assert all(len(set(of_picture)) == len(of_picture) <= 4 for of_picture in tags)
    assert {0, 1, 2} <= {len(of_picture) for of_picture in tags}


def test_pictures_are_rgb_jpeg_of_the_asked_size_with_light_and_shade(tmp_path: Path) -> None:
    generate_samples("defects", tmp_path / "set", size=48, count=20)
    for path in (tmp_path / "set").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))
            pixels = np.asarray(image, dtype=float)
        assert 20 < pixels.mean() < 240
        assert pixels.std() > 3


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("defect", {}, "no sample data of kind 'defect'.*Did you mean 'defects'"),
        ("defects", {"size": 31}, "size 31 is too small.*32"),
        ("defects", {"seed": -1}, "seed -1 is negative"),
        ("defects", {"count": 17}, "count 17 is too small for 6 classes; give 18 or more"),
        ("tags", {"count": 5}, "count 5 is too small"),
        ("taxonomy", {"count": 20}, "count 20 is too small"),
    ],
)
def test_impossible_requests_are_refused_and_write_nothing(
    kind: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_samples(cast(SampleKind, kind), tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SAMPLE_KINDS)
def test_the_smallest_count_gives_every_class_a_few(kind: SampleKind, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        generate_samples(kind, tmp_path / "set", size=32, count=1)
    fewest = int(str(refusal.value).split("give ")[1].split()[0])
    counts = generate_samples(kind, tmp_path / "set", size=32, count=fewest)
    assert min(counts.values()) >= 3


def test_a_folder_that_holds_something_is_kept_unless_overwrite_is_set(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("keep me", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty"):
        generate_samples("defects", tmp_path, size=SIZE, count=20)
    assert list(tmp_path.iterdir()) == [mine]
    with pytest.raises(OutputError, match="taxon did not write it"):
        generate_samples("defects", tmp_path, size=32, count=20, overwrite=True)
    assert list(tmp_path.iterdir()) == [mine]
    mine.unlink()
    generate_samples("tags", tmp_path, size=32, count=20)
    generate_samples("defects", tmp_path, size=32, count=20, overwrite=True)
    assert not mine.exists()
    assert (tmp_path / "good").is_dir()
