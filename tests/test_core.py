"""Label spaces, prediction tables, safe file writing and errors."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from taxon.core import errors
from taxon.core.errors import DataError, OutputError, nearest
from taxon.core.files import (
    atomic_file,
    atomic_folder,
    require_writable,
    write_json,
    write_text,
)
from taxon.core.fingerprint import sha256_bytes, sha256_file, sha256_json
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable

FRUIT = LabelSpace.taxonomy(
    [
        ("Fruit", "Mango", "Mango"),
        ("Fruit", "Mango", "Alphonso"),
        ("Fruit", "Apple"),
        ("Tool", "Saw"),
    ]
)


def test_flat_names_are_sorted_and_unique() -> None:
    assert LabelSpace.flat("multiclass", ["b", "a", "b", "C"]).names == ("C", "a", "b")


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a", "b"), ("a",)])
def test_label_space_refuses_names_out_of_order_or_repeated_or_too_few(
    names: tuple[str, ...],
) -> None:
    with pytest.raises(ValidationError):
        LabelSpace(task="multiclass", names=names)


def test_one_class_is_too_few_and_the_message_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"at least 2 classes.*folder"):
        LabelSpace.flat("multiclass", ["only"])


def test_one_tag_is_enough() -> None:
    assert LabelSpace.flat("multilabel", ["only"]).names == ("only",)


def test_no_tag_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no tag"):
        LabelSpace.flat("multilabel", [])


@pytest.mark.parametrize(
    "space",
    [
        LabelSpace.flat("multiclass", ["a", "b"]),
        LabelSpace.flat("multilabel", ["ä ö", "x|y"]),
        FRUIT,
        LabelSpace(task="multilabel", names=("a",), descriptions={"a": "the first"}),
    ],
)
def test_label_space_survives_json(space: LabelSpace) -> None:
    assert LabelSpace.model_validate_json(space.model_dump_json()) == space


def test_label_space_is_frozen() -> None:
    with pytest.raises(ValidationError):
        FRUIT.names = ("x", "y")  # type: ignore[misc]


def test_taxonomy_tells_a_leaf_from_a_parent_of_the_same_name() -> None:
    assert FRUIT.names == ("Fruit/Apple", "Fruit/Mango/Alphonso", "Fruit/Mango/Mango", "Tool/Saw")
    assert FRUIT.path("Fruit/Mango/Mango") == ("Fruit", "Fruit/Mango", "Fruit/Mango/Mango")
    assert FRUIT.is_taxonomy
    assert FRUIT.depth == 3


def test_taxonomy_refuses_a_class_that_is_a_parent_too() -> None:
    with pytest.raises(DataError, match=r"'Fruit/Mango' is both.*Fruit/Mango/other"):
        LabelSpace.taxonomy([("Fruit", "Mango"), ("Fruit", "Mango", "Alphonso"), ("Tool", "Saw")])


def test_flat_classes_have_one_level_and_themselves_as_path() -> None:
    flat = LabelSpace.flat("multiclass", ["a", "b"])
    assert not flat.is_taxonomy
    assert flat.depth == 1
    assert flat.path("a") == ("a",)


@pytest.mark.parametrize(
    ("level", "nodes", "positions"),
    [
        (0, ("Fruit", "Tool"), [0, 0, 0, 1]),
        (1, ("Fruit/Apple", "Fruit/Mango", "Tool/Saw"), [0, 1, 1, 2]),
        # A class that ends above the level stands for itself.
        (2, FRUIT.names, [0, 1, 2, 3]),
    ],
)
def test_level_maps_each_class_to_its_node(
    level: int, nodes: tuple[str, ...], positions: list[int]
) -> None:
    found = FRUIT.tree.levels[level]
    assert found.nodes == nodes
    assert found.node_of_class.tolist() == positions


def test_index_is_the_position_in_the_logits() -> None:
    assert [FRUIT.index(name) for name in FRUIT.names] == [0, 1, 2, 3]


def test_unknown_class_is_named_with_the_nearest_one() -> None:
    space = LabelSpace.flat("multiclass", ["scratch", "dent", "crack"])
    with pytest.raises(DataError, match=r"unknown class 'scrach'.*crack, dent.*'scratch'\?"):
        space.index("scrach")


def test_targets_of_one_class_a_picture_are_positions() -> None:
    space = LabelSpace.flat("multiclass", ["a", "b", "c"])
    targets = space.targets([("c",), ("a",), ("c",)])
    assert targets.dtype == np.int64
    assert targets.tolist() == [2, 0, 2]


def test_targets_of_several_classes_a_picture_are_a_matrix() -> None:
    space = LabelSpace.flat("multilabel", ["a", "b", "c"])
    targets = space.targets([("c", "a"), (), ("b",)])
    assert targets.dtype == np.int64
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_targets_name_an_unknown_class() -> None:
    with pytest.raises(DataError, match="unknown class 'd'"):
        LabelSpace.flat("multilabel", ["a", "b"]).targets([("a",), ("d", "b")])


@pytest.mark.parametrize("labels", [(), ("a", "b")])
def test_targets_of_one_class_a_picture_refuse_none_and_several(labels: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="exactly one class"):
        LabelSpace.flat("multiclass", ["a", "b"]).targets([("a",), labels])


def _table(rows: int = 3, columns: int = 2) -> PredictionTable:
    logits = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    return PredictionTable(
        ids=tuple(f"{row}.png" for row in range(rows)),
        names=tuple("abcdef"[:columns]),
        logits=logits,
        probabilities=logits / 10,
    )


@pytest.mark.parametrize("field", ["logits", "probabilities"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,), (2, 3)])
def test_prediction_table_refuses_arrays_of_another_shape(
    field: str, shape: tuple[int, ...]
) -> None:
    good = _table()
    arrays = {"logits": good.logits, "probabilities": good.probabilities}
    arrays[field] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=f"{field} has shape"):
        PredictionTable(ids=good.ids, names=good.names, **arrays)


def test_prediction_table_selects_rows_in_the_order_asked_for() -> None:
    chosen = _table().select([2, 0])
    assert len(chosen) == 2
    assert chosen.ids == ("2.png", "0.png")
    assert chosen.logits.tolist() == [[4, 5], [0, 1]]
    np.testing.assert_array_equal(chosen.probabilities, chosen.logits / 10)


def test_empty_prediction_table_is_allowed() -> None:
    assert len(_table(0)) == 0
    assert len(_table().select([])) == 0


def _everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_file_appears_with_its_content_and_makes_the_folders_above(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "table.csv"
    with atomic_file(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("1,2")
        assert not path.exists()
    assert path.read_text() == "1,2"
    assert _everything_in(path.parent) == ["table.csv"]


def test_atomic_file_keeps_the_old_content_when_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert _everything_in(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_atomic_file_names_the_path_and_the_reason_when_the_system_refuses(
    tmp_path: Path, code: int
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OutputError) as caught:
        fail()
    assert str(path) in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert path.read_text() == "old"
    assert _everything_in(tmp_path) == ["table.csv"]


def test_atomic_file_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "x.txt", "text")


def test_failed_rename_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_text(tmp_path / "x.txt", "text")
    assert _everything_in(tmp_path) == []


def _fill(folder: Path, name: str) -> None:
    (folder / name).write_text(name)


def test_atomic_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    with atomic_folder(path) as temporary:
        _fill(temporary, "new")
        assert not path.exists()
    assert _everything_in(path) == ["new"]
    assert _everything_in(path.parent) == ["one"]


def test_atomic_folder_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with atomic_folder(tmp_path / "run") as temporary:
        _fill(temporary, "new")
    assert _everything_in(tmp_path / "run") == ["new"]


def test_atomic_folder_refuses_one_that_is_not_empty_and_names_the_option(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    _fill(run, "old")
    with pytest.raises(OutputError, match=r"not empty.*--overwrite"), atomic_folder(run):
        pytest.fail("the block must not run")
    assert _everything_in(run) == ["old"]
    assert _everything_in(tmp_path) == ["run"]


@pytest.mark.parametrize("replace_if", [None, "old"])
def test_atomic_folder_refuses_a_file(tmp_path: Path, replace_if: str | None) -> None:
    _fill(tmp_path, "run")
    with (
        pytest.raises(OutputError, match="is a file"),
        atomic_folder(tmp_path / "run", replace_if=replace_if),
    ):
        pytest.fail("the block must not run")
    assert (tmp_path / "run").read_text() == "run"


def test_atomic_folder_overwrites_as_a_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    _fill(run, "old")
    with atomic_folder(run, replace_if="old") as temporary:
        _fill(temporary, "new")
        assert _everything_in(run) == ["old"]
    assert _everything_in(run) == ["new"]
    assert _everything_in(tmp_path) == ["run"]


def test_atomic_folder_replaces_only_a_folder_with_the_marker(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    _fill(run, "photos of mine")
    with (
        pytest.raises(OutputError, match="taxon did not write it"),
        atomic_folder(run, replace_if="bundle.json"),
    ):
        pytest.fail("the block must not run")
    assert _everything_in(run) == ["photos of mine"]


def test_atomic_file_writes_through_a_link(tmp_path: Path) -> None:
    _fill(tmp_path, "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_atomic_file_refuses_a_device() -> None:
    with pytest.raises(OutputError, match="device"):
        write_text(Path(os.devnull), "new")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(KeyError("stop"), KeyError), (OSError(errno.ENOSPC, "No space left"), OutputError)],
)
def test_atomic_folder_keeps_the_old_folder_when_the_block_raises(
    tmp_path: Path, raised: Exception, expected: type[Exception]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    _fill(run, "old")

    def write_half() -> None:
        with atomic_folder(run, replace_if="old") as temporary:
            _fill(temporary, "half")
            raise raised

    with pytest.raises(expected):
        write_half()
    assert _everything_in(run) == ["old"]
    assert _everything_in(tmp_path) == ["run"]


def test_require_writable_refuses_a_path_below_a_file(tmp_path: Path) -> None:
    _fill(tmp_path, "file")
    require_writable(tmp_path / "new" / "deep")
    with pytest.raises(OutputError, match="cannot write"):
        require_writable(tmp_path / "file" / "run")


def test_written_json_is_read_back_equal(tmp_path: Path) -> None:
    value = {"name": "Größe", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text("utf-8")
    assert json.loads(text) == value
    assert "Größe" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_json_number_and_keeps_the_old_file(
    tmp_path: Path, number: float
) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"deep": [number]})
    assert (tmp_path / "x.json").read_text() == "1\n"


def test_fingerprint_of_json_ignores_key_order_only() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": 1, "b": [1, 2]}) != sha256_json({"a": 1, "b": [2, 1]})


def test_fingerprint_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "x") == sha256_bytes(b"abc") == expected


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TaxonError, 1),
        (errors.InputError, 2),
        (errors.DataError, 2),
        (errors.ConfigError, 2),
        (errors.WeightsError, 2),
        (errors.BundleError, 2),
        (errors.OutputError, 2),
        (errors.MissingDependencyError, 2),
        (errors.CheckFailed, 3),
    ],
)
def test_each_error_has_its_exit_code(kind: type[errors.TaxonError], code: int) -> None:
    assert kind("x").exit_code == code
    assert isinstance(kind("x"), errors.TaxonError)


def test_image_error_names_source_and_reason() -> None:
    error = errors.ImageError("a/b.jpg", "the file is empty")
    assert str(error) == "a/b.jpg: the file is empty"
    assert (error.source, error.reason) == ("a/b.jpg", "the file is empty")
    assert error.exit_code == 2


def test_nearest_suggests_a_close_name_and_is_silent_else() -> None:
    assert nearest("epoch", ["epochs", "seed"]) == " Did you mean 'epochs'?"
    assert nearest("qqq", ["epochs", "seed"]) == ""
    assert nearest("x", []) == ""
