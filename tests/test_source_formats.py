"""Formats of sources: Parquet, JSON, COCO, Hugging Face `datasets`, archives and manifests."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encode, pattern, write_folders, write_picture, write_table

from taxon.core.errors import DataError, OutputError
from taxon.core.labels import LabelSpace
from taxon.data import Columns, load_manifest, read_source, write_manifest
from taxon.data.sources.listing import Listing
from taxon.data.sources.unpacked import unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TAXON_CACHE", str(folder))
    return folder


def _labels(listing: Listing) -> dict[str, tuple[str, ...]]:
    return {row.id: row.labels for row in listing.rows}


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as the format of the suffix, and a picture for each `path`."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed, row in enumerate(rows):
        write_picture(path.parent / row["path"], seed)
    return path


# Tables of other formats

FORMATS = pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".ndjson"])


@FORMATS
def test_every_format_of_table_gives_the_same_listing_as_csv(tmp_path: Path, suffix: str) -> None:
    header = ("path", "label", "split", "group", "weight")
    rows = [("a.png", "cat", "train", "7", "2"), ("b.png", "dog", "val", "8", "0.5")]
    expected = read_source(write_table(tmp_path / "t.csv", header, rows))
    values = [
        {"path": name, "label": label, "split": split, "group": int(group), "weight": float(weight)}
        for name, label, split, group, weight in rows
    ]
    assert read_source(_write_rows(tmp_path / f"t{suffix}", values)) == expected
    assert [row.weight for row in expected.rows] == [2.0, 0.5]


@FORMATS
def test_lists_in_a_cell_are_tags(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"path": "a.png", "what": ["sun", " sea "]},
        {"path": "b.png", "what": []},
        {"path": "c.png", "what": None},
    ]
    table = _write_rows(tmp_path / f"t{suffix}", rows)
    listing = read_source(table, Columns(label=("what",)))
    assert _labels(listing) == {"a.png": ("sea", "sun"), "b.png": (), "c.png": ()}
    assert listing.kind == "tags"


@FORMATS
def test_tag_columns_may_hold_numbers_and_truth_values(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"path": "a.png", "sea": 1, "sun": True, "fog": 0.0},
        {"path": "b.png", "sea": 0, "sun": False, "fog": 0.0},
        {"path": "c.png", "sea": None, "sun": True, "fog": 0.0},
        {"path": "d.png", "sea": 0, "sun": False, "fog": None},
    ]
    table = _write_rows(tmp_path / f"t{suffix}", rows)
    listing = read_source(table, Columns(tags=("sea", "sun", "fog")))
    assert {row.id: (row.labels, row.unknown) for row in listing.rows} == {
        "a.png": (("sea", "sun"), ()),
        "b.png": ((), ()),
        "c.png": (("sun",), ("sea",)),
        "d.png": ((), ("fog",)),
    }
    assert listing.skipped == ()
    assert listing.notes == (
        "no picture has 'fog': no tag is made of it",
        "1 picture has no tag and counts as an example of none",
    )


@FORMATS
def test_numbers_are_classes_however_they_are_stored(tmp_path: Path, suffix: str) -> None:
    rows = [{"path": "a.png", "label": 3}, {"path": "b.png", "label": 4.0}]
    rows.append({"path": "c.png", "label": None})
    listing = read_source(_write_rows(tmp_path / f"t{suffix}", rows))
    assert _labels(listing) == {"a.png": ("3",), "b.png": ("4",)}
    assert [skipped.id for skipped in listing.skipped] == ["c.png"]


def test_label_columns_of_parquet_are_a_taxonomy(tmp_path: Path) -> None:
    rows = [
        {"path": "a.png", "kind": "x", "sort": "y"},
        {"path": "b.png", "kind": "x", "sort": "z"},
    ]
    table = _write_rows(tmp_path / "t.parquet", rows)
    listing = read_source(table, Columns(label=("kind", "sort")))
    assert listing.label_space().names == ("x/y", "x/z")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"path": "a.png", "label": "x"}\n{"path": \n', r"row 2 is not JSON"),
        ('{"path": "a.png", "label": "x"}\n\n[1]\n', r"row 3: expected an object.*received list"),
        (
            '{"path": ["a.png"], "label": "x"}\n',
            r"row 1: 'path' must be one value, received a list",
        ),
        ('{"path": "a.png", "label": {"x": 1}}\n', r"row 1: 'label' must be one value"),
        ('{"path": "\\ud800.png", "label": "x"}\n', r"row 1: .*lone surrogate"),
        ("[" * 100_000, r"nested too deeply"),
        ('{"path": "a.png", "label": "x"}\n{"path": "b.png"}\n', None),
    ],
)
def test_json_lines_that_cannot_be_understood_are_named(
    tmp_path: Path, content: str, said: str | None
) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    if said is None:
        assert len(read_source(tmp_path / "t.jsonl").skipped) == 1
        return
    with pytest.raises(DataError, match=said):
        read_source(tmp_path / "t.jsonl")


@pytest.mark.parametrize("value", ["{}", "3", '{"rows": []}'])
def test_json_of_another_kind_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "t.json").write_text(value)
    with pytest.raises(DataError, match=r"neither a list of objects.*nor COCO"):
        read_source(tmp_path / "t.json")


def test_table_of_a_spreadsheet_with_semicolons_is_read(tmp_path: Path) -> None:
    write_folders(tmp_path, {".": 2})
    (tmp_path / "t.csv").write_text("path;label;weight;\n00.png;cat;1;\n01.png;dog;2;\n")
    assert _labels(read_source(tmp_path / "t.csv")) == {"00.png": ("cat",), "01.png": ("dog",)}


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan?", "2 kg"])
def test_weight_that_is_no_number_above_0_is_refused(tmp_path: Path, weight: str) -> None:
    rows = [("a.png", "cat", "1"), ("b.png", "dog", weight)]
    table = write_table(tmp_path / "t.csv", ("path", "label", "weight"), rows)
    with pytest.raises(
        DataError, match=r"row 3: 'weight' must be a number above 0.*--weight-column"
    ):
        read_source(table)


def test_weights_are_used_and_noted(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "0.5"), ("b.png", "dog", ""), ("c.png", "dog", "3")]
    table = write_table(tmp_path / "t.csv", ("path", "label", "importance"), rows)
    listing = read_source(table, Columns(weight="importance"))
    assert [row.weight for row in listing.rows] == [0.5, 1.0, 3.0]
    assert listing.notes == ("pictures are weighted by the column 'importance' (0.5 to 3)",)
    manifest = load_manifest(table, Columns(weight="importance"))
    assert [record.weight for record in manifest.records] == [0.5, 1.0, 3.0]


def test_paths_count_from_the_image_root(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b/c.png", "dog")]
    table = write_table(tmp_path / "tables" / "t.csv", ("path", "label"), rows, pictures=False)
    root = tmp_path / "pictures"
    for name, _ in rows:
        write_picture(root / name)
    listing = read_source(table, Columns(image_root=root))
    assert [row.path for row in listing.rows] == [root / "a.png", root / "b/c.png"]
    assert listing.root == root
    with pytest.raises(DataError, match=r"--image-root .*gone is not a folder"):
        read_source(table, Columns(image_root=tmp_path / "gone"))


# Names


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system knows both forms")
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_of_another_system_are_found(tmp_path: Path, on_disk: Any) -> None:
    in_table = "NFD" if on_disk == "NFC" else "NFC"
    write_picture(tmp_path / unicodedata.normalize(on_disk, "Größe/é.png"))
    write_picture(tmp_path / "b.png", 1)
    name = unicodedata.normalize(in_table, "Größe/é.png")
    label = unicodedata.normalize("NFD", "süß")
    table = write_table(
        tmp_path / "t.csv", ("path", "label"), [(name, label), ("b.png", "süß")], pictures=False
    )
    listing = read_source(table)
    assert all(row.path.is_file() for row in listing.rows)
    assert _labels(listing) == {"b.png": ("süß",), "Größe/é.png": ("süß",)}


@pytest.mark.skipif(os.sep != "/", reason="a backslash separates folders there anyway")
def test_backslashes_of_a_table_from_windows_separate_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, {"x y": 1, "z": 1})
    rows = [(r"x y\00.png", "x"), (r"z\00.png", "z")]
    table = write_table(tmp_path / "t.csv", ("path", "label"), rows, pictures=False)
    assert [row.id for row in read_source(table).rows] == ["x y/00.png", "z/00.png"]


def test_labels_that_differ_by_case_stay_apart_and_are_noted(tmp_path: Path) -> None:
    rows = [("a.png", "Dog"), ("b.png", " dog"), ("c.png", "dog ")]
    listing = read_source(write_table(tmp_path / "t.csv", ("path", "label"), rows))
    assert _labels(listing) == {"a.png": ("Dog",), "b.png": ("dog",), "c.png": ("dog",)}
    assert listing.notes == (
        "classes that differ by case, spaces or hyphens only remain classes of their own: "
        "'Dog' and 'dog'",
    )


def test_names_that_are_spelt_alike_are_joined_into_one_note(tmp_path: Path) -> None:
    names = ["sc  ratch", "sc ratch", "t-shirt", "T_shirt", "-1", "1", "A-", "A"]
    names += [name for letter in "bcd" for name in (letter, letter.upper())]
    rows = [(f"{position}.png", name) for position, name in enumerate(names)]
    (note,) = read_source(write_table(tmp_path / "t.csv", ("path", "label"), rows)).notes
    assert note.endswith("own: 'B' and 'b'; 'C' and 'c'; 'D' and 'd'; and 2 more")
    (note,) = read_source(write_table(tmp_path / "t.csv", ("path", "label"), rows[:8])).notes
    assert note.endswith("own: 'T_shirt' and 't-shirt'; 'sc  ratch' and 'sc ratch'")


def test_class_folders_without_pictures_are_noted(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 1, "train/b": 1, "test/a": 1})
    (tmp_path / "test" / "b" / "deep").mkdir(parents=True)
    listing = read_source(tmp_path)
    assert listing.notes == ("no pictures in 'test/b': no class is made of it",)


def test_links_below_and_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", {"a": 1, "b": 1})
    elsewhere = write_folders(tmp_path / "elsewhere", {"c": 2})
    (tmp_path / "data" / "c").symlink_to(elsewhere / "c")
    (tmp_path / "data" / "a" / "again.png").symlink_to(tmp_path / "data" / "a" / "00.png")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    listing = read_source(tmp_path / "data")
    assert [row.id for row in listing.rows] == [
        "a/00.png",
        "a/again.png",
        "b/00.png",
        "c/00.png",
        "c/01.png",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_pipes_and_folders_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    rows = [("pipe.png", "x"), ("folder.png", "y"), ("a\0.png", "y"), ("a.png", "x")]
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"path": name, "label": label}) + "\n" for name, label in rows)
    )
    listing = read_source(tmp_path / "t.jsonl")
    assert [row.id for row in listing.rows] == ["a.png"]
    assert len(listing.skipped) == 3


# Tables found in a folder


@pytest.mark.parametrize("name", ["labels.tsv", "labels.parquet", "labels.jsonl", "labels.json"])
def test_table_in_a_folder_is_found(tmp_path: Path, name: str) -> None:
    rows = [{"path": "a/x.png", "label": "1"}, {"path": "b/x.png", "label": "2"}]
    if name.endswith(".tsv"):
        write_table(tmp_path / name, ("path", "label"), [("a/x.png", "1"), ("b/x.png", "2")])
    else:
        _write_rows(tmp_path / name, rows)
    assert _labels(read_source(tmp_path)) == {"a/x.png": ("1",), "b/x.png": ("2",)}


def test_second_table_in_a_folder_is_noted(tmp_path: Path) -> None:
    write_table(tmp_path / "labels.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")])
    write_table(tmp_path / "labels.tsv", ("path", "label"), [("a.png", "y"), ("b.png", "x")])
    listing = read_source(tmp_path)
    assert _labels(listing)["a.png"] == ("x",)
    assert listing.notes == ("read from labels.csv; 'labels.tsv' beside it was passed over",)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "name", ["data.csv", "manifest.parquet", "annotations/instances_train.json"]
)
def test_only_table_of_another_name_is_found_in_a_folder_or_an_archive(
    tmp_path: Path, name: str, packed: bool
) -> None:
    folder = tmp_path / "set"
    rows = [("img/a.png", "x", "train"), ("img/b.png", "y", "test")]
    table = write_table(folder / "data.csv", ("path", "label", "split"), rows)
    if name == "manifest.parquet":
        write_manifest(load_manifest(table), folder / name)
    if name.startswith("annotations"):
        categories = [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
        value = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in "ab"],
            "annotations": [{"image_id": n, "category_id": k} for k, n in enumerate("ab", start=1)],
            "categories": categories,
        }
        (folder / "img").rename(folder / "images")
        (folder / "annotations").mkdir()
        (folder / name).write_text(json.dumps(value))
    if name != "data.csv":
        table.unlink()
    source = folder
    if packed:
        source = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "set"))
    listing = read_source(source)
    assert [row.labels for row in listing.rows] == [("x",), ("y",)]
    assert f"read from '{name}'" in listing.notes
    assert len(load_manifest(source)) == 2


def test_table_beside_class_folders_is_named_and_passed_over(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    table = tmp_path / "answers.csv"
    table.write_text("path,label\ncat/00.png,dog\ndog/00.png,cat\n")
    listing = read_source(tmp_path)
    assert _labels(listing) == {"cat/00.png": ("cat",), "dog/00.png": ("dog",)}
    assert any("'answers.csv' may list pictures too" in note for note in listing.notes)
    # Options for columns mean the table.
    columns = Columns(label=("label",))
    assert _labels(read_source(tmp_path, columns))["cat/00.png"] == ("dog",)
    table.write_text("name,mean\ncat,3\n")
    assert not any("may list" in note for note in read_source(tmp_path).notes)


def test_several_tables_beside_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        rows = [("img/a.png", "x"), ("img/b.png", "y")]
        write_table(tmp_path / name, ("path", "label"), rows)
    with pytest.raises(DataError, match=r"2 classes, received 1.*'a.csv', 'b.csv' may list"):
        load_manifest(tmp_path)
    shutil.move(tmp_path / "img", tmp_path / "train")
    with pytest.raises(DataError, match=r"or name one of the tables in it: 'a.csv', 'b.csv'"):
        load_manifest(tmp_path)


def test_a_file_a_picture_of_a_labelling_tool_is_no_table(tmp_path: Path) -> None:
    rows = [("img/a.png", "x"), ("img/b.png", "y")]
    write_table(tmp_path / "data.csv", ("path", "label"), rows)
    for number in range(21):
        (tmp_path / f"{number}.json").write_text('{"images": []}')
    assert [row.labels for row in read_source(tmp_path).rows] == [("x",), ("y",)]


def test_columns_that_no_table_can_have_are_refused_with_what_there_is(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_table(tmp_path / name, ("path", "label"), [("a.png", "x"), ("b.png", "y")])
    with pytest.raises(DataError, match=r"several tables: 'a.csv', 'b.csv'\), so columns"):
        read_source(tmp_path, Columns(label=("label",)))


# A manifest that taxon wrote


def test_manifest_is_a_source_with_its_classes_and_contents(tmp_path: Path) -> None:
    rows = [("a.png", "x", "train", "p"), ("b.png", "y", "test", ""), ("c.png", "", "test", "")]
    table = write_table(tmp_path / "data" / "t.csv", ("path", "tags", "split", "group"), rows)
    space = LabelSpace.flat("multilabel", ["never", "x", "y"])
    manifest = load_manifest(table, label_space=space)
    write_manifest(manifest, tmp_path / "m.parquet")
    listing = read_source(tmp_path / "m.parquet")
    assert listing.label_space() == space
    assert [row.sha256 for row in listing.rows] == [record.sha256 for record in manifest.records]
    assert [(row.split, row.group) for row in listing.rows] == [
        ("train", "p"),
        ("test", None),
        ("test", None),
    ]
    again = load_manifest(tmp_path / "m.parquet")
    assert again.fingerprint == manifest.fingerprint
    assert again.root == manifest.root


def test_manifest_that_moved_with_its_pictures_finds_them(tmp_path: Path) -> None:
    manifest = load_manifest(write_folders(tmp_path / "one", {"a": 1, "b": 1}))
    write_manifest(manifest, tmp_path / "one" / "m.parquet")
    shutil.move(tmp_path / "one", tmp_path / "two")
    again = load_manifest(tmp_path / "two" / "m.parquet")
    assert [record.path for record in again.records] == [
        tmp_path / "two" / "a" / "00.png",
        tmp_path / "two" / "b" / "00.png",
    ]
    shutil.move(tmp_path / "two" / "m.parquet", tmp_path / "m.parquet")
    columns = Columns(image_root=tmp_path / "two")
    assert len(load_manifest(tmp_path / "m.parquet", columns)) == 2
    with pytest.raises(DataError, match="leave out the columns"):
        read_source(tmp_path / "m.parquet", Columns(path="id"))


# COCO


def _coco(**changes: object) -> dict[str, object]:
    return {
        "images": [
            {"id": 1, "file_name": "a.png"},
            {"id": 2, "file_name": "b.png"},
            {"id": 3, "file_name": "none.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "iscrowd": 1},
            {"id": 2, "image_id": 1, "category_id": 7},
            {"id": 3, "image_id": 1, "category_id": 8},
            {"id": 4, "image_id": 2, "category_id": 8},
        ],
        "categories": [{"id": 7, "name": "sea"}, {"id": 8, "name": " sun"}],
        **changes,
    }


def _write_coco(path: Path, value: object, pictures: str = ".") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    for seed, name in enumerate(("a", "b", "none")):
        write_picture(path.parent / pictures / f"{name}.png", seed)
    return path


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("coco.json", "."),
        ("coco.json", "images"),
        ("annotations/instances_val2017.json", "../val2017"),
        ("annotations/instances_val2017.json", "../images/val2017"),
        ("instances_train.json", "train"),
        ("annotations/all.json", "../images"),
    ],
)
def test_coco_categories_are_tags_and_pictures_are_found_around_it(
    tmp_path: Path, name: str, pictures: str
) -> None:
    path = _write_coco(tmp_path / name, _coco(), pictures)
    listing = read_source(path)
    assert _labels(listing) == {"a.png": ("sea", "sun"), "b.png": ("sun",), "none.png": ()}
    assert all(row.path.is_file() for row in listing.rows)
    assert listing.label_space() == LabelSpace.flat("multilabel", ["sea", "sun"])
    assert listing.notes == ("1 picture has no tag and counts as an example of none",)
    assert listing.skipped == ()


def test_coco_pictures_may_have_a_root_of_their_own(tmp_path: Path) -> None:
    path = _write_coco(tmp_path / "j" / "coco.json", _coco(), "../far/away")
    listing = read_source(path, Columns(image_root=tmp_path / "far" / "away"))
    assert all(row.path.is_file() for row in listing.rows)


def test_unused_categories_and_annotations_of_absent_pictures_are_noted(tmp_path: Path) -> None:
    value = _coco(images=[{"id": 2, "file_name": "b.png"}, {"id": 3}])
    listing = read_source(_write_coco(tmp_path / "coco.json", value))
    assert _labels(listing) == {"b.png": ("sun",)}
    assert [(row.id, row.reason) for row in listing.skipped] == [
        ("coco.json, image 3", "its file_name is None")
    ]
    lost, unused = listing.notes
    assert lost.startswith("3 annotations belong to pictures that 'images' lacks")
    assert unused == "no picture has 'sea': no tag is made of it"


def test_ids_of_coco_match_however_they_are_written(tmp_path: Path) -> None:
    value = _coco(
        images=[{"id": "1", "file_name": "a.png"}, {"id": 2.0, "file_name": "b.png"}],
        annotations=[{"image_id": 1, "category_id": 7.0}, {"image_id": "2", "category_id": "8"}],
    )
    listing = read_source(_write_coco(tmp_path / "coco.json", value))
    assert _labels(listing) == {"a.png": ("sea",), "b.png": ("sun",)}
    assert listing.notes == ()


def test_categories_of_one_name_become_one_tag_and_are_noted(tmp_path: Path) -> None:
    value = _coco(categories=[{"id": 7, "name": "sun"}, {"id": 8, "name": " sun"}])
    listing = read_source(_write_coco(tmp_path / "coco.json", value))
    assert _labels(listing) == {"a.png": ("sun",), "b.png": ("sun",), "none.png": ()}
    assert listing.notes[0] == "several categories are called 'sun' and become one tag"


@pytest.mark.parametrize("columns", [Columns(split="part"), Columns(path="x"), Columns(group="g")])
def test_columns_without_meaning_for_coco_are_refused(tmp_path: Path, columns: Columns) -> None:
    path = _write_coco(tmp_path / "coco.json", _coco())
    with pytest.raises(DataError, match=r"only --image-root has a meaning"):
        read_source(path, columns)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"annotations": [{"id": 5, "image_id": 1, "category_id": 9}]},
            r"annotation 5 .* 9, which",
        ),
        ({"annotations": [{"image_id": 1}]}, r"annotation 0 has the category_id None"),
        ({"annotations": {}}, r"'annotations' is not a list of objects"),
        ({"categories": [3]}, r"'categories' is not a list of objects"),
        ({"categories": [{"id": 7}, {"id": 8, "name": "x"}]}, r"category 7 has the name None"),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, r"the same id"),
        (
            {"images": [{"id": 1, "file_name": n} for n in "ab"]},
            r"1 id stands for several pictures",
        ),
        ({"images": []}, r"lists no picture"),
        (
            {"annotations": [{"id": 1, "image_id": "a.png", "category_id": 7}]},
            r"the only annotation does not belong .*image_id 'a\.png'; the first id in .* is 1",
        ),
        (
            {"annotations": [{"id": n, "image_id": "a.png", "category_id": 7} for n in (1, 2)]},
            r"none of the 2 annotations belongs to a picture in 'images'",
        ),
        ({"categories": [{"id": 7, "name": "a\x1b[0m"}]}, r"7, 'a\\x1b\[0m', holds a line end"),
    ],
)
def test_broken_coco_is_refused_with_the_place(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = _write_coco(tmp_path / "coco.json", _coco(**changes))
    with pytest.raises(DataError, match=said):
        read_source(path)


# Hugging Face `datasets`

CLASSES = {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _embedded(seeds: Sequence[int], **columns: Sequence[Any]) -> pa.Table:
    cells = [{"bytes": encode(pattern(8, 6, seed)), "path": f"p{seed}.png"} for seed in seeds]
    return pa.table({"image": pa.array(cells, IMAGE), **columns})


def _save(folder: Path, table: pa.Table, features: Mapping[str, Any], shards: int = 1) -> None:
    """Write what `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    size = -(-table.num_rows // shards)
    for number, name in enumerate(names):
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table.slice(number * size, size), max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


FEATURES = {"image": {"_type": "Image"}, "label": CLASSES}


def test_saved_data_set_is_read_with_its_class_names(tmp_path: Path) -> None:
    _save(tmp_path / "set", _embedded([0, 1, 2, 3, 4], label=[0, 1, 1, -1, 0]), FEATURES, shards=2)
    listing = read_source(tmp_path / "set")
    assert _labels(listing) == {
        "000000-p0.png": ("cat",),
        "000001-p1.png": ("dog",),
        "000002-p2.png": ("dog",),
        "000004-p4.png": ("cat",),
    }
    assert [row.reason for row in listing.skipped] == [
        "row 4: the column 'label' is empty; each picture needs a class"
    ]
    assert listing.notes == ("no picture has 'fox': no class is made of it",)
    assert listing.rows[2].path.read_bytes() == encode(pattern(8, 6, 2))
    assert len(load_manifest(tmp_path / "set")) == 4


def test_saved_data_set_of_several_parts_keeps_its_split(tmp_path: Path) -> None:
    for part, seeds in (("train", [0, 1, 2]), ("validation", [3]), ("test", [4, 5])):
        labels = [seed % 2 for seed in seeds]
        _save(tmp_path / "set" / part, _embedded(seeds, label=labels), FEATURES)
    (tmp_path / "set" / "dataset_dict.json").write_text(
        json.dumps({"splits": ["train", "validation", "test"]})
    )
    listing = read_source(tmp_path / "set")
    assert [(row.id, row.split) for row in listing.rows] == [
        ("test/000004-p4.png", "test"),
        ("test/000005-p5.png", "test"),
        ("train/000000-p0.png", "train"),
        ("train/000001-p1.png", "train"),
        ("train/000002-p2.png", "train"),
        ("validation/000003-p3.png", "validation"),
    ]


def test_only_part_of_a_saved_data_set_is_no_split(tmp_path: Path) -> None:
    _save(tmp_path / "set" / "train", _embedded([0, 1], label=[0, 1]), FEATURES)
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    listing = read_source(tmp_path / "set")
    assert {row.split for row in listing.rows} == {None}
    assert "the only part 'train' is taken as all of the data" in listing.notes


def test_lists_of_class_numbers_are_tags(tmp_path: Path) -> None:
    table = _embedded([0, 1, 2], objects=[[0, 2], [], None])
    features = {"image": {"_type": "Image"}, "objects": {"_type": "Sequence", "feature": CLASSES}}
    _save(tmp_path / "set", table, features)
    listing = read_source(tmp_path / "set")
    assert [row.labels for row in listing.rows] == [("cat", "fox"), (), ()]


def test_one_of_several_class_columns_must_be_named(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "coarse": CLASSES, "fine": CLASSES}
    _save(tmp_path / "set", _embedded([0, 1], coarse=[0, 1], fine=[2, 1]), features)
    with pytest.raises(DataError, match=r"no column 'label'.*image, coarse, fine"):
        read_source(tmp_path / "set")
    listing = read_source(tmp_path / "set", Columns(label=("coarse", "fine")))
    assert listing.label_space().names == ("cat/fox", "dog/dog")


def test_embedded_pictures_are_written_once_and_again_when_some_are_lost(
    tmp_path: Path, cache: Path
) -> None:
    _save(tmp_path / "set", _embedded([0, 1], label=[0, 1]), FEATURES)
    listing = read_source(tmp_path / "set")
    path = listing.rows[0].path
    assert path.is_relative_to(cache)
    written = path.stat().st_mtime_ns
    assert read_source(tmp_path / "set") == listing
    assert path.stat().st_mtime_ns == written
    path.unlink()
    assert read_source(tmp_path / "set") == listing
    assert path.is_file()
    (listing.root / ".taxon-complete").unlink()
    assert read_source(tmp_path / "set") == listing
    _save(tmp_path / "new", _embedded([5, 6], label=[1, 0]), FEATURES)
    shutil.rmtree(tmp_path / "set")
    shutil.move(tmp_path / "new", tmp_path / "set")
    assert read_source(tmp_path / "set").root != listing.root


def test_two_that_unpack_the_same_agree(tmp_path: Path, cache: Path) -> None:
    source = write_picture(tmp_path / "a.png")

    def fill(folder: Path) -> None:
        (folder / "x").write_text("")

    def fill_slowly(folder: Path) -> None:
        unpacked("kind", "name", [source], fill)
        (folder / "y").write_text("")

    folder = unpacked("kind", "name", [source], fill_slowly)
    assert (folder / "x").is_file() and not (folder / "y").exists()
    assert [child.name for child in (cache / "kind").iterdir()] == [folder.name]


def _hub_parquet(path: Path, table: pa.Table, features: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_parquet_of_the_hub_is_read(tmp_path: Path) -> None:
    path = _hub_parquet(tmp_path / "x.parquet", _embedded([0, 1], label=[2, 0]), FEATURES)
    assert [row.labels for row in read_source(path).rows] == [("fox",), ("cat",)]


def test_parquet_files_of_the_hub_in_parts_are_read(tmp_path: Path) -> None:
    for number, seeds in enumerate(([0, 1], [2, 3])):
        name = f"data/train-{number:05d}-of-00002.parquet"
        _hub_parquet(tmp_path / name, _embedded(seeds, label=[0, 1]), FEATURES)
    _hub_parquet(tmp_path / "data/test-00000-of-00001.parquet", _embedded([4], label=[1]), FEATURES)
    listing = read_source(tmp_path)
    assert sorted((row.split, *row.labels) for row in listing.rows) == [
        ("test", "dog"),
        ("train", "cat"),
        ("train", "cat"),
        ("train", "dog"),
        ("train", "dog"),
    ]


def test_embedded_pictures_without_bytes_are_looked_for_or_listed(tmp_path: Path) -> None:
    write_picture(tmp_path / "beside.png", 9)
    cells = [
        {"bytes": encode(pattern(8, 6), "JPEG"), "path": None},
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"no picture", "path": "../../../escape.png"},
    ]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": list("ababa")})
    pq.write_table(table, tmp_path / "x.parquet")
    listing = read_source(tmp_path / "x.parquet")
    names = [row.path.name for row in listing.rows]
    assert sorted(names) == ["000000.jpg", "000004-escape.png", "beside.png"]
    assert len(listing.skipped) == 2
    assert all(
        row.path.is_relative_to(listing.root) for row in listing.rows if row.path.name[0] == "0"
    )
    manifest = load_manifest(tmp_path / "x.parquet")
    assert (len(manifest), len(manifest.skipped)) == (2, 3)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("state.json", "{}", "names no data files"),
        ("state.json", '{"_data_files": 3}', "names no data files"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', "cannot be read"),
        ("state.json", '{"_indices_files": [1]}', "flatten_indices"),
        ("dataset_info.json", "[]", "no JSON object"),
        ("dataset_dict.json", '{"splits": []}', "names no splits"),
        ("data-00000-of-00001.arrow", "damaged", "cannot be read"),
    ],
)
def test_damaged_saved_data_set_is_refused(
    tmp_path: Path, file: str, content: str, said: str
) -> None:
    _save(tmp_path / "set", _embedded([0, 1], label=[0, 1]), FEATURES)
    (tmp_path / "set" / file).write_text(content)
    with pytest.raises(DataError, match=said):
        read_source(tmp_path / "set")


def test_class_number_without_a_name_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "set", _embedded([0, 1], label=[0, 3]), FEATURES)
    with pytest.raises(DataError, match=r"row 2: class number 3 has no name; there are 3"):
        read_source(tmp_path / "set")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_image_folder_with_metadata_is_read(tmp_path: Path, suffix: str) -> None:
    rows = [{"file_name": "train/a.png", "label": "x"}, {"file_name": "test/b.png", "label": "y"}]
    path = tmp_path / f"metadata{suffix}"
    if suffix == ".csv":
        path.write_text("file_name,label\ntrain/a.png,x\ntest/b.png,y\n")
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    for row in rows:
        write_picture(tmp_path / row["file_name"])
    listing = read_source(tmp_path)
    assert [(row.id, row.labels, row.split) for row in listing.rows] == [
        ("test/b.png", ("y",), "test"),
        ("train/a.png", ("x",), "train"),
    ]


def test_image_folder_with_a_table_in_each_part_is_read(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        write_picture(tmp_path / part / "sub" / "a.png")
        line = json.dumps({"file_name": "sub/a.png", "label": part[0]})
        (tmp_path / part / "metadata.jsonl").write_text(line)
    listing = read_source(tmp_path)
    assert [(row.id, row.split) for row in listing.rows] == [
        ("train/sub/a.png", "train"),
        ("validation/sub/a.png", "validation"),
    ]
    assert all(row.path.is_file() for row in listing.rows)
    (tmp_path / "train" / "metadata.jsonl").unlink()
    with pytest.raises(DataError, match=r"in 'validation' but none in 'train'"):
        read_source(tmp_path)


def test_metadata_without_labels_leaves_the_classes_to_the_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/00.png,a cat\n")
    listing = read_source(tmp_path)
    assert _labels(listing) == {"cat/00.png": ("cat",), "dog/00.png": ("dog",)}
    assert any("the folders are the classes: metadata.csv has no" in note for note in listing.notes)


@pytest.mark.parametrize("name", [None, ".", ""])
def test_row_without_a_name_does_not_cost_the_split(tmp_path: Path, name: str | None) -> None:
    for part in ("train", "test"):
        rows: list[dict[str, str | None]] = []
        for label in ("x", "y"):
            write_picture(tmp_path / part / f"{label}.png", len(rows))
            rows.append({"file_name": f"{label}.png", "label": label})
        rows += [{"file_name": name, "label": "x"}] * (part == "train")
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / part / "metadata.jsonl").write_text(text)
    listing = read_source(tmp_path)
    assert [(row.id, row.split) for row in listing.rows] == [
        (f"{part}/{label}.png", part) for part in ("test", "train") for label in ("x", "y")
    ]
    assert len(listing.skipped) == 1
    for part in ("train", "test"):
        (tmp_path / part / "metadata.jsonl").unlink()
    rows = [{"file_name": row.id, "label": row.labels[0]} for row in listing.rows]
    text = "".join(json.dumps(row) + "\n" for row in [{"file_name": name, "label": "x"}, *rows])
    (tmp_path / "metadata.jsonl").write_text(text)
    assert [row.split for row in read_source(tmp_path).rows] == ["test"] * 2 + ["train"] * 2


def test_part_folders_beside_others_and_pictures_without_a_row_are_noted(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train": 3, "more": 1})
    (tmp_path / "metadata.csv").write_text(
        "file_name,label\ntrain/00.png,x\ntrain/01.png,\nmore/00.png,y\n"
    )
    listing = read_source(tmp_path)
    assert {row.split for row in listing.rows} == {None}
    assert listing.notes == (
        "'train' is not taken as a part of a split, as 'more' beside it is none",
        f"passed over: 1 picture in {tmp_path.name} that no row lists (say train/02.png)",
    )


def test_maps_are_no_labels(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.int64())
    for seed, name in enumerate(("a.png", "b.png")):
        write_picture(tmp_path / name, seed)
    labels = pa.array([[("a", 1)], [("b", 1)]], kind)
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "tags": labels}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 1: 'tags' must be one value, received a pair"):
        read_source(tmp_path / "t.parquet")
    _save(tmp_path / "set", _embedded([0, 1]).append_column("tags", labels), {})
    with pytest.raises(DataError, match=r"row 1: 'tags' must be one value, received a pair"):
        read_source(tmp_path / "set")


@pytest.mark.parametrize("name", ["../x.arrow", "/x.arrow", "a/../../x.arrow"])
def test_saved_data_set_may_not_reach_out_of_its_folder(tmp_path: Path, name: str) -> None:
    _save(tmp_path / "set", _embedded([0, 1], label=[0, 1]), FEATURES)
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="lies outside of its folder"):
        read_source(tmp_path / "set")


# Archives


def _zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _tar(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


PICTURES = {f"{label}/{seed}.png": encode(pattern(9, 7, seed)) for seed, label in enumerate("abab")}


@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize(
    "suffix", [".zip", ".ZIP", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]
)
def test_archive_is_read_as_the_folder_in_it(
    tmp_path: Path, cache: Path, suffix: str, top: str
) -> None:
    members = {top + name: content for name, content in PICTURES.items()}
    members["__MACOSX/._0.png"] = b"x"
    path = tmp_path / f"set{suffix}"
    if suffix.lower() == ".zip":
        _zip(path, members)
    else:
        _tar(path, [(_member(name), content) for name, content in members.items()])
    listing = read_source(path)
    assert _labels(listing) == {name: (name[0],) for name in PICTURES}
    assert all(row.path.read_bytes() == PICTURES[row.id] for row in listing.rows)
    assert all(row.path.is_relative_to(cache) for row in listing.rows)
    written = listing.rows[0].path.stat().st_mtime_ns
    assert read_source(path) == listing
    assert listing.rows[0].path.stat().st_mtime_ns == written
    assert sorted(child.name for child in tmp_path.iterdir()) == [path.name]


def test_table_in_an_archive_is_used(tmp_path: Path) -> None:
    table = b"path,label\na/0.png,one\nb/1.png,two\n"
    path = _zip(tmp_path / "set.zip", {**PICTURES, "labels.csv": table})
    assert read_source(path).label_space().names == ("one", "two")


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/hostname"])
def test_table_in_an_archive_may_not_reach_out_of_it(tmp_path: Path, name: str) -> None:
    table = f"path,label\na/0.png,one\n{name},two\n".encode()
    path = _zip(tmp_path / "set.zip", {**PICTURES, "labels.csv": table})
    with pytest.raises(DataError, match="names a file outside of the archive"):
        read_source(path)


def test_embedded_pictures_in_an_archive_are_read_and_no_others(
    tmp_path: Path, cache: Path
) -> None:
    _save(tmp_path / "set", _embedded([0, 1], label=[0, 1]), FEATURES)
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path / "set"))
    listing = read_source(path)
    assert [row.labels for row in listing.rows] == [("cat",), ("dog",)]
    assert all(row.path.is_relative_to(cache / "pictures") for row in listing.rows)
    assert len(load_manifest(path)) == 2
    outside = write_picture(tmp_path / "secret.png")
    cells = [{"bytes": None, "path": str(outside)}, {"bytes": encode(pattern(8, 6)), "path": None}]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": [0, 1]})
    shutil.rmtree(tmp_path / "set")
    _save(tmp_path / "set", table, FEATURES)
    path = Path(shutil.make_archive(str(tmp_path / "hostile"), "zip", tmp_path / "set"))
    with pytest.raises(DataError, match="names a file outside of the archive"):
        read_source(path)


def _assert_refused(path: Path, said: str, cache: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_source(path)
    assert not [entry for entry in cache.rglob("*") if entry.is_file()]
    assert not list((cache / "archives").iterdir())


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "C:/x.png", "C:\\x.png", "..\\x.png", "\\x.png"]
)
def test_archive_members_that_leave_the_folder_are_refused(
    tmp_path: Path, cache: Path, name: str
) -> None:
    content = PICTURES["a/0.png"]
    said = "would be written outside of the folder"
    _assert_refused(_zip(tmp_path / "s.zip", {**PICTURES, name: content}), said, cache)
    members = [(_member("a/0.png"), content), (_member(name), content)]
    _assert_refused(_tar(tmp_path / "s.tar", members), said, cache)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("d/" * 1500 + "x.jpg", "lies more than 100 folders deep"),
        (("d" * 200 + "/") * 30 + "x.jpg", "more than 4096 bytes"),
        ("a/0.png/x.png", "file and a folder at once"),
        ("a/0.png/", "file and a folder at once"),
        (".taxon-complete", "a name that taxon needs for itself"),
        (".taxon-complete/x.png", "a name that taxon needs for itself"),
        ("a", "is there twice"),
        ("a/\x1b[31m.png/../x", r"'a/\\x1b\[31m"),
    ],
)
def test_members_that_cannot_be_written_are_named_not_the_cache(
    tmp_path: Path, cache: Path, name: str, said: str
) -> None:
    path = _zip(tmp_path / "s.zip", {**PICTURES, name: b""})
    _assert_refused(path, rf"s\.zip is not unpacked: .*{said}", cache)
    kind = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    files = [(_member(name), content) for name, content in PICTURES.items()]
    path = _tar(tmp_path / "s.tar", [*files, (_member(name, kind), b"")])
    _assert_refused(path, rf"s\.tar is not unpacked: .*{said}", cache)


def test_damage_is_told_in_one_line(tmp_path: Path, cache: Path) -> None:
    path = _zip(tmp_path / "s.zip", PICTURES).rename(tmp_path / "s.tar")
    _assert_refused(path, r"^[^\n]*it is a zip; give it the suffix \.zip$", cache)
    (tmp_path / "x.tar").write_text("text")
    _assert_refused(tmp_path / "x.tar", r"^[^\n]*file could not be opened successfully$", cache)
    links = [
        (_member(f"a/{name}.png", tarfile.SYMTYPE, f"{target}.png"), b"")
        for name, target in ("xy", "yx")
    ]
    path = _tar(tmp_path / "l.tar", links)
    _assert_refused(path, "links in it lead to each other", cache)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (_member("a/l.png", tarfile.SYMTYPE, "../../etc/passwd"), "link out of it"),
        (_member("a/l.png", tarfile.SYMTYPE, "/etc/passwd"), "link out of it"),
        (_member("a/l.png", tarfile.LNKTYPE, "../x"), "link out of it"),
        (_member("a/l.png", tarfile.SYMTYPE, "l.png"), "damaged"),
        (_member("a/l.png", tarfile.SYMTYPE, "gone.png"), "damaged"),
        (_member("a/l", tarfile.SYMTYPE, "../b"), "link to a folder"),
        (_member("a/d.png", tarfile.CHRTYPE), "device or a pipe"),
        (_member("a/d.png", tarfile.FIFOTYPE), "device or a pipe"),
        (_member("a/0.png"), "there twice"),
    ],
)
def test_tar_members_that_are_no_plain_files_are_refused(
    tmp_path: Path, cache: Path, member: tarfile.TarInfo, said: str
) -> None:
    folders = [(_member(name, tarfile.DIRTYPE), b"") for name in "ab"]
    files = [(_member(name), content) for name, content in PICTURES.items()]
    path = _tar(tmp_path / "s.tar", [*folders, *files, (member, b"")])
    _assert_refused(path, said, cache)


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "../a/0.png"), (tarfile.LNKTYPE, "a/0.png")]
)
def test_links_within_a_tar_become_files(tmp_path: Path, kind: bytes, target: str) -> None:
    files = [(_member(name), content) for name, content in PICTURES.items()]
    path = _tar(tmp_path / "s.tar.gz", [*files, (_member("b/l.png", kind, target), b"")])
    listing = read_source(path)
    (row,) = (row for row in listing.rows if row.id == "b/l.png")
    assert row.path.read_bytes() == PICTURES["a/0.png"] and not row.path.is_symlink()


def test_link_in_a_zip_is_refused(tmp_path: Path, cache: Path) -> None:
    path = _zip(tmp_path / "s.zip", PICTURES)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("a/link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    _assert_refused(path, "is a link", cache)


def test_encrypted_zip_is_refused(tmp_path: Path, cache: Path) -> None:
    path = _zip(tmp_path / "s.zip", PICTURES)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(mark, start + 1)) >= 0:
            data[start + offset] |= 1
    path.write_bytes(data)
    _assert_refused(path, "encrypted", cache)


def test_bombs_are_refused_by_what_they_unpack_to(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = bytes(3 << 20)
    monkeypatch.setattr("taxon.data.sources.archives.ALWAYS_ALLOWED_BYTES", 1 << 20)
    _assert_refused(_zip(tmp_path / "s.zip", {**PICTURES, "a/z.png": zeros}), "bomb", cache)
    bomb = _tar(tmp_path / "s.tar.gz", [(_member("a/z.png"), zeros)])
    _assert_refused(bomb, "bomb", cache)
    links = [(_member(f"a/{n}.png", tarfile.LNKTYPE, "a/z.png"), b"") for n in range(9)]
    half = _tar(tmp_path / "l.tar.gz", [(_member("a/z.png"), zeros[: 1 << 19]), *links])
    _assert_refused(half, "bomb", cache)


def test_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path, cache: Path) -> None:
    path = _zip(tmp_path / "s.zip", {"a/z.png": bytes(1 << 16), **PICTURES})
    data = path.read_bytes()
    path.write_bytes(data.replace((1 << 16).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    _assert_refused(path, "damaged", cache)


def test_too_many_members_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxon.data.sources.archives.MAXIMUM_FILES", 3)
    _assert_refused(_zip(tmp_path / "s.zip", PICTURES), "more than 3 files", cache)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_half_an_archive_is_refused(tmp_path: Path, cache: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".zip":
        _zip(whole, PICTURES)
    else:
        _tar(whole, [(_member(name), content) for name, content in PICTURES.items()])
    data = whole.read_bytes()
    path = tmp_path / f"half{suffix}"
    for share in (0.0, 0.1, 0.3, 0.35):  # a tar of 4 small pictures is mostly zeros at its end
        path.write_bytes(data[: int(len(data) * share)])
        _assert_refused(path, "damaged", cache)


def test_tar_cut_between_two_members_is_refused(tmp_path: Path, cache: Path) -> None:
    path = _tar(
        tmp_path / "s.tar", [(_member(name), content) for name, content in PICTURES.items()]
    )
    path.write_bytes(path.read_bytes()[: 2 * 1024])  # header and one block a picture
    _assert_refused(path, "ends early", cache)


def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _zip(tmp_path / "s.zip", PICTURES)
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "x" in mode:
            raise OSError(28, "No space left on device")
        return real(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="No space left"):
        read_source(path)
    assert not list((cache / "archives").iterdir())
