"""`taxon search`: the pictures most like an example, from files or from stored features."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import fails, taxon, taxon_process
from PIL import Image

import taxon as api
from taxon.core.errors import ConfigError, DataError
from taxon.inference import load_embedder

Copy = Callable[[Path], Path]


@pytest.fixture
def photos(defects: Path, tmp_path: Path) -> Path:
    """Twelve pictures of two classes, and a copy of the first."""
    folder = tmp_path / "photos"
    for kind in ("crack", "stain"):
        (folder / kind).mkdir(parents=True)
        for picture in sorted((defects / kind).iterdir())[:6]:
            shutil.copy(picture, folder / kind)
    shutil.copy(first(folder), folder / "again.jpg")
    return folder


def first(photos: Path) -> Path:
    """The example."""
    return sorted((photos / "crack").iterdir())[0]


def write_parts(
    run: Path, pictures: list[Path], folder: Path, *, errors: dict[str, str] | None = None
) -> Path:
    """What `taxon embed` writes, in two parts."""
    embedder = load_embedder(run)
    images = np.stack([embedder.prepare(picture.read_bytes()) for picture in pictures])
    rows: list[tuple[str, object, str | None]] = [
        (str(picture), row.tolist(), None)
        for picture, row in zip(pictures, embedder.run(images), strict=True)
    ]
    rows += [(path, None, reason) for path, reason in (errors or {}).items()]
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("features", pa.list_(pa.float32(), embedder.size)),
            ("error", pa.string()),
        ]
    )
    folder.mkdir()
    for number, part in enumerate((rows[:5], rows[5:])):
        table = pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(zip(*part), schema)],  # noqa: B905
            schema=schema,
        )
        pq.write_table(table, folder / f"part-{number:06d}.parquet")
    return folder


def test_a_copy_comes_first_and_the_example_itself_is_left_out(
    features_run: Path, photos: Path
) -> None:
    done = taxon("search", features_run, first(photos), photos, "-n", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and lines[0] == f"1.000  {photos / 'again.jpg'}"
    figures = [float(line.split()[0]) for line in lines]
    assert figures == sorted(figures, reverse=True) and figures[-1] >= 0
    assert str(first(photos)) not in done.stdout


def test_python_gives_what_features_say(features_run: Path, photos: Path) -> None:
    found = api.search(features_run, first(photos), photos, count=100)
    assert isinstance(found, api.Search)
    assert found.searched == 13 and not found.failures
    embedder = load_embedder(features_run)
    rows = {
        str(path): embedder.run(embedder.prepare(path.read_bytes())[None])[0].astype(np.float64)
        for path in photos.rglob("*.jpg")
    }
    own = rows.pop(str(first(photos)))
    expected = {
        path: own @ row / np.linalg.norm(own) / np.linalg.norm(row) for path, row in rows.items()
    }
    assert {match.path for match in found.matches} == set(rows)
    for match in found.matches:
        assert match.similarity == pytest.approx(max(0, expected[match.path]), abs=1e-5)


def test_several_examples_stand_for_what_they_share(features_run: Path, photos: Path) -> None:
    pictures = sorted((photos / "stain").iterdir())
    alone = api.search(features_run, first(photos), photos, count=3)
    done = taxon(
        *("search", features_run, first(photos), photos / "crack", photos / "stain"),
        *("--like", pictures[0], "--like", pictures[1], "-n", "20", "--format", "jsonl"),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 9 and set(rows[0]) == {"path", "similarity"}
    assert rows[0]["similarity"] < alone.matches[0].similarity
    both = api.search(features_run, [first(photos), *pictures[:2]], photos / "stain")
    assert both.queries == tuple(map(str, [first(photos), *pictures[:2]]))


def test_contact_sheet_and_table(features_run: Path, photos: Path, tmp_path: Path) -> None:
    sheet, table = tmp_path / "sheet.html", tmp_path / "found.csv"
    done = taxon(
        "search", features_run, first(photos), photos, "-n", "3", "--out", sheet, "--out", table
    )
    assert done.returncode == 0 and done.stdout == "" and str(sheet) in done.stderr
    page = sheet.read_text(encoding="utf-8")
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[0]["similarity"]) == pytest.approx(1, abs=1e-5)
    shown = re.findall(r'class="file" title="([^"]+)"', page)
    assert shown == [str(first(photos)), *(row["path"] for row in rows)]
    assert page.count('src="data:image/jpeg;base64,') == 4
    assert not re.search(r"https?://|<script|url\(", page)
    assert "default-src 'none'" in page


def test_names_are_escaped_on_the_sheet(features_run: Path, photos: Path, tmp_path: Path) -> None:
    odd = photos / "<b>&.jpg"
    shutil.copy(first(photos), odd)
    assert taxon("search", features_run, odd, photos, "--out", tmp_path / "a.html").returncode == 0
    page = (tmp_path / "a.html").read_text()
    assert "&lt;b&gt;&amp;.jpg" in page and "<b>&" not in page


def test_pictures_that_cannot_be_read_are_named_and_the_rest_goes_on(
    features_run: Path, photos: Path
) -> None:
    (photos / "stain" / "broken.jpg").write_bytes(b"no picture")
    gone = photos / "gone.jpg"
    done = taxon("search", features_run, first(photos), photos, gone, "-n", "2")
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 2
    assert "broken.jpg: not a picture" in done.stderr and f"{gone}: No such file" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: 2 of 15 pictures could not be read"


def test_stored_features_give_the_same(features_run: Path, photos: Path, tmp_path: Path) -> None:
    pictures = sorted(photos.rglob("*.jpg"))
    parts = write_parts(features_run, pictures, tmp_path / "parts")
    stored = api.search(features_run, first(photos), parts, count=6)
    assert stored.matches == api.search(features_run, first(photos), pictures, count=6).matches
    for picture in pictures[1:]:  # the stored ones need no files
        picture.unlink()
    kept = shutil.copy(pictures[0], tmp_path / "kept.jpg")
    assert api.search(features_run, kept, parts, count=1).searched == 13


def test_pictures_without_stored_features_are_named(
    features_run: Path, photos: Path, tmp_path: Path
) -> None:
    parts = write_parts(
        features_run, sorted(photos.rglob("*.jpg")), tmp_path / "parts", errors={"b.jpg": "empty"}
    )
    done = taxon("search", features_run, first(photos), parts)
    assert done.returncode == 3 and "not read: b.jpg: empty" in done.stderr
    assert len(done.stdout.splitlines()) == 12


def test_stored_features_of_another_model_are_refused(
    features_run: Path, photos: Path, tmp_path: Path
) -> None:
    pictures = sorted(photos.rglob("*.jpg"))
    parts = write_parts(features_run, pictures, tmp_path / "parts")
    part = parts / "part-000000.parquet"
    table = pq.read_table(part)
    rows = np.array(table["features"].to_pylist(), np.float32)

    def rewrite(values: np.ndarray) -> None:
        column = pa.array(values.tolist(), pa.list_(pa.float32(), values.shape[1]))
        pq.write_table(table.set_column(1, "features", column), part)

    rewrite(rows[:, ::-1])
    line = fails(2, "search", features_run, first(photos), parts, saying="are of another model")
    assert "write them anew with `taxon embed`" in line
    rewrite(rows[:, :7])
    fails(2, "search", features_run, first(photos), parts, saying="holds 7 features a picture")
    pq.write_table(table.drop_columns(["features"]), part)
    fails(2, "search", features_run, first(photos), parts, saying="has no column 'features'")
    part.write_bytes(b"half a file")
    fails(2, "search", features_run, first(photos), parts, saying="cannot be read")
    with pytest.raises(DataError, match="searched alone"):
        api.search(features_run, first(photos), [parts, photos])


def test_what_is_asked_for_is_checked(features_run: Path, photos: Path, tmp_path: Path) -> None:
    own = first(photos)
    fails(2, "search", features_run, own, photos, "--out", "a.png", saying="allowed: .csv and")
    fails(2, "search", features_run, own, tmp_path / "no*", saying="nothing matches the pattern")
    fails(2, "search", features_run, photos / "no.jpg", photos, saying="the example")
    fails(2, "search", tmp_path, own, photos, saying="neither a model folder")
    with pytest.raises(ConfigError, match="no example"):
        api.search(features_run, [], photos)
    with pytest.raises(ConfigError, match="-n is 1 or more"):
        api.search(features_run, own, photos, count=0)


def test_a_model_that_lacks_the_artefact_gets_it_once(
    run: Path, photos: Path, copy_of: Copy
) -> None:
    copy = copy_of(run)
    told = taxon("search", copy, first(photos), photos, "-n", "1")
    assert told.returncode == 0 and "onnx-features, which gives the model's features" in told.stderr
    again = taxon("search", copy, first(photos), photos, "-n", "1")
    assert again.stdout == told.stdout and again.stderr == ""


def test_as_a_process_it_needs_no_torch(features_run: Path, photos: Path) -> None:
    done = taxon_process("search", features_run, first(photos), photos, "-n", "2")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    code = (
        "import sys, taxon; taxon.search(*sys.argv[1:4]); "
        "assert not {'torch', 'timm', 'sklearn', 'onnx'} & set(sys.modules)"
    )
    arguments = [str(each) for each in (features_run, first(photos), photos)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def test_pictures_of_all_sizes_and_kinds(features_run: Path, photos: Path, tmp_path: Path) -> None:
    Image.open(first(photos)).convert("L").save(photos / "grey.png")
    Image.open(first(photos)).resize((400, 90)).save(photos / "wide.webp")
    found = api.search(features_run, first(photos), photos, count=20)
    assert not found.failures and found.searched == 15
