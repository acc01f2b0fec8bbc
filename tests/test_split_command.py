"""`taxon split`: from pictures, a plan and an older manifest to a manifest that trains."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pictures import encode, pattern, write_folders, write_picture, write_table
from PIL import Image
from test_cli import fails
from test_cli import taxon as command

import taxon
from taxon.core.errors import ConfigError, DataError, OutputError
from taxon.core.fingerprint import sha256_bytes
from taxon.data import Columns, Manifest, load_manifest, read_manifest
from taxon.data.plan import Drop, Plan, Regroup, Relabel
from taxon.data.plan_file import write_plan

PLAN = """\
drop:
- id: good/00.png
  reason: blurred
relabel:
- {id: good/01.png, was: [good], labels: [bad]}
regroup:
- {group: one part, ids: [good/02.png, bad/00.png]}
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 pictures of two classes, and one that cannot be read."""
    root = write_folders(tmp_path / "photos", {"good": 18, "bad": 12})
    (root / "good" / "broken.png").write_bytes(encode(pattern(12, 10))[:50])
    return root


def _contents(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): sha256_bytes(path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _parts(manifest: Manifest) -> dict[str, str | None]:
    return {record.id: record.split for record in manifest.records}


def test_path_of_a_plan(photos: Path, tmp_path: Path) -> None:
    before = _contents(photos)
    plan, out = tmp_path / "plan.yaml", tmp_path / "manifest.parquet"
    plan.write_text(PLAN, encoding="utf-8")
    done = command("split", photos, "--plan", plan, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["pictures", "train", "validation", "test"]
    sizes = dict(zip(rows[0][1:], map(int, rows[1][1:]), strict=True))
    assert [rows[2][0], str(sum(map(int, rows[2][1:])))] == ["bad", "13"]
    assert "skipped: 2 (1 plan, 1 " in done.stdout
    assert (
        "note: the plan was applied: 1 picture dropped, 1 picture relabelled, 2 pictures kept "
        "together in 1 group" in done.stdout
    )
    assert "good/00.png: plan: blurred" in done.stdout and "good/broken.png: " in done.stdout
    assert done.stdout.rstrip().endswith(f"taxon train {out}")

    manifest = load_manifest(out)
    assert manifest.split_counts() == sizes and len(manifest) == 29
    records = {record.id: record for record in manifest.records}
    assert records["good/01.png"].labels == ("bad",)
    assert records["good/02.png"].group == records["bad/00.png"].group == "one part"
    assert records["good/02.png"].split == records["bad/00.png"].split
    assert _contents(photos) == before

    fails(2, "split", photos, "--out", out, saying="add --overwrite")
    again = command("split", photos, "--plan", plan, "--out", out, "--overwrite")
    assert again.returncode == 0 and load_manifest(out) == manifest


def test_folds_and_an_older_manifest_by_the_command(photos: Path, tmp_path: Path) -> None:
    done = command("split", photos, "--folds", "3", "--out", tmp_path / "folds")
    assert done.returncode == 0, done.stderr
    assert "fold 3" in done.stdout and "taxon train " in done.stdout
    tested = [
        record.id
        for number in (1, 2, 3)
        for record in load_manifest(tmp_path / f"folds/fold-{number}.parquet").part("test").records
    ]
    assert len(tested) == 30 and len(set(tested)) == 30

    write_folders(photos, {"new": 9}, first_seed=500)
    old = tmp_path / "folds" / "fold-1.parquet"
    out = tmp_path / "grown.parquet"
    done = command("split", photos, "--previous", old, "--out", out)
    assert done.returncode == 0 and (
        "note: 30 of 39 pictures keep their part of the old split, 9 are new\n" in done.stdout
    )
    grown = _parts(read_manifest(out))
    assert _parts(read_manifest(old)).items() <= grown.items() and len(grown) == 39


def test_refusals_by_the_command(photos: Path, tmp_path: Path) -> None:
    fails(2, "split", photos, "--out", tmp_path / "a.txt", saying="must end in .parquet or .csv")
    write_picture(photos / "rare" / "one.png", 900)
    out = tmp_path / "m.parquet"
    fails(2, "split", photos, "--out", out, saying="'rare' has 1 picture and cannot be split")
    assert not out.exists()


def test_split_of_a_model_is_continued(run: Path, defects: Path, tmp_path: Path) -> None:
    result = taxon.split(defects, previous=run, out=tmp_path / "m.parquet")
    assert _parts(result.manifests[0]) == _parts(read_manifest(run / "manifest.parquet"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with a split of its own, and a group on both sides of it."""
    rows = [
        (f"{row:02d}.png", "ab"[row % 2], "test" if row >= 24 else "train", str(row % 12))
        for row in range(30)
    ]
    return write_table(tmp_path / "data" / "table.csv", ("path", "label", "split", "group"), rows)


