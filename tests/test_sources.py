"""Sources: folders and tables become one manifest; what is wrong is named, the rest goes on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encode, pattern, write_folders, write_picture, write_table

from taxon.core.errors import DataError
from taxon.core.labels import LabelSpace
from taxon.data import (
    Columns,
    Manifest,
    Skipped,
    load_manifest,
    read_manifest,
    read_source,
    write_manifest,
)
from taxon.data.sources import list_pictures


def _labels(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    return {record.id: record.labels for record in manifest.records}


def _splits(manifest: Manifest) -> dict[str, str | None]:
    return {record.id: record.split for record in manifest.records}


# Folders


def test_folders_are_the_classes(tmp_path: Path) -> None:
    manifest = load_manifest(write_folders(tmp_path, {"cat": 2, "dog": 1}))
    assert _labels(manifest) == {
        "cat/00.png": ("cat",),
        "cat/01.png": ("cat",),
        "dog/00.png": ("dog",),
    }
    assert manifest.label_space == LabelSpace.flat("multiclass", ["cat", "dog"])
    assert set(_splits(manifest).values()) == {None}
    first = manifest.records[0]
    assert first.path.is_absolute() and first.path.is_file()
    assert (first.width, first.height) == (12, 10)
    assert len({record.sha256 for record in manifest.records}) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Training", "VALID", "Testing"), ("train", "validation", "test")),
        (("TRAIN", "validation", "Calibration"), ("train", "validation", "calibration")),
    ],
)
def test_part_folders_on_top_are_the_split(
    tmp_path: Path, words: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    counts = {f"{word}/{name}": 1 for word in words for name in ("cat", "dog")}
    manifest = load_manifest(write_folders(tmp_path, counts))
    assert manifest.label_space.names == ("cat", "dog")
    for word, split in zip(words, expected, strict=True):
        assert _splits(manifest)[f"{word}/cat/00.png"] == split
        assert _labels(manifest)[f"{word}/dog/00.png"] == ("dog",)


def test_part_words_among_other_classes_are_classes(tmp_path: Path) -> None:
    manifest = load_manifest(write_folders(tmp_path, {"train": 1, "bus": 1}))
    assert manifest.label_space.names == ("bus", "train")
    assert set(_splits(manifest).values()) == {None}


def test_nested_folders_are_a_taxonomy(tmp_path: Path) -> None:
    counts = {"Fruit/Mango/Mango": 1, "Fruit/Mango/Alphonso": 1, "Tool": 1}
    manifest = load_manifest(write_folders(tmp_path, counts))
    assert manifest.label_space.is_taxonomy
    assert manifest.label_space.names == tuple(sorted(counts))
    assert manifest.label_space.path("Fruit/Mango/Mango")[0] == "Fruit"


def test_nested_folders_below_part_folders_are_a_taxonomy(tmp_path: Path) -> None:
    counts = {"train/a/x": 1, "train/a/y": 1, "test/a/x": 1}
    manifest = load_manifest(write_folders(tmp_path, counts))
    assert manifest.label_space.names == ("a/x", "a/y")
    assert manifest.split_counts() == {"train": 2, "test": 1}


def test_pictures_beside_a_class_of_their_parent_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a' is both"):
        load_manifest(write_folders(tmp_path, {"a": 1, "a/x": 1, "b": 1}))


@pytest.mark.parametrize("loose", ["loose.png", "train/loose.png"])
def test_pictures_outside_of_class_folders_are_refused(tmp_path: Path, loose: str) -> None:
    write_folders(tmp_path, {"train/cat": 1, "test/dog": 1})
    write_picture(tmp_path / loose)
    said = r"1 picture in .* lies outside of class folders.*loose\.png"
    with pytest.raises(DataError, match=said):
        load_manifest(tmp_path)
    write_picture((tmp_path / loose).with_name("also.png"))
    with pytest.raises(DataError, match=r"2 pictures in .* lie outside of class folders"):
        load_manifest(tmp_path)


def test_other_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "notes.txt").write_text("")
    (tmp_path / "README").write_text("")
    manifest = load_manifest(tmp_path)
    assert len(manifest) == 2
    assert manifest.notes == (
        "passed over: 2 files that are no pictures ('README', 'cat/notes.txt')",
    )


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1, ".cache": 1, "cat/.thumbnails": 1})
    write_picture(tmp_path / "cat" / "._00.png")
    manifest = load_manifest(tmp_path)
    assert sorted(_labels(manifest)) == ["cat/00.png", "dog/00.png"]
    assert manifest.notes == ("passed over: 1 hidden picture and 2 hidden folders",)


def _close(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Make folders that cannot be listed, as mode 000 does for everybody but root."""
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) in folders:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_folder_that_cannot_be_read_is_refused_with_what_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1, "my fox": 1})
    _close(monkeypatch, tmp_path / "my fox")
    said = (
        r"cannot read the folder .*my fox: Permission denied\. All pictures in it, perhaps a whole "
        r"class, would be missing: make it readable \(chmod -R u\+rX '.*my fox'\), or move it away"
    )
    with pytest.raises(DataError, match=said):
        load_manifest(tmp_path)
    with pytest.raises(DataError, match=said):
        list_pictures(tmp_path)
    _close(monkeypatch, tmp_path / "cat", tmp_path / "dog")
    with pytest.raises(DataError, match=r"cat \(and 2 more\): Permission denied"):
        load_manifest(tmp_path)


