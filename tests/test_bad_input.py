"""Bad input, by property: only errors of taxon come out, and no row gets lost."""

from __future__ import annotations

import csv
import io
import json
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import encode, pattern, write_folders, write_picture, write_table

from taxon.core.errors import DataError, TaxonError
from taxon.data import (
    Columns,
    Manifest,
    load_manifest,
    read_manifest,
    read_source,
    write_manifest,
)
from taxon.data.sources.listing import Listing

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PICTURE = encode(pattern(9, 7))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path_factory.mktemp("cache")))


@contextmanager
def _folder() -> Iterator[Path]:
    """A fresh folder for one example, with four pictures: a.png, b.png, c.png and d.png."""
    with tempfile.TemporaryDirectory() as name:
        for seed, letter in enumerate("abcd"):
            write_picture(Path(name) / f"{letter}.png", seed)
        yield Path(name)


def _read(path: Path, columns: Columns | None = None) -> Listing | TaxonError:
    try:
        return read_source(path, columns)
    except TaxonError as error:
        return error


def _load(path: Path, columns: Columns | None = None) -> Manifest | TaxonError:
    try:
        return load_manifest(path, columns)
    except TaxonError as error:
        return error


# Rows of tables

NAMES = st.sampled_from(
    [
        "a.png",
        "b.png",
        "c.png",
        "./a.png",
        " d.png ",
        "gone.png",
        "",
        " ",
        "é/ü.png",
        ".",
        "x\\y.png",
    ]
)
LABELS = st.sampled_from(["cat", "dog", "Dog", " cat ", "", " ", "x|y", "fox/red", "猫", "0"])
SPLITS = st.sampled_from(["", "train", "VAL", "test"])
ROWS = st.lists(st.tuples(NAMES, LABELS), min_size=1, max_size=12)
FORMATS = st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet"])
LABEL_COLUMN = st.sampled_from(["label", "tags"])