def test_split_of_the_data_is_kept_and_what_straddles_is_said(table: Path, tmp_path: Path) -> None:
    result = taxon.split(table, out=tmp_path / "m.parquet", validation=0)
    assert _parts(result.manifests[0]) == _parts(load_manifest(table))
    assert any("6 groups" in note and "--resplit" in note for note in result.notes)
    assert any("shares matter only" in note for note in result.notes)


def test_split_of_the_data_is_ignored_on_request(table: Path, tmp_path: Path) -> None:
    manifest = taxon.split(table, out=tmp_path / "m.parquet", resplit=True, seed=1).manifests[0]
    sides: dict[str | None, set[str | None]] = {}
    for record in manifest.records:
        sides.setdefault(record.group, set()).add(record.split)
    assert all(len(found) == 1 for found in sides.values())
    assert set(manifest.split_counts()) == {"train", "validation", "test"}


def test_plan_whose_groups_the_given_split_tears_apart_is_refused(
    table: Path, tmp_path: Path
) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "m.parquet"
    torn = Regroup(group="x", ids=("00.png", "29.png"))
    write_plan(Plan(regroup=(torn,)), plan)
    with pytest.raises(DataError, match=r"00\.png in train and 29\.png in test.*--resplit"):
        taxon.split(table, out=out, plan=plan, validation=0)
    parts = _parts(taxon.split(table, out=out, plan=plan, resplit=True).manifests[0])
    assert parts["00.png"] == parts["29.png"]
    # A group within one part, or one that nobody accepted, leaves the given split as it is.
    inside = Regroup(group="y", ids=("00.png", "01.png"))
    write_plan(Plan(regroup=(torn.model_copy(update={"accept": False}), inside)), plan)
    kept = taxon.split(table, out=out, plan=plan, validation=0, overwrite=True).manifests[0]
    assert _parts(kept) == _parts(load_manifest(table))


def test_older_split_may_be_a_csv_table(photos: Path, tmp_path: Path) -> None:
    first = taxon.split(photos, out=tmp_path / "old.csv", seed=3).manifests[0]
    write_picture(photos / "good" / "another.png", 901)
    second = taxon.split(photos, out=tmp_path / "new.parquet", previous=tmp_path / "old.csv")
    parts = _parts(second.manifests[0])
    assert {name: parts[name] for name in _parts(first)} == _parts(first)