def test_closed_folder_beside_a_table_is_noted_as_the_rows_say_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path, {"more": 1})
    write_table(tmp_path / "metadata.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")])
    _close(monkeypatch, tmp_path / "more")
    listing = read_source(tmp_path)
    assert [row.id for row in listing.rows] == ["a.png", "b.png"]
    (note,) = listing.notes
    assert note.startswith("not looked for: pictures that no row lists (cannot read the folder")


def test_what_the_file_system_keeps_for_itself_may_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "lost+found").mkdir()
    _close(monkeypatch, tmp_path / "lost+found")
    assert load_manifest(tmp_path).notes == ("passed over: 1 hidden folder",)


def test_link_to_a_folder_that_is_not_there_is_noted(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "fox").symlink_to(tmp_path / "disk" / "fox")
    assert load_manifest(tmp_path).notes == (
        "passed over: 1 link that leads nowhere ('fox'); if it was a folder, pictures are missing",
    )


def test_closed_file_or_folder_that_is_looked_for_is_an_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path, {"train/cat": 1, "test/dog": 1})

    def is_file(path: Path) -> bool:
        if path.name == "metadata.csv" and path.parent.name == "train":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os.path.isfile(path)  # noqa: PTH113 (the other one is replaced)

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(
        DataError, match=r"cannot read .*train: Permission .*chmod -R u\+rX .*train"
    ):
        read_source(tmp_path)


@pytest.mark.parametrize("name", ["", " "])
def test_empty_name_of_a_data_set_is_refused(name: str) -> None:
    said = r"name of the data set is empty, received ' ?' \(a variable .*; name a folder, .*\. for"
    for read in (read_source, load_manifest):
        with pytest.raises(DataError, match=said):
            read(name)


def test_data_set_may_be_named_by_text(tmp_path: Path) -> None:
    assert len(load_manifest(str(write_folders(tmp_path, {"cat": 1, "dog": 1})))) == 2


MODEL = ("bundle.json", "model.safetensors", "golden/00.png")
ARTEFACT = ("artefact.json", "model.onnx")


@pytest.mark.parametrize("files", [MODEL, ARTEFACT])
def test_models_below_the_folder_are_passed_over_and_named(
    tmp_path: Path, files: Sequence[str]
) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1, "model": 1})
    for name in files:
        write_picture(tmp_path / "model" / name)
    manifest = load_manifest(tmp_path)
    assert manifest.label_space.names == ("cat", "dog")
    assert manifest.notes == ("passed over: 1 folder of a model that taxon wrote ('model')",)