def _write(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    dicts = [dict(zip(header, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(dicts), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(map(json.dumps, dicts)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(dicts))
    else:
        write_table(path, header, rows, pictures=False)
    return path


@quick
@given(rows=ROWS, suffix=FORMATS, column=LABEL_COLUMN)
@example(rows=[("a.png", ""), ("a.png", "cat"), ("a.png", "cat")], suffix=".csv", column="label")
def test_every_row_is_a_picture_or_listed_as_passed_over(
    rows: list[tuple[str, str]], suffix: str, column: str
) -> None:
    with _folder() as folder:
        table = _write(folder / f"t{suffix}", ("path", column), rows)
        listing = _read(table)
        manifest = _load(table)
        if isinstance(listing, TaxonError):
            assert isinstance(manifest, TaxonError)
            return
        assert len(listing.rows) + len(listing.skipped) == len(rows)
        assert all(row.reason for row in listing.skipped)
        assert all(label == label.strip() != "" for row in listing.rows for label in row.labels)
        if isinstance(manifest, Manifest):
            assert len(manifest) + len(manifest.skipped) == len(rows)


@quick
@given(rows=ROWS, suffix=FORMATS)
def test_rows_that_contradict_are_counted_and_nothing_else_is_refused(
    rows: list[tuple[str, str]], suffix: str
) -> None:
    meant: dict[str, set[str]] = {}
    for name, label in rows:
        if name.strip() and label.strip() and name.strip() != ".":
            meant.setdefault(Path(name.strip()).as_posix(), set()).add(label.strip())
    with _folder() as folder:
        listing = _read(_write(folder / f"t{suffix}", ("path", "label"), rows))
    if any(len(labels) > 1 for labels in meant.values()):
        assert isinstance(listing, DataError) and "contradicts itself" in str(listing)
    elif meant:
        assert isinstance(listing, Listing)
        assert {row.id: set(row.labels) for row in listing.rows} == meant
    else:
        assert isinstance(listing, DataError) and "no picture that can be used" in str(listing)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
KEYS = st.sampled_from(["path", "label", "labels", "split", "group", "weight", "x", ""])


@quick
@given(rows=st.lists(st.dictionaries(KEYS, CELLS, max_size=5), max_size=6))
@example(rows=[{"path": "a.png", "label": "\ud800"}])
@example(rows=[{"path": "a.png", "label": 10**4000}])
@example(rows=[{"path": "a.png", "label": "x", "weight": 10**400}])
@example(rows=[{"path": "x" * 5000, "label": "x"}, {"path": "\0", "label": "y"}])
def test_objects_with_any_cells_give_rows_or_an_error(rows: list[dict[str, Any]]) -> None:
    with _folder() as folder:
        path = folder / "t.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        listing = _read(path)
        _load(path)
    if isinstance(listing, Listing):
        assert len(listing.rows) + len(listing.skipped) == len(rows)


HEADERS = st.lists(st.one_of(KEYS, st.text(max_size=4)), max_size=5)


@quick
@given(
    header=HEADERS,
    rows=st.lists(st.lists(st.text(max_size=5), max_size=6), max_size=6),
    suffix=st.sampled_from([".csv", ".tsv"]),
    columns=st.sampled_from(
        [Columns(), Columns(tags=("x", "label")), Columns(label=("label", "x")), Columns(path="x")]
    ),
)
def test_tables_of_any_text_give_rows_or_an_error(
    header: list[str], rows: list[list[str]], suffix: str, columns: Columns
) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",").writerows([header, *rows])
    with _folder() as folder:
        path = folder / f"t{suffix}"
        path.write_bytes(stream.getvalue().encode("utf-8", "surrogatepass"))
        _read(path, columns)
        _load(path, columns)


@quick
@given(rows=st.lists(st.tuples(NAMES, LABELS, SPLITS), min_size=1, max_size=8))
def test_parts_are_given_for_all_pictures_or_for_none(rows: list[tuple[str, str, str]]) -> None:
    with _folder() as folder:
        listing = _read(_write(folder / "t.csv", ("path", "label", "split"), rows))
    if isinstance(listing, Listing):
        assert len({row.split is None for row in listing.rows}) == 1


# Bytes

SUFFIXES = [
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".parquet",
    ".zip",
    ".tar",
    ".tar.gz",
    ".tar.bz2",
    ".tar.xz",
]


def _valid(suffix: str) -> bytes:
    """Return a small data set in the format of the suffix, with pictures beside or in it."""
    rows = [{"path": "a.png", "label": "x"}, {"path": "b.png", "label": "y"}]
    stream = io.BytesIO()
    if suffix == ".parquet":
        pictures = [{"bytes": PICTURE, "path": None}] * 2
        struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(pictures, struct_type), "label": ["x", "y"]})
        pq.write_table(table, stream)
    elif suffix == ".zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/a.png", PICTURE)
            archive.writestr("y/b.png", PICTURE)
    elif suffix.startswith(".tar"):
        mode: Any = f"w:{suffix.removeprefix('.tar').removeprefix('.')}"
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            for name in ("x/a.png", "y/b.png"):
                info = tarfile.TarInfo(name)
                info.size = len(PICTURE)
                archive.addfile(info, io.BytesIO(PICTURE))
    elif suffix == ".json":
        return json.dumps(rows).encode()
    elif suffix == ".jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    else:
        mark = "\t" if suffix == ".tsv" else ","
        return f"path{mark}label\na.png{mark}x\nb.png{mark}y\n".encode()
    return stream.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_undamaged_files_are_read(suffix: str) -> None:
    with _folder() as folder:
        (folder / f"t{suffix}").write_bytes(_valid(suffix))
        assert len(load_manifest(folder / f"t{suffix}")) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(quick, max_examples=25)
@given(content=st.binary(max_size=200))
@example(content=b"")
def test_files_of_random_bytes_give_an_error(suffix: str, content: bytes) -> None:
    with _folder() as folder:
        (folder / f"t{suffix}").write_bytes(content)
        assert isinstance(_read(folder / f"t{suffix}"), TaxonError)