def test_folder_of_folds_is_no_older_split(photos: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds"
    taxon.split(photos, out=folds, folds=3)
    shutil.copy(folds / "fold-2.parquet", folds / "fold-10.parquet")
    said = (
        f"{folds} is a folder of manifests ('fold-1.parquet', 'fold-2.parquet', 'fold-3.parquet', "
        "'fold-10.parquet'), and one split alone can be kept; name one of them, as --previous "
        f"{folds / 'fold-1.parquet'}"
    )
    out = tmp_path / "m.parquet"
    fails(2, "split", photos, "--previous", folds, "--out", out, saying=said)
    assert not out.exists()


def _damaged(photos: Path, root: Path, metadata: dict[bytes, bytes]) -> Path:
    """A manifest with other metadata; none at all where they are empty."""
    path = taxon.split(photos, out=root / "damaged.parquet").paths[0]
    table = pq.read_table(path)
    known = {**table.schema.metadata, **metadata} if metadata else None
    pq.write_table(table.replace_schema_metadata(known), path)
    return path


def _of_other_pictures(root: Path) -> Path:
    other = write_folders(root / "other", {"good": 12, "bad": 12}, first_seed=100)
    return taxon.split(other, out=root / "other.parquet").paths[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda photos, root: root / "absent", r"^there is no such file: .*absent; "),
        (lambda photos, root: photos / "good/00.png/x", r"^there is no such file: .*x; "),
        (lambda photos, root: photos, r"photos is a folder, and not that of a model; "),
        (lambda photos, root: photos / "good/00.png", r"00.png is not a manifest that taxon wrote"),
        (lambda photos, root: _damaged(photos, root, {}), "is not a manifest that taxon wrote; "),
        (
            lambda photos, root: _damaged(photos, root, {b"taxon.labels": b"{}"}),
            r"^the manifest .*damaged.parquet is damaged and cannot be read; ",
        ),
    ],
)
def test_what_is_no_older_manifest_is_said_in_one_line(
    photos: Path, tmp_path: Path, make: Callable[[Path, Path], Path], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        taxon.split(photos, out=tmp_path / "m.parquet", previous=make(photos, tmp_path))
    assert str(caught.value).endswith(
        "; --previous takes the manifest of an older split (`taxon split DATA --out "
        "manifest.parquet` writes one) or a model folder"
    )


def test_older_manifest_that_has_none_of_the_pictures_is_refused(
    photos: Path, tmp_path: Path
) -> None:
    out, old = tmp_path / "m.parquet", _of_other_pictures(tmp_path)
    fails(2, "split", photos, "--previous", old, "--out", out, saying="0 of 30 pictures are in")
    assert not out.exists()


def test_older_table_whose_pictures_are_gone_is_refused(photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))
    old = taxon.split(copy, out=tmp_path / "old.csv").paths[0]
    shutil.rmtree(copy)
    with pytest.raises(DataError, match=r"name a manifest in Parquet, or leave --previous out$"):
        taxon.split(photos, out=tmp_path / "m.parquet", previous=old)


def test_pictures_of_a_manifest_that_are_gone_are_looked_for_by_the_user(
    photos: Path, tmp_path: Path
) -> None:
    first = taxon.split(photos, out=tmp_path / "first.parquet").paths[0]
    moved = photos.rename(tmp_path / "moved")
    out = tmp_path / "m.parquet"
    said = "If they have moved, name the folder that they are in: --image-root FOLDER"
    fails(2, "split", first, "--out", out, saying=said)
    taxon.split(first, out=out, columns=Columns(image_root=moved))
    assert _parts(read_manifest(out)) == _parts(read_manifest(first))


def test_manifest_does_not_become_the_table_of_its_own_pictures(photos: Path) -> None:
    for name in ("labels.parquet", "labels.csv"):
        with pytest.raises(OutputError, match="would be read as the table"):
            taxon.split(photos, out=photos / name)
        assert not (photos / name).exists()
    taxon.split(photos, out=photos / "manifest.parquet")
    assert len(load_manifest(photos)) == 30


def test_file_names_do_not_break_the_lines_of_a_terminal(photos: Path, tmp_path: Path) -> None:
    (photos / "good" / "two\nlines.png").write_bytes(b"no picture")
    done = command("split", photos, "--out", tmp_path / "m.parquet")
    assert "good/two\\nlines.png: " in done.stdout


def test_files_that_end_early_are_filled_on_request(photos: Path, tmp_path: Path) -> None:
    whole = photos / "good" / "whole.jpg"
    Image.fromarray(pattern(64, 64, 5)).save(whole)
    (photos / "good" / "half.jpg").write_bytes(whole.read_bytes()[:-200])
    args = ("split", photos, "--out", tmp_path / "m.parquet", "--overwrite")
    assert "half.jpg" in command(*args).stdout
    filled = command(*args, "--truncated", "fill")
    assert filled.returncode == 0 and "half.jpg" not in filled.stdout
    fails(2, *args, "--truncated", "no", saying="refuse or fill")
    small = command(*args, "--max-pixels", "100")
    assert small.returncode == 2 and "pixels" in small.stderr


def test_written_manifest_holds_the_notes_and_what_was_skipped(
    photos: Path, tmp_path: Path
) -> None:
    result = taxon.split(photos, out=tmp_path / "m.parquet")
    read = read_manifest(result.paths[0])
    assert read.notes == result.notes and read.skipped == result.skipped
    assert [row.id for row in read.skipped] == ["good/broken.png"]