@pytest.mark.parametrize("marker", ["bundle.json", "artefact.json"])
def test_class_folder_with_a_file_called_like_a_models_is_kept(tmp_path: Path, marker: str) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "dog" / marker).write_text("{}")
    assert load_manifest(tmp_path).label_space.names == ("cat", "dog")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_pipes_and_devices_in_class_folders_are_listed_as_missing(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    os.mkfifo(tmp_path / "dog" / "pipe.jpg")
    (tmp_path / "dog" / "zero.jpg").symlink_to("/dev/zero")
    skipped = load_manifest(tmp_path).skipped
    assert [(row.id, row.kind) for row in skipped] == [
        ("dog/pipe.jpg", "missing"),
        ("dog/zero.jpg", "missing"),
    ]
    assert {row.reason for row in skipped} == {"it is a device or a pipe, not a file"}


@pytest.mark.parametrize(
    "name", ["plain.jpg", "UPPER.JPG", "with space.Png", "ünïcödé-写真.png", "two.dots.jpeg"]
)
def test_names_of_all_kinds_are_found(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "Größe 1" / name, 1)
    write_picture(tmp_path / "b" / "x.png", 2)
    assert _labels(load_manifest(tmp_path))[f"Größe 1/{name}"] == ("Größe 1",)


@pytest.mark.parametrize("counts", [{}, {"only": 3}])
def test_too_few_classes_say_what_a_data_set_looks_like(
    tmp_path: Path, counts: dict[str, int]
) -> None:
    with pytest.raises(DataError, match="folder"):
        load_manifest(write_folders(tmp_path, counts))


def test_missing_source_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder: .*gone.*sub-folder a class"):
        load_manifest(tmp_path / "gone")


def test_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(DataError, match=r"neither a folder nor a table \(\.csv, \.tsv,.*zip"):
        load_manifest(tmp_path / "data.xlsx")


# Pictures that cannot be read


def test_unreadable_pictures_are_skipped_with_a_reason(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "cat" / "empty.jpg").write_bytes(b"")
    (tmp_path / "dog" / "half.png").write_bytes(encode(pattern(40, 40))[:200])
    (tmp_path / "dog" / "text.jpg").write_text("not a picture")
    manifest = load_manifest(tmp_path)
    assert len(manifest) == 4
    reasons = {skipped.id: skipped.reason for skipped in manifest.skipped}
    assert list(reasons) == ["cat/empty.jpg", "dog/half.png", "dog/text.jpg"]
    assert reasons["cat/empty.jpg"] == "the file is empty"
    assert all(reasons.values())


def test_missing_files_of_a_table_are_skipped_with_a_reason(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "dog")]
    table = write_table(tmp_path / "t.csv", ("path", "label"), rows)
    (tmp_path / "b.png").unlink()
    manifest = load_manifest(table)
    assert sorted(_labels(manifest)) == ["a.png", "c.png"]
    assert [(row.id, row.reason) for row in manifest.skipped] == [
        ("b.png", "No such file or directory")
    ]


def test_no_readable_picture_at_all_is_an_error_that_shows_the_first(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 2 pictures .*cat/x\.jpg: the file is empty"):
        load_manifest(tmp_path)
    shutil.rmtree(tmp_path / "dog")
    space = LabelSpace.flat("multiclass", ["cat", "dog"])
    with pytest.raises(DataError, match=r"the only picture of .* cannot be used: cat/x\.jpg: the"):
        load_manifest(tmp_path, label_space=space)


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 2, "dog": 1})
    seen: list[tuple[int, int]] = []
    load_manifest(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# Tables


def test_table_with_one_label_a_picture(tmp_path: Path) -> None:
    rows = [("b/x.png", "dog"), ("a/x.png", " cat ")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", "label"), rows))
    assert _labels(manifest) == {"a/x.png": ("cat",), "b/x.png": ("dog",)}
    assert [record.id for record in manifest.records] == ["a/x.png", "b/x.png"]
    assert manifest.label_space.task == "multiclass"


@pytest.mark.parametrize("column", ["tags", "labels"])
def test_table_with_several_tags_in_a_cell(tmp_path: Path, column: str) -> None:
    rows = [("a.png", "sea| sun"), ("b.png", ""), ("c.png", "sun||sun")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", column), rows))
    assert _labels(manifest) == {"a.png": ("sea", "sun"), "b.png": (), "c.png": ("sun",)}
    assert manifest.label_space == LabelSpace.flat("multilabel", ["sea", "sun"])


def test_table_with_label_columns_from_coarse_to_fine_is_a_taxonomy(tmp_path: Path) -> None:
    rows = [("a.png", "Fruit", "Mango"), ("b.png", "Fruit", "Apple"), ("c.png", "Tool", "Saw")]
    table = write_table(tmp_path / "t.csv", ("path", "kind", "sort"), rows)
    manifest = load_manifest(table, Columns(label=("kind", "sort")))
    assert manifest.label_space.names == ("Fruit/Apple", "Fruit/Mango", "Tool/Saw")
    assert manifest.label_space.is_taxonomy


def test_slash_in_a_cell_of_a_taxonomy_is_refused(tmp_path: Path) -> None:
    rows = [("a.png", "Fruit", "Man/go"), ("b.png", "Tool", "Saw")]
    table = write_table(tmp_path / "t.csv", ("path", "kind", "sort"), rows)
    with pytest.raises(DataError, match=r"row 2: 'Man/go' in 'sort'"):
        load_manifest(table, Columns(label=("kind", "sort")))


def test_table_with_a_column_a_tag(tmp_path: Path) -> None:
    rows = [
        ("a.png", "1", "0"),
        ("b.png", "TRUE", "yes"),
        ("c.png", "False", "1.0"),
        ("d.png", "0", "no"),
    ]
    table = write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows)
    manifest = load_manifest(table, Columns(tags=("sea", "sun")))
    assert _labels(manifest) == {
        "a.png": ("sea",),
        "b.png": ("sea", "sun"),
        "c.png": ("sun",),
        "d.png": (),
    }
    assert manifest.label_space.task == "multilabel"


def test_tag_cell_that_is_neither_0_nor_1_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ("path", "sea"), [("a.png", "1"), ("b.png", "0.7")])
    said = r"row 3: 'sea' must be 0 or 1, received '0\.7'; where it is not known, empty the cell"
    with pytest.raises(DataError, match=said):
        load_manifest(table, Columns(tags=("sea",)))


def test_row_of_unknown_tags_is_passed_over(tmp_path: Path) -> None:
    rows = [
        ("a.png", "1", "0"),
        ("b.png", "0", " "),
        ("c.png", "", "?"),
        ("d.png", "0", "1"),
    ]
    table = write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows)
    listing = read_source(table, Columns(tags=("sea", "sun")))
    assert {row.id: (row.labels, row.unknown) for row in listing.rows} == {
        "a.png": (("sea",), ()),
        "b.png": ((), ("sun",)),
        "d.png": (("sun",), ()),
    }
    assert listing.skipped == (
        Skipped(
            "c.png",
            "row 4: the columns 'sea', 'sun' are empty, and an unknown tag is not a no; write 1 "
            "where the picture has the tag and 0 where it has not",
        ),
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (Columns(label=("label", "label")), r"--label-column names 'label' more than once"),
        (Columns(tags=("sea", "x", "sea")), r"--tag-columns names 'sea' .* received sea, x, sea"),
    ],
)
def test_column_that_is_named_twice_is_refused(tmp_path: Path, columns: Columns, said: str) -> None:
    rows = [("a.png", "x", "1", "0"), ("b.png", "y", "0", "1")]
    table = write_table(tmp_path / "t.csv", ("path", "label", "sea", "x"), rows)
    with pytest.raises(DataError, match=f"{said}.*; name each column once"):
        read_source(table, columns)


