"""`taxon suggest`: what to label next, without what is labelled, copies and what cannot be read."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import fails, taxon
from PIL import Image
from test_search import write_parts

import taxon as api
from taxon.api.feature_sources import FeatureBatch
from taxon.api.features import ensure_features
from taxon.api.suggestion_pool import Pool
from taxon.data.duplicates.distinct import distinct
from taxon.data.look import look_into
from taxon.data.samples import generate_samples
from taxon.inference import load_embedder
from taxon.preprocessing import Preprocessing
from taxon.similarity import margin_uncertainty

Copy = Callable[[Path], Path]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures that no run has seen."""
    folder = tmp_path_factory.mktemp("new") / "photos"
    generate_samples("defects", folder, size=64, count=40, seed=7)
    return folder


@pytest.fixture
def photos(unlabelled: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(unlabelled, tmp_path / "photos"))


def test_suggests_what_is_unsure_and_says_why(features_run: Path, photos: Path) -> None:
    done = taxon("suggest", features_run, photos, "-n", "8", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({row["path"] for row in rows}) == 8
    assert all(set(row) == {"path", "uncertainty", "reason"} for row in rows)
    assert "8 of 40 new pictures suggested" in done.stderr
    embedder = load_embedder(features_run)
    names = embedder.spec.label_space.names
    for row in rows:
        image = embedder.prepare(Path(row["path"]).read_bytes())
        probabilities = embedder.outputs(image[None]).probabilities
        assert row["uncertainty"] == pytest.approx(
            float(margin_uncertainty(probabilities)[0]), abs=1e-5
        )
        best = names[int(probabilities[0].argmax())]
        assert row["reason"].startswith(f"{best} {probabilities[0].max():.2f} or ")


def test_the_most_uncertain_alone_where_that_is_asked_for(features_run: Path, photos: Path) -> None:
    found = api.suggest(features_run, photos, count=40, method="margin")
    figures = [each.uncertainty for each in found.pictures]
    assert figures == sorted(figures, reverse=True)
    by_default = api.suggest(features_run, photos, count=5)
    assert isinstance(by_default, api.Suggestions)
    assert by_default == api.suggest(features_run, photos, count=5)
    drawn = [
        api.suggest(features_run, photos, count=5, seed=seed, method="weighted") for seed in (0, 1)
    ]
    assert drawn[0].pictures != drawn[1].pictures


def test_pictures_that_the_run_has_are_left_out_and_counted(
    features_run: Path, defects: Path, photos: Path
) -> None:
    for place, picture in enumerate(sorted(defects.rglob("*.jpg"))[:9]):
        shutil.copy(picture, photos / f"under-another-name-{place}.jpg")
    done = taxon("suggest", features_run, photos, "-n", "100")
    assert done.returncode == 0, done.stderr
    assert "9 pictures left out: the run has them already" in done.stderr
    assert "under-another-name" not in done.stdout
    fails(2, "suggest", features_run, defects, saying="180 are in the run already")


def test_near_duplicates_are_suggested_once(features_run: Path, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.jpg"))
    for place, picture in enumerate(pictures):
        image = Image.open(picture)
        image.save(photos / f"again-{place}.png")
        image.resize((96, 96)).save(photos / f"larger-{place}.jpg", quality=70)
    done = taxon("suggest", features_run, photos, "-n", "120", "--method", "margin")
    assert done.returncode == 0, done.stderr
    suggested = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(suggested) <= 40
    counted = re.search(r"(\d+) near-duplicates left out", done.stderr)
    assert counted and int(counted[1]) == 120 - len(suggested)
    origins = []
    for name in map(Path, suggested):
        number = re.search(r"(?:again|larger)-(\d+)", name.name)
        origins.append(pictures[int(number[1])] if number else name)
    assert len(set(origins)) == len(origins)
    # As many as are wanted, though most of what is chosen first are copies.
    few = api.suggest(features_run, photos, count=20, method="margin")
    assert len(few.pictures) == 20


def test_tags_are_unsure_tag_by_tag(tags_run: Path, tmp_path: Path, copy_of: Copy) -> None:
    copy = copy_of(tags_run)
    ensure_features(copy)
    generate_samples("tags", tmp_path / "tags", size=64, count=20, seed=7)
    found = api.suggest(copy, tmp_path / "tags", count=6)
    assert len(found.pictures) == 6
    for each in found.pictures:
        assert 0 <= each.uncertainty <= 1
        assert re.fullmatch(r"\w+ [01]\.\d\d and \w+ [01]\.\d\d", each.reason)


def test_files_of_all_kinds(features_run: Path, photos: Path, tmp_path: Path) -> None:
    table, sheet = tmp_path / "suggest.csv", tmp_path / "suggest.html"
    done = taxon("suggest", features_run, photos, "-n", "5", "--out", table, "--out", sheet)
    assert done.returncode == 0 and done.stdout == ""
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "uncertainty", "reason"] and len(rows) == 5
    page = sheet.read_text(encoding="utf-8")
    assert re.findall(r'class="file" title="([^"]+)"', page) == [row["path"] for row in rows]
    assert page.count("data:image/jpeg;base64,") == 5 and not re.search(r"https?://", page)


def test_stored_features_give_the_same(
    features_run: Path, defects: Path, photos: Path, tmp_path: Path
) -> None:
    pictures = [*sorted(photos.rglob("*.jpg")), *sorted(defects.rglob("*.jpg"))[:7]]
    parts = write_parts(features_run, pictures, tmp_path / "parts", errors={"gone.jpg": "no file"})
    done = taxon("suggest", features_run, parts, "-n", "6")
    assert done.returncode == 3 and "not read: gone.jpg: no file" in done.stderr
    assert "7 pictures left out" in done.stderr
    alone = taxon("suggest", features_run, *pictures, "-n", "6")
    assert alone.returncode == 0 and done.stdout == alone.stdout


def test_stored_pictures_that_are_no_files_here_are_suggested_with_a_note(
    features_run: Path, photos: Path, tmp_path: Path
) -> None:
    pictures = sorted(photos.rglob("*.jpg"))
    parts = write_parts(features_run, pictures, tmp_path / "parts")
    shutil.rmtree(photos)
    done = taxon("suggest", features_run, parts, "-n", "4")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 4
    assert "4 suggested pictures cannot be read as files here" in done.stderr


def test_unreadable_pictures_are_named_and_the_rest_goes_on(
    features_run: Path, photos: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    done = taxon("suggest", features_run, photos, "-n", "3")
    assert done.returncode == 3 and len(done.stdout.splitlines()) == 3
    assert "broken.jpg: the file is empty" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: 1 of 41 pictures could not be read"


def test_an_artefact_alone_knows_no_labels(
    features_run: Path, photos: Path, tmp_path: Path
) -> None:
    alone = shutil.copytree(features_run / "artefacts/onnx-features", tmp_path / "alone")
    done = taxon("suggest", alone, photos, "-n", "2")
    assert done.returncode == 0 and "holds no manifest.parquet" in done.stderr


def test_what_is_asked_for_is_checked(features_run: Path, photos: Path) -> None:
    fails(
        *(2, "suggest", features_run, photos, "--method", "weightd"),
        saying="unknown method 'weightd'; allowed: clusters, weighted, badge, margin, k-center, "
        "typical, random. Did you mean 'weighted'?",
    )
    fails(2, "suggest", features_run, photos, "--out", "list.txt", saying="allowed: .csv and")


def test_the_command_names_every_method() -> None:
    from taxon.cli.suggest import METHODS as NAMED
    from taxon.similarity import METHODS

    assert list(METHODS) == NAMED.split(", ")


def test_of_very_many_the_most_uncertain_are_kept() -> None:
    rng = np.random.default_rng(0)
    unsure = rng.permutation(1000).astype(np.float32)
    pool = Pool(largest=30)
    for rows in np.split(np.arange(1000), 50):
        features = np.repeat(unsure[rows, None], 2, axis=1)
        pool.add(FeatureBatch(tuple(map(str, rows)), features), features, unsure[rows])
    expected = np.flatnonzero(unsure >= 970)
    assert pool.seen == 1000
    assert pool.paths == [str(row) for row in expected]
    np.testing.assert_array_equal(pool.uncertainty, unsure[expected])
    np.testing.assert_array_equal(pool.features[:, 0], pool.uncertainty)
    assert len(pool) == 30


def test_distinct_keeps_the_first_of_each(unlabelled: Path) -> None:
    pictures = [picture.read_bytes() for picture in sorted(unlabelled.rglob("*.jpg"))[:6]]
    looks = [look_into(data, Preprocessing(), "picture") for data in pictures]
    assert distinct(looks) == [0, 1, 2, 3, 4, 5]
    assert distinct([*looks[:3], looks[1], *looks]) == [0, 1, 2, 7, 8, 9]
    assert distinct([]) == []