def test_csv_is_read_back_as_the_same_split(tags: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tags, tmp_path / "tags"))
    result = taxon.split(data, out=data / "split.csv", seed=2)
    back = load_manifest(data / "split.csv")
    written = result.manifests[0]
    assert [(record.id, record.labels, record.split) for record in back.records] == [
        (record.id, record.labels, record.split) for record in written.records
    ]
    elsewhere = taxon.split(data, out=tmp_path / "split.csv", seed=2).paths[0]
    with elsewhere.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "labels", "split", "group", "weight"]
    # Below the table's folder, so relative.
    assert {row["path"] for row in rows} == {f"tags/{record.id}" for record in written.records}


def test_relabelled_class_that_is_gone_is_said(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", {"a": 6, "b": 6, "c": 2})
    plan = tmp_path / "plan.yaml"
    steps = (
        Relabel(id="c/00.png", was=("c",), labels=("a",)),
        Relabel(id="c/01.png", was=("c",), labels=("b",)),
    )
    write_plan(Plan(relabel=steps), plan)
    result = taxon.split(photos, out=tmp_path / "m.parquet", plan=plan)
    assert result.counts().keys() == {"train", "validation", "test"}
    assert read_manifest(result.paths[0]).label_space.names == ("a", "b")
    assert "the plan leaves no picture of 'c': no class is made of it" in result.notes


def test_near_duplicates_of_files_stay_together(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", {"a": 10, "b": 10})
    for number in range(10):
        # Another file, the same picture.
        brighter = pattern(96, 80, 50 + number) // 2
        write = photos / "a" / f"pair-{number}"
        write.with_suffix(".png").write_bytes(encode(brighter))
        write.with_suffix(".jpg").write_bytes(encode(brighter, "JPEG", quality=95))
    for seed in range(3):
        result = taxon.split(photos, out=tmp_path / f"{seed}.parquet", seed=seed)
        parts = _parts(result.manifests[0])
        assert all(
            parts[f"a/pair-{number}.png"] == parts[f"a/pair-{number}.jpg"] for number in range(10)
        )
    assert any("near-duplicates" in note and "kept together" in note for note in result.notes)


Arguments = dict[str, object]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"out": "m.txt"}, ConfigError, "must end in .parquet or .csv"),
        ({"out": "m.parquet", "folds": 3}, ConfigError, "with folds --out is a folder"),
        ({"out": "folds", "folds": 1}, ConfigError, "2 or more"),
        ({"out": "folds", "folds": 3, "test": 0.2}, ConfigError, "--folds or --test-share"),
        ({"out": "folds", "folds": 3, "previous": "x"}, ConfigError, "--folds or --previous"),
        ({"out": "m.csv", "test": 1.5}, ConfigError, "from 0 to below 1, received 1.5"),
        ({"out": "m.csv", "test": float("nan")}, ConfigError, "from 0 to below 1, received nan"),
        ({"out": "m.csv", "test": 0.5, "validation": 0.5}, ConfigError, "at most 0.9"),
        ({"out": "m.csv", "previous": "absent.parquet"}, DataError, "no such file: absent.parquet"),
        ({"out": "m.csv", "seed": -1}, ConfigError, "from 0 to 4294967295, received -1"),
        ({"out": "m.csv", "seed": 2**32}, ConfigError, "from 0 to 4294967295, received 4294967296"),
        ({"out": "m.csv", "plan": "absent.yaml"}, DataError, "absent.yaml"),
        ({"out": "photos.parquet"}, OutputError, "is a folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Arguments,
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos.parquet").mkdir()
    before = _contents(tmp_path)
    with pytest.raises(error, match=said):
        taxon.split(photos, **arguments)  # type: ignore[arg-type]
    assert _contents(tmp_path) == before


def test_folds_need_data_without_a_split(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add --resplit"):
        taxon.split(table, out=tmp_path / "folds", folds=3)
    assert len(taxon.split(table, out=tmp_path / "folds", folds=3, resplit=True).paths) == 3


def _foreign_table(root: Path) -> Path:
    (root / "mine.csv").write_text("path,label\n", encoding="utf-8")
    return root / "mine.csv"


def _foreign_parquet(root: Path) -> Path:
    (root / "mine.parquet").write_bytes(b"PAR1")
    return root / "mine.parquet"


def _data_themselves(root: Path) -> Path:
    (root / "labels.csv").write_text(
        "path,label,split,group,weight\n"
        + "".join(
            f"{name}/{row:02d}.png,{name},,,1\n" for name in ("good", "bad") for row in range(12)
        ),
        encoding="utf-8",
    )
    return root / "labels.csv"


@pytest.mark.parametrize("make", [_foreign_table, _foreign_parquet, _data_themselves])
def test_nothing_foreign_is_overwritten(photos: Path, make: Callable[[Path], Path]) -> None:
    out = make(photos)
    before = _contents(photos)
    with pytest.raises(OutputError):
        taxon.split(photos, out=out, overwrite=True)
    assert _contents(photos) == before


def test_manifest_of_a_model_is_not_overwritten(
    run: Path, defects: Path, copy_of: Callable[[Path], Path]
) -> None:
    model = copy_of(run)
    before = _contents(model)
    with pytest.raises(OutputError, match="belongs to a model"):
        taxon.split(defects, out=model / "manifest.parquet", overwrite=True)
    assert _contents(model) == before


def test_folder_of_folds_is_replaced_unless_it_holds_more(photos: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds"
    taxon.split(photos, out=folds, folds=4)
    with pytest.raises(OutputError, match="--overwrite"):
        taxon.split(photos, out=folds, folds=3)
    taxon.split(photos, out=folds, folds=3, overwrite=True)
    names = sorted(path.name for path in folds.iterdir())
    assert names == ["fold-1.parquet", "fold-2.parquet", "fold-3.parquet"]
    (folds / "run-1").mkdir()
    with pytest.raises(OutputError, match="run-1 in it was not written by taxon"):
        taxon.split(photos, out=folds, folds=3, overwrite=True)
    with pytest.raises(OutputError, match="would replace the data"):
        taxon.split(folds / "fold-1.parquet", out=folds / "fold-1.parquet", overwrite=True)


def test_tag_with_the_separator_is_refused_in_a_csv_table(photos: Path, tmp_path: Path) -> None:
    from taxon.core.labels import LabelSpace
    from taxon.data.manifest_table import write_manifest_table

    manifest = load_manifest(photos)
    records = tuple(replace(record, labels=("a|b",)) for record in manifest.records)
    odd = replace(manifest, records=records, label_space=LabelSpace.flat("multilabel", ["a|b"]))
    with pytest.raises(DataError, match="write Parquet"):
        write_manifest_table(odd, tmp_path / "m.csv")


def test_dropped_pictures_stay_dropped_when_the_manifest_is_split_anew(
    photos: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    write_plan(Plan(drop=(Drop(id="good/00.png"),)), plan)
    first = taxon.split(photos, out=tmp_path / "1.parquet", plan=plan).paths[0]
    second = taxon.split(first, out=tmp_path / "2.parquet", resplit=True, seed=5)
    assert len(second.manifests[0]) == 29
    assert "good/00.png" in {row.id for row in second.skipped}


def test_plan_without_a_step_is_said(photos: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("# nothing left\n", encoding="utf-8")
    result = taxon.split(photos, out=tmp_path / "m.parquet", plan=plan)
    assert "the plan has no step, so it changed nothing" in result.notes


def test_class_that_a_plan_made_too_small_says_that_the_plan_dropped_pictures(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "good" / "broken.png").unlink()
    plan = tmp_path / "plan.yaml"
    write_plan(Plan(drop=tuple(Drop(id=f"bad/{row:02d}.png") for row in range(11))), plan)
    said = r"11 pictures were dropped by the plan \(say bad/00\.png\)$"
    with pytest.raises(DataError, match=said) as caught:
        taxon.split(photos, out=tmp_path / "m.parquet", plan=plan)
    assert "could not be used" not in str(caught.value)
    (photos / "bad" / "broken.png").write_bytes(b"no picture")
    said = r"1 picture or row could not be used \(say bad/broken.png: .*\)\. " + said
    with pytest.raises(DataError, match=said):
        taxon.split(photos, out=tmp_path / "m.parquet", plan=plan)