def test_label_and_tag_columns_exclude_each_other(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ("path", "label", "sea"), [("a.png", "x", "1")])
    with pytest.raises(DataError, match="exclude each other"):
        read_source(table, Columns(label=("label",), tags=("sea",)))


def test_split_and_group_columns_are_used(tmp_path: Path) -> None:
    rows = [
        ("a.png", "cat", "Train", "p1"),
        ("b.png", "dog", "val", ""),
        ("c.png", "dog", "TEST", " "),
    ]
    table = write_table(tmp_path / "t.csv", ("path", "label", "split", "group"), rows)
    manifest = load_manifest(table)
    assert _splits(manifest) == {"a.png": "train", "b.png": "validation", "c.png": "test"}
    assert [record.group for record in manifest.records] == ["p1", None, None]


def test_columns_of_other_names_are_used(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "test", "p1"), ("b.png", "dog", "train", "p2")]
    table = write_table(tmp_path / "t.csv", ("file", "what", "part", "patient"), rows)
    columns = Columns(path="file", label=("what",), split="part", group="patient")
    manifest = load_manifest(table, columns)
    assert _splits(manifest) == {"a.png": "test", "b.png": "train"}
    assert [record.group for record in manifest.records] == ["p1", "p2"]


def test_tab_separated_table_is_read(tmp_path: Path) -> None:
    rows = [("a,1.png", "cat, small"), ("b.png", "dog")]
    manifest = load_manifest(write_table(tmp_path / "t.tsv", ("path", "label"), rows))
    assert _labels(manifest)["a,1.png"] == ("cat, small",)


def test_byte_order_mark_and_spaces_in_the_header_are_no_part_of_its_names(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b.png", "dog")]
    table = write_table(tmp_path / "t.csv", ("path", " label "), rows, encoding="utf-8-sig")
    assert _labels(load_manifest(table)) == {"a.png": ("cat",), "b.png": ("dog",)}


def test_quoted_commas_and_unicode_are_kept(tmp_path: Path) -> None:
    rows = [("eins, zwei.png", "grün, hell"), ("写真.png", "red")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", "label"), rows))
    assert _labels(manifest) == {"eins, zwei.png": ("grün, hell",), "写真.png": ("red",)}


def test_absolute_paths_are_used_as_they_are(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "elsewhere" / "a.png", 1)
    other = write_picture(tmp_path / "elsewhere" / "b.png", 2)
    rows = [(str(picture), "cat"), (str(other), "dog")]
    table = write_table(tmp_path / "table" / "t.csv", ("path", "label"), rows, pictures=False)
    assert [record.path for record in load_manifest(table).records] == [picture, other]


def test_labels_csv_in_a_folder_is_used_instead_of_its_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, {"wrong": 1, "folders": 1})
    write_table(tmp_path / "labels.csv", ("path", "label"), [("a.png", "x"), ("b.png", "y")])
    assert load_manifest(tmp_path).label_space.names == ("x", "y")


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        (("pth", "label"), Columns(), r"no column 'path'.*pth, label.*'pth'\?.*--path-column"),
        (("path", "lable"), Columns(label=("label",)), r"no column 'label'.*'lable'\?"),
        (("path", "colour"), Columns(), r"no column 'label'.*path, colour.*--label-column"),
        (
            ("path", "sea"),
            Columns(tags=("sea", "sum")),
            r"no column 'sum' for a tag.*--tag-columns",
        ),
        (("path", "label"), Columns(group="patient"), r"no column 'patient'.*--group-column"),
        (("path", "label"), Columns(split="part"), r"no column 'part'.*--split-column"),
    ],
)
def test_missing_column_is_named_with_those_that_there_are(
    tmp_path: Path, header: Sequence[str], columns: Columns, said: str
) -> None:
    table = write_table(tmp_path / "t.csv", header, [("a.png", "1"), ("b.png", "0")])
    with pytest.raises(DataError, match=said):
        read_source(table, columns)