def test_archive_with_a_file_of_no_name() -> None:
    content = bytearray(_valid(".zip"))
    # A NUL ends a name: the last occurrence of each is in the directory at the end.
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        name = archive.namelist()[0].encode()
    content[content.rindex(name)] = 0
    with _folder() as folder:
        (folder / "t.zip").write_bytes(content)
        error = _read(folder / "t.zip")
    assert isinstance(error, TaxonError) and "no name" in str(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(quick, max_examples=30)
@given(data=st.data())
def test_damaged_files_give_rows_or_an_error(suffix: str, data: st.DataObject) -> None:
    content = bytearray(_valid(suffix))
    for _ in range(data.draw(st.integers(0, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    with _folder() as folder:
        (folder / f"t{suffix}").write_bytes(content)
        _load(folder / f"t{suffix}")


@settings(quick, max_examples=40)
@given(
    damage=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=3)
)
def test_damaged_manifests_give_rows_or_an_error(damage: list[tuple[float, int]]) -> None:
    with _folder() as folder:
        table = write_table(folder / "t.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")])
        write_manifest(load_manifest(table), folder / "m.parquet")
        content = bytearray((folder / "m.parquet").read_bytes())
        for place, value in damage:
            content[int(place * len(content))] = value
        (folder / "m.parquet").write_bytes(content)
        _load(folder / "m.parquet")


@pytest.mark.parametrize(
    ("content", "right"), [(b"a.png", True), (b"\xff.png", False)], ids=["text", "not text"]
)
def test_a_manifest_whose_text_is_bytes(tmp_path: Path, content: bytes, right: bool) -> None:
    for seed, letter in enumerate("ab"):
        write_picture(tmp_path / f"{letter}.png", seed)
    table = write_table(tmp_path / "t.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")])
    write_manifest(load_manifest(table), tmp_path / "m.parquet")
    written = pq.read_table(tmp_path / "m.parquet")
    ids = pa.array([content, b"b.png"], pa.binary())
    pq.write_table(written.set_column(0, "id", ids), tmp_path / "m.parquet")
    if right:
        records = read_manifest(tmp_path / "m.parquet").records
        assert [record.id for record in records] == ["a.png", "b.png"]
        return
    with pytest.raises(DataError, match="is damaged"):
        read_manifest(tmp_path / "m.parquet")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["id", "image_id", "category_id", "file_name", "name"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@quick
@given(images=JSON, annotations=JSON, categories=JSON)
def test_coco_of_any_content_gives_rows_or_an_error(
    images: Any, annotations: Any, categories: Any
) -> None:
    value = {"images": images, "annotations": annotations, "categories": categories}
    with _folder() as folder:
        (folder / "coco.json").write_text(json.dumps(value))
        _load(folder / "coco.json")


@quick
@given(
    ids=st.lists(st.integers(0, 5), max_size=6, unique=True),
    pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=12),
    names=st.lists(st.sampled_from(["a.png", "b.png", "gone.png", "", None]), min_size=6),
)
def test_every_picture_of_coco_is_a_row_or_listed(
    ids: list[int], pairs: list[tuple[int, int]], names: list[str | None]
) -> None:
    value = {
        "images": [{"id": key, "file_name": names[key]} for key in ids],
        "annotations": [{"image_id": image, "category_id": tag} for image, tag in pairs],
        "categories": [{"id": tag, "name": f"tag {tag}"} for tag in range(3)],
    }
    with _folder() as folder:
        (folder / "coco.json").write_text(json.dumps(value))
        listing = _read(folder / "coco.json")
    if isinstance(listing, Listing):
        assert len(listing.rows) + len(listing.skipped) == len(ids)
        lost = sum(image not in ids for image, _ in pairs)
        assert any(note.startswith(f"{lost} annotation") for note in listing.notes) == (lost > 0)


