"""A parents file: the place of each class in a tree, for classes that lie side by side."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from commands import fails, taxon
from conftest import TINY_BACKBONE
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import write_folders, write_table

from taxon.bundle import read_bundle
from taxon.core.errors import DataError
from taxon.core.labels import LabelSpace
from taxon.data import Columns, load_manifest, read_manifest, read_source
from taxon.data.sources.parents import read_parents

TREE = {"apple": "fruit", "pear": "fruit", "fruit": "food", "leek": "food"}
ROWS = "class,parent\n" + "".join(f"{child},{parent}\n" for child, parent in TREE.items())
OBJECTS = [{"class": child, "parent": parent} for child, parent in TREE.items()]
NAMES = ("food/fruit/apple", "food/fruit/pear", "food/leek", "saw")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", {"apple": 2, "pear": 1, "leek": 1, "saw": 1})


def _file(folder: Path, text: str, name: str = "parents.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def _columns(folder: Path, text: str, name: str = "parents.csv") -> Columns:
    return Columns(parents=_file(folder, text, name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("parents.csv", ROWS),
        ("semicolons.csv", ROWS.replace(",", ";")),
        ("parents.tsv", ROWS.replace(",", "\t")),
        ("mapping.json", json.dumps(TREE)),
        ("rows.json", json.dumps(OBJECTS)),
        ("rows.jsonl", "\n".join(map(json.dumps, OBJECTS))),
        ("mapping.yaml", "apple: fruit\npear: fruit\nfruit: food\nleek: food\nsaw:\n"),
        ("rows.yml", "- {class: apple, parent: fruit}\n- {class: pear, parent: fruit}\n"
         "- {class: fruit, parent: food}\n- {class: leek, parent: food}\n"),
    ],
)  # fmt: skip
def test_every_form_of_the_file_draws_the_same_tree(
    photos: Path, tmp_path: Path, name: str, text: str
) -> None:
    manifest = load_manifest(photos, _columns(tmp_path, text, name))
    assert manifest.label_space == LabelSpace.taxonomy(path.split("/") for path in NAMES)
    assert manifest.counts() == dict(zip(NAMES, (2, 1, 1, 1), strict=True))
    assert "'saw' stands at the top" in " ".join(manifest.notes)


def test_classes_of_a_label_column(tmp_path: Path) -> None:
    rows = [("a.png", "apple"), ("b.png", "leek")]
    table = write_table(tmp_path / "labels.csv", ("path", "label"), rows)
    listing = read_source(table, _columns(tmp_path, ROWS))
    assert [row.labels for row in listing.rows] == [("food/fruit/apple",), ("food/leek",)]


def test_names_are_cleaned_as_those_of_the_data_are(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", {"pâté": 1, "leek": 1})
    text = "class,parent\n pa\u0302te\u0301 , food \nleek,food\n"  # accents of their own
    assert load_manifest(photos, _columns(tmp_path, text)).label_space.names == (
        "food/leek",
        "food/pâté",
    )


def test_yaml_words_and_numbers_are_names_as_typed(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", {"no": 1, "007": 1, "1.0": 1})
    text = "no: yes\n007: on\n1.0: on\n"
    names = load_manifest(photos, _columns(tmp_path, text, "p.yaml")).label_space.names
    assert names == ("on/007", "on/1.0", "yes/no")


def test_json_numbers_are_names(tmp_path: Path) -> None:
    path = _file(
        tmp_path, '[{"class": 7, "parent": "odd"}, {"class": "8", "parent": null}]', "p.json"
    )
    assert read_parents(path) == {"7": "odd", "8": ""}


def test_a_row_that_is_repeated_says_nothing_new(tmp_path: Path) -> None:
    assert read_parents(_file(tmp_path, ROWS + "apple,fruit\n")) == TREE


def test_a_file_for_more_classes_than_the_data_have(photos: Path, tmp_path: Path) -> None:
    text = ROWS + "golden,apple\nhammer,tools\nsaw,tools\n"
    manifest = load_manifest(photos, _columns(tmp_path, text))
    assert manifest.label_space.names == (*NAMES[:3], "tools/saw")
    assert "no picture has 'golden', 'hammer' of parents.csv" in " ".join(manifest.notes)


def test_a_misspelt_class_stands_at_the_top_and_is_pointed_out(
    photos: Path, tmp_path: Path
) -> None:
    notes = read_source(photos, _columns(tmp_path, ROWS.replace("leek", "leeek"))).notes
    assert "Did you mean 'leek'?" in " ".join(notes)
    assert any(note.startswith("'leek', 'saw' stand at the top") for note in notes)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        (ROWS + "food,fruit\n", "runs in a circle: 'fruit' below 'food' below 'fruit'"),
        (ROWS + "saw,saw\n", "runs in a circle: 'saw' below 'saw'"),
        (ROWS + "apple,tools\n", "row 6: 'apple' has two parents, 'fruit' and 'tools'"),
        (ROWS + "apple,\n", "'apple' has two parents, 'fruit' and none"),
        (ROWS + ",food\n", "row 6: the class is empty"),
        (ROWS + "saw,hand/tools\n", "'hand/tools' may hold no '/'"),
        (ROWS.replace("fruit", "leek"), "'leek' is a class of 1 picture and, in .*'leek-other'"),
        ("class,parent\ncat,animal\n", "names none of the 4 classes; it has 'animal', 'cat', the"),
        ("class,parent\n", "names none of the 4 classes; it has no name"),
        ("name,parent\napple,fruit\n", "has no column 'class'.*received: name, parent"),
        ("class,above\napple,fruit\n", "has no column 'parent'"),
    ],
)
def test_files_that_draw_no_tree_are_refused(
    photos: Path, tmp_path: Path, text: str, saying: str
) -> None:
    with pytest.raises(DataError, match=saying):
        read_source(photos, _columns(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text", "saying"),
    [
        ("p.yaml", "apple: [fruit, food]\n", "received a list"),
        ("p.yaml", "fruit: {apple: 1}\n", "received an object"),
        ("p.yaml", "apple: fruit\napple: food\n", "'apple' has two parents, 'fruit' and 'food'"),
        ("p.json", '{"apple": "fruit", "apple": "food"}', "'apple' has two parents"),
        ("p.json", '{"apple": true}', "names in quotes, received True"),
        ("p.json", '"apple"', "must map classes to parents"),
        ("p.json", "{", "is not JSON"),
        ("p.yaml", "a: [", "is not valid YAML"),
        ("p.yaml", "&a [*a]", "nests too deeply|must map"),
        ("p.yaml", "", "must map classes to parents"),
        ("p.txt", ROWS, "a parents file is one of .csv"),
    ],
)
def test_forms_that_are_none_are_refused(tmp_path: Path, name: str, text: str, saying: str) -> None:
    with pytest.raises(DataError, match=saying):
        read_parents(_file(tmp_path, text, name))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("p.csv", "p.json", "p.yaml"):
        with pytest.raises(DataError, match=r"cannot read .*No such file"):
            read_parents(tmp_path / name)


def test_data_that_are_not_flat_are_refused(tmp_path: Path) -> None:
    nested = write_folders(tmp_path / "nested", {"food/apple": 1, "tools/saw": 1})
    with pytest.raises(DataError, match="a taxonomy of their own"):
        read_source(nested, _columns(tmp_path, ROWS))
    tags = write_table(tmp_path / "t.csv", ("path", "tags"), [("a.png", "apple|leek")])
    with pytest.raises(DataError, match="several labels a picture"):
        read_source(tags, _columns(tmp_path, ROWS))
    slashed = write_table(tmp_path / "s.csv", ("path", "label"), [("c.png", "a/b"), ("d.png", "c")])
    with pytest.raises(DataError, match=r"the class 'a/b' holds a '/'"):
        read_source(slashed, _columns(tmp_path, ROWS))


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh"), max_size=8))
@settings(max_examples=100, deadline=None)
def test_circles_are_refused_and_all_else_is_a_tree(
    tmp_path_factory: pytest.TempPathFactory, parents: Mapping[str, str]
) -> None:
    path = _file(tmp_path_factory.getbasetemp(), json.dumps(parents), "any.json")

    def ends(node: str) -> bool:
        for _ in range(9):
            node = parents.get(node, "")
        return not node

    if all(map(ends, parents)):
        assert read_parents(path) == parents
    else:
        with pytest.raises(DataError, match="runs in a circle"):
            read_parents(path)


@pytest.mark.usefixtures("without_export")
def test_from_the_command_line_to_an_answer(defects: Path, tmp_path: Path) -> None:
    """Audit, split, train, evaluate, predict: flat folders, one parents file."""
    classes = sorted(folder.name for folder in defects.iterdir() if folder.is_dir())
    text = "".join(f"{name}: {'marks' if n % 2 else 'damage'}\n" for n, name in enumerate(classes))
    parents = _file(tmp_path, text, "parents.yaml")
    given_parents = ("--parents", parents)
    audit = tmp_path / "audit"
    done = taxon("audit", defects, *given_parents, "--weights", "none", "--out", audit,
                 "--fix", tmp_path / "plan.yaml")  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The commands that follow read the data in the same way.
    following = [line for line in done.stdout.splitlines() if "taxon split" in line]
    assert following and "--parents" in shlex.split(following[0])
    manifest = tmp_path / "m.parquet"
    done = taxon("split", defects, *given_parents, "--out", manifest)
    assert done.returncode == 0, done.stderr
    space = read_manifest(manifest).label_space
    assert space.is_taxonomy and {name.split("/")[1] for name in space.names} == set(classes)
    fails(2, "train", manifest, *given_parents, saying="have a taxonomy of their own")

    run = tmp_path / "run"
    done = taxon(
        "train", defects, *given_parents, "--out", run, "--model", TINY_BACKBONE,
        "--weights", "none", "--epochs", "1", "--device", "cpu",
        "--set", "preprocessing.size=32", "--set", "loss.taxonomy=levels",
        "--set", "decision.taxonomy_rule=least-risk",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_bundle(run).spec.label_space == space
    done = taxon("evaluate", run)
    assert done.returncode == 0, done.stderr
    assert "Height of mistakes" in done.stdout and "Top-1 at level 0 (2 classes)" in done.stdout
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert metrics["taxonomy"]["height"] == 2 and metrics["taxonomy"]["rule"] == "least-risk"
    done = taxon("evaluate", run, defects, *given_parents, "--split", "all")
    assert done.returncode == 0, done.stderr
    picture = next((defects / classes[0]).iterdir())
    done = taxon("predict", run, picture, "--format", "jsonl")
    assert json.loads(done.stdout)["label"] in space.names


def test_a_flat_manifest_keeps_its_classes(photos: Path, tmp_path: Path) -> None:
    from taxon.data import write_manifest

    path = tmp_path / "m.parquet"
    write_manifest(load_manifest(photos), path)
    with pytest.raises(DataError, match="the classes of a manifest are fixed"):
        read_source(path, _columns(tmp_path, ROWS))