@pytest.mark.parametrize(
    ("row", "name", "said"),
    [
        (("", "cat"), "t.csv, row 3", "the column 'path' is empty"),
        (("b.png", " "), "b.png", "row 3: the column 'label' is empty; each picture needs a class"),
        (("b.png",), "b.png", "row 3: the column 'label' is empty; each picture needs a class"),
        (("", ""), "t.csv, row 3", "the column 'path' is empty"),
    ],
)
def test_row_without_picture_or_class_is_passed_over_and_listed(
    tmp_path: Path, row: Sequence[str], name: str, said: str
) -> None:
    rows = [("a.png", "cat"), row, ("c.png", "dog")]
    table = write_table(tmp_path / "t.csv", ("path", "label"), rows, pictures=False)
    for picture in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / picture)
    listing = read_source(table)
    assert [row.id for row in listing.rows] == ["a.png", "c.png"]
    assert listing.skipped == (Skipped(name, said),)
    assert load_manifest(table).skipped == listing.skipped


OPEN = r"a quote \(\"\) is opened and not closed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('path,label\na.png,x\n"b.png,x\nc.png,y\nd.png,y\n', rf"row 3: {OPEN}"),
        ('path,label\n"a.png,x\nb.png,x\n"c.png,y\n', rf"row 2: {OPEN}"),
        ('path,label\n"a.png,x\nb.png",x\nc.png,y\n', rf"row 2: 'path' holds a line end: {OPEN}"),
        ('path,label\na.png,"x\nb.png,x\nc.png",y\n', r"row 2: more cells"),
        ('path,label\na.png,"x\nb.png,y"\nc.png,y\n', rf"row 2: 'label' holds a line end: {OPEN}"),
        ('path,"label\na.png,x\nb.png,y\n', rf"row 1: {OPEN}"),
        ('path,"label\na.png,x\nb.png,y"\n', r"no column 'label'"),
    ],
)
def test_quote_that_is_not_closed_is_refused_with_its_row(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=said) as raised:
        read_source(tmp_path / "t.csv")
    assert len(str(raised.value).splitlines()) == 1 and len(str(raised.value)) < 400


def test_line_ends_and_long_texts_in_other_columns_are_no_matter(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "one\ntwo"), ("b.png", "dog", "x" * 200_000)]
    table = write_table(tmp_path / "t.csv", ("path", "label", "caption"), rows)
    assert [row.id for row in read_source(table).rows] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "path\tlabel\na.png\tcat\nb.png\tdog\n"),
        ("t.csv", "sep=;\r\npath;label\r\na.png;cat\r\nb.png;dog\r\n"),
        ("t.csv", "sep=,\npath,label\na.png,cat\nb.png,dog\n"),
        ("t.tsv", '"sep=\t"\npath\tlabel\na.png\tcat\nb.png\tdog\n'),
    ],
)
def test_separators_of_spreadsheets_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    rows = read_source(tmp_path / name).rows
    assert [(row.id, *row.labels) for row in rows] == [("a.png", "cat"), ("b.png", "dog")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path|label\na.png|cat\n", r"separated by '\|'.*save it with commas"),
        ("path,label\na.png,cat\n".encode("utf-16"), r"UTF-16; save it .*'CSV UTF-8'"),
        ("path,label\na.png,süß\n".encode("latin-1"), r"not UTF-8 text.*'CSV UTF-8'"),
    ],
)
def test_table_of_another_program_says_what_to_do(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_source(tmp_path / "t.csv")


@pytest.mark.parametrize("label", ["a\x1b[31m", "a\u2028b", "a\x00b"])
@pytest.mark.parametrize("column", ["label", "tags"])
def test_label_with_a_control_character_is_passed_over(
    tmp_path: Path, label: str, column: str
) -> None:
    rows = [("a.png", label), ("b.png", "x"), ("c.png", "y")]
    listing = read_source(write_table(tmp_path / "t.csv", ("path", column), rows))
    assert [row.id for row in listing.rows] == ["b.png", "c.png"]
    (skipped,) = listing.skipped
    assert (skipped.id, skipped.kind) == ("a.png", "row")
    assert "control character" in skipped.reason and skipped.reason.isprintable()


def test_row_with_more_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b.png", "cat", "more")]
    table = write_table(tmp_path / "t.csv", ("path", "label"), rows, pictures=False)
    with pytest.raises(DataError, match=r"row 3: more cells than the header"):
        read_source(table)


def test_table_in_which_no_row_has_a_class_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ("path", "label"), [("a.png", ""), ("b.png", "")])
    with pytest.raises(DataError, match=r"no picture that can be used.*a\.png: row 2: the column"):
        read_source(table)