@settings(quick, max_examples=40)
@given(state=JSON, info=JSON, parts=JSON, arrow=st.binary(max_size=60))
def test_saved_data_set_of_any_content_gives_rows_or_an_error(
    state: Any, info: Any, parts: Any, arrow: bytes
) -> None:
    with _folder() as folder:
        files = {"state.json": {"_data_files": [{"filename": "x.arrow"}]}, "dataset_info.json": {}}
        for name in files:
            (folder / name).write_text(json.dumps(files[name]))
        (folder / "x.arrow").write_bytes(arrow)
        assert isinstance(_read(folder), TaxonError)
        (folder / "dataset_info.json").write_text(json.dumps({"features": info}))
        assert isinstance(_read(folder), TaxonError)
        (folder / "state.json").write_text(json.dumps({"_data_files": state}))
        assert isinstance(_read(folder), TaxonError)
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": parts}))
        assert isinstance(_read(folder), TaxonError)


# Folders

FOLDERS = st.sampled_from(["cat", "dog", "Dog", "empty", "a/b", "train/cat", "test/cat", "", " x "])
FILES = st.sampled_from(
    ["1.png", "2.PNG", "3.jpg", "notes.txt", ".hidden.png", "ü.webp", "no suffix"]
)


@quick
@given(
    files=st.lists(
        st.tuples(FOLDERS, FILES, st.sampled_from([PICTURE, PICTURE[:40], b"", b"text"])),
        max_size=8,
        unique_by=lambda item: (item[0], item[1]),
    ),
    empty=st.lists(FOLDERS, max_size=2),
)
def test_every_file_of_a_folder_is_a_picture_or_counted(
    files: list[tuple[str, str, bytes]], empty: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder, file, content in files:
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / file).write_bytes(content)
        for folder in empty:
            (root / folder).mkdir(parents=True, exist_ok=True)
        manifest = _load(root)
    if isinstance(manifest, Manifest):
        others = sum(file in ("notes.txt", "no suffix") for _, file, _ in files)
        hidden = sum(file.startswith(".") for _, file, _ in files)
        assert len(manifest) + len(manifest.skipped) == len(files) - others - hidden
        notes = " ".join(manifest.notes)
        assert (f"passed over: {others} file" in notes) == (others > 0)
        assert (f"passed over: {hidden} hidden picture" in notes) == (hidden > 0)


# Pictures


def _one_bit_png(width: int, height: int) -> bytes:
    """Return a black PNG of one bit a pixel without ever holding its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    deflate = zlib.compressobj(9)
    line = bytes(1 + (width + 7) // 8)
    pixels = b"".join(deflate.compress(line) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_smallest_picture_is_read_and_a_huge_one_refused_by_its_header(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "one.png").write_bytes(_one_bit_png(1, 1))
    whole = _one_bit_png(20_000, 20_000)
    (tmp_path / "b" / "huge.png").write_bytes(whole)
    # Cut off after the header, it is refused for the same reason: no pixel was looked at.
    (tmp_path / "b" / "huge-cut.png").write_bytes(whole[:60])
    manifest = load_manifest(tmp_path)
    sizes = {record.id: (record.width, record.height) for record in manifest.records}
    assert sizes["a/one.png"] == (1, 1)
    assert [skipped.id for skipped in manifest.skipped] == ["b/huge-cut.png", "b/huge.png"]
    assert all("limit" in skipped.reason for skipped in manifest.skipped)


@quick
@given(
    content=st.one_of(
        st.binary(max_size=300), st.integers(0, len(PICTURE)).map(lambda n: PICTURE[:n])
    )
)
@example(content=b"\x89PNG\r\n\x1a\n")
@example(content=b"GIF89a")
@example(content=b"\xff\xd8\xff")
@example(content=b"RIFF\x00\x00\x00\x00WEBPVP8 ")
@example(content=b"II*\x00\x08\x00\x00\x00")
@example(content=b"BM" + bytes(60))
def test_random_pictures_are_read_or_listed(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = write_folders(Path(name), {"a": 1, "b": 1})
        (root / "a" / "x.jpg").write_bytes(content)
        manifest = load_manifest(root)
    assert len(manifest) + len(manifest.skipped) == 3
    assert Counter(row.id for row in manifest.skipped) <= Counter(["a/x.jpg"])