def test_number_of_a_row_is_that_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,split\n\na.png,cat,train\n\n\nb.png,dog,odd\n")
    with pytest.raises(DataError, match=r"t\.csv, row 6: unknown part 'odd'"):
        read_source(tmp_path / "t.csv")


def test_unknown_part_is_refused_with_those_allowed(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "train"), ("b.png", "dog", "holdout")]
    table = write_table(tmp_path / "t.csv", ("path", "label", "split"), rows)
    with pytest.raises(DataError, match=r"row 3: unknown part 'holdout'; allowed: .*test.*train"):
        read_source(table)


def test_part_that_is_given_for_some_rows_only_is_refused(tmp_path: Path) -> None:
    rows = [("a.png", "cat", "train"), ("b.png", "dog", "")]
    table = write_table(tmp_path / "t.csv", ("path", "label", "split"), rows)
    with pytest.raises(DataError, match=r"1 of 2 rows has no 'split' \(say b\.png\)"):
        read_source(table)


def test_empty_split_column_is_no_split(tmp_path: Path) -> None:
    rows = [("a.png", "cat", ""), ("b.png", "dog", "")]
    table = write_table(tmp_path / "t.csv", ("path", "label", "split"), rows)
    assert {row.split for row in read_source(table).rows} == {None}


def test_row_listed_twice_counts_once_and_is_noted(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b.png", "dog"), ("./a.png", "cat")]
    manifest = load_manifest(write_table(tmp_path / "t.csv", ("path", "label"), rows))
    assert len(manifest) == 2
    assert manifest.notes == ("1 repeated row of t.csv was passed over",)
    assert manifest.skipped == (Skipped("a.png", "row 4 repeats row 2"),)
    write_table(tmp_path / "t.csv", ("path", "label"), [*rows, rows[0]], pictures=False)
    assert read_source(tmp_path / "t.csv").notes == ("2 repeated rows of t.csv were passed over",)


def test_one_file_by_two_names_counts_once_or_is_a_contradiction(tmp_path: Path) -> None:
    absolute = str(tmp_path / "base" / "a.png")
    rows = [("../base/a.png", "cat"), ("../base/b.png", "dog"), (absolute, "cat")]
    table = write_table(tmp_path / "tables" / "t.csv", ("path", "label"), rows)
    listing = read_source(table)
    assert [row.id for row in listing.rows] == ["../base/a.png", "../base/b.png"]
    assert listing.skipped == (Skipped(absolute, "row 4 repeats row 2"),)
    write_table(table, ("path", "label"), [*rows[:2], (absolute, "dog")], pictures=False)
    with pytest.raises(DataError, match=r"in 1 row: row 4: .*listed before with another"):
        read_source(table)


@pytest.mark.parametrize("second", [("a.png", "dog", "train"), ("a.png", "cat", "test")])
def test_row_listed_twice_with_another_meaning_is_refused(
    tmp_path: Path, second: tuple[str, ...]
) -> None:
    rows = [("a.png", "cat", "train"), second]
    table = write_table(tmp_path / "t.csv", ("path", "label", "split"), rows)
    with pytest.raises(DataError, match=r"row 3: 'a\.png' is listed before with another"):
        read_source(table)


def test_all_rows_that_contradict_earlier_ones_are_counted(tmp_path: Path) -> None:
    rows = [(f"{name}.png", label) for label in ("cat", "dog") for name in "abcde"]
    table = write_table(tmp_path / "t.csv", ("path", "label"), rows)
    said = r"in 5 rows: row 7: 'a\.png'.*\(row 2\); row 8: .*row 9: .*; and 2 more"
    with pytest.raises(DataError, match=said) as raised:
        read_source(table)
    assert "row 10" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column 'path'.*none"),
        (b"path,label\n", "no rows"),
        (b"path,label\n\xff\xfe.png,cat\n", "not UTF-8"),
    ],
)
def test_table_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_source(tmp_path / "t.csv")


# The label space of a trained model


def test_class_missing_from_the_test_set_does_not_shift_positions(tmp_path: Path) -> None:
    space = LabelSpace.flat("multiclass", ["ant", "bee", "cat", "dog"])
    manifest = load_manifest(write_folders(tmp_path, {"dog": 1, "bee": 2}), label_space=space)
    assert manifest.label_space == space
    assert manifest.targets().tolist() == [1, 1, 3]
    assert manifest.counts() == {"ant": 0, "bee": 2, "cat": 0, "dog": 1}


def test_one_class_is_enough_for_a_given_label_space(tmp_path: Path) -> None:
    space = LabelSpace.flat("multiclass", ["ant", "bee"])
    assert len(load_manifest(write_folders(tmp_path, {"bee": 2}), label_space=space)) == 2


def test_class_that_the_label_space_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    space = LabelSpace.flat("multiclass", ["ant", "bee"])
    with pytest.raises(DataError, match=r"unknown class 'beee'.*'bee'\?"):
        load_manifest(write_folders(tmp_path, {"ant": 1, "beee": 1}), label_space=space)


def test_several_tags_do_not_fit_a_label_space_of_one_class_a_picture(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", ("path", "tags"), [("a.png", "x"), ("b.png", "x|y")])
    with pytest.raises(DataError, match="exactly one class"):
        load_manifest(table, label_space=LabelSpace.flat("multiclass", ["x", "y"]))


# The manifest on disk


def _full_manifest(root: Path) -> Manifest:
    rows = [
        ("a.png", "sea|sun", "train", "p1"),
        ("b.png", "", "train", ""),
        ("ü c.png", "sun", "test", "p2"),
    ]
    table = write_table(root / "t.csv", ("path", "tags", "split", "group"), rows)
    with table.open("a") as stream:
        stream.write("gone.png,sun,val,\na.png,sea|sun,train,p1\n")
    return load_manifest(table)


def test_manifest_survives_parquet(tmp_path: Path) -> None:
    manifest = _full_manifest(tmp_path)
    assert manifest.skipped and manifest.notes
    write_manifest(manifest, tmp_path / "out" / "m.parquet")
    again = read_manifest(tmp_path / "out" / "m.parquet")
    unlooked = tuple(replace(record, look=None) for record in manifest.records)
    assert again == replace(manifest, records=unlooked)
    assert again.fingerprint == manifest.fingerprint


@pytest.mark.parametrize("content", [b"", b"PAR1 no table PAR1"])
def test_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.parquet is damaged, .*not a whole Parquet file"):
        read_manifest(tmp_path / "m.parquet")


def test_absent_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*m\.parquet"):
        read_manifest(tmp_path / "m.parquet")


def test_parquet_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"no manifest that taxon wrote \(it lacks 'taxon"):
        read_manifest(tmp_path / "m.parquet")


def test_fingerprint_stays_when_the_data_move(tmp_path: Path) -> None:
    first = write_folders(tmp_path / "one", {"cat": 2, "dog": 2})
    second = Path(shutil.copytree(first, tmp_path / "two" / "deep"))
    assert load_manifest(first).fingerprint == load_manifest(second).fingerprint


def test_fingerprint_stays_when_rows_change_their_order(tmp_path: Path) -> None:
    rows = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "dog")]
    write_table(tmp_path / "one.csv", ("path", "label"), rows)
    write_table(tmp_path / "two.csv", ("path", "label"), rows[::-1], pictures=False)
    one, two = load_manifest(tmp_path / "one.csv"), load_manifest(tmp_path / "two.csv")
    assert one.fingerprint == two.fingerprint


HEADER = ("path", "label", "split", "group")
ROWS = [
    ("a.png", "cat", "train", "p"),
    ("b.png", "dog", "train", "q"),
    ("c.png", "cat", "test", "r"),
]


@pytest.mark.parametrize(
    "changed",
    [
        ("c.png", "dog", "test", "r"),
        ("c.png", "fox", "test", "r"),
        ("c.png", "cat", "val", "r"),
        ("c.png", "cat", "test", "s"),
        ("a.png", "cat", "train", "p"),
    ],
)
def test_fingerprint_changes_with_labels_split_group_and_number(
    tmp_path: Path, changed: tuple[str, ...]
) -> None:
    before = load_manifest(write_table(tmp_path / "one.csv", HEADER, ROWS))
    rows = [*ROWS[:2], changed]
    after = load_manifest(write_table(tmp_path / "two.csv", HEADER, rows, pictures=False))
    assert before.fingerprint != after.fingerprint


def test_fingerprint_changes_with_the_content_of_a_picture(tmp_path: Path) -> None:
    table = write_table(tmp_path / "one.csv", HEADER, ROWS)
    before = load_manifest(table).fingerprint
    write_picture(tmp_path / "b.png", 99)
    assert load_manifest(table).fingerprint != before


def test_columns_on_a_folder_without_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns have no meaning"):
        read_source(tmp_path, Columns(label=("kind",)))


def test_odd_file_names_are_read_and_those_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    names = ["Screenshot 3.15\u202fPM.png", "蟹 ü.png", "tab\there.png"]
    for label in ("a", "b"):
        for name in names:
            write_picture(tmp_path / label / name)
    if sys.platform == "linux":  # other systems refuse such a name themselves
        write_picture(tmp_path / "a" / "fine.png").rename(
            os.fsdecode(os.fsencode(tmp_path / "a") + b"/bad\xff.png")
        )
    manifest = load_manifest(tmp_path)
    assert {Path(record.id).name for record in manifest.records} == set(names)
    if sys.platform == "linux":
        (skipped,) = manifest.skipped
        assert "bad" in skipped.id and "not UTF-8" in skipped.reason
    write_manifest(manifest, tmp_path / "manifest.parquet")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name themselves")
def test_folder_that_is_not_utf8_is_refused_or_reached_through_a_link(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    write_folders(folder / "photos", {"cat": 1, "dog": 1})
    with pytest.raises(DataError, match="is not UTF-8; rename it, or reach it through a link"):
        load_manifest(folder / "photos")
    (tmp_path / "link").symlink_to(folder)
    manifest = load_manifest(tmp_path / "link" / "photos")
    write_manifest(manifest, tmp_path / "m.parquet")
    assert len(load_manifest(tmp_path / "m.parquet")) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name themselves")
def test_class_that_was_left_out_for_its_name_is_named_where_it_lacks(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 1})
    write_picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff/x.png")))
    said = r"needs at least 2 classes.* was passed over, say b\\xff/x.png: the folder's name is not"
    with pytest.raises(DataError, match=said):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("column", "labels", "said"),
    [
        ("tags", ["a,b", "b", "a"], r"'a,b' looks like several tags in one; separate them by '\|'"),
        ("tags", ["a; b", "b; c", "a; c"], r"'a; b', 'a; c' and 1 more look like several tags"),
        ("label", ["a|b", "b", "a"], r"'a\|b' looks like.*in a column named 'labels' or 'tags'"),
        ("tags", ["['a', 'b']", "b", "c"], r"looks like several tags in one"),
        ("label", ["nan", "b"], r"'nan' is taken for a class; where .* leave the pictures out"),
        ("label", ["null", "b", "NA", "None"], r"'NA', 'None', 'null' are taken for classes;"),
        ("label", ["n/a", "-", "?"], r"'-', '\?', 'n/a' are taken for classes"),
        ("tags", ["none", "b|c"], r"'none' is taken for a tag; where .* for no label, take it out"),
        ("tags", ["", "b", ""], r"2 pictures have no tag and count as examples of none"),
    ],
)
def test_odd_labels_are_noted(
    tmp_path: Path, column: str, labels: Sequence[str], said: str
) -> None:
    rows = [(f"{position}.png", label) for position, label in enumerate(labels)]
    (note,) = read_source(write_table(tmp_path / "t.csv", ("path", column), rows)).notes
    assert re.search(said, note)


def test_class_that_means_nothing_is_kept_and_noted_in_a_taxonomy_too(tmp_path: Path) -> None:
    rows = [("a.png", "ok", "none"), ("b.png", "bad", "dent"), ("c.png", "ok", "n.a.x")]
    table = write_table(tmp_path / "t.csv", ("path", "kind", "sort"), rows)
    listing = read_source(table, Columns(label=("kind", "sort")))
    assert [row.labels for row in listing.rows] == [("ok/none",), ("bad/dent",), ("ok/n.a.x",)]
    (note,) = listing.notes
    assert note.startswith("'ok/none' is taken for a class")


@pytest.mark.parametrize("labels", [["cat, small", "dog"], ["tench, Tinca tinca", "a;b", "x|y"]])
def test_commas_in_labels_are_no_tags_by_themselves(tmp_path: Path, labels: Sequence[str]) -> None:
    rows = [(f"{position}.png", label) for position, label in enumerate(labels)]
    assert read_source(write_table(tmp_path / "t.csv", ("path", "label"), rows)).notes == ()
