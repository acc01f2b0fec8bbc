"""Many pictures: sources, parts, and jobs that are stopped and go on; the local engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest
from batches import (
    parts_of,
    paths_of,
    require_same_parts,
    rows_of,
    wait_for,
    write_many,
    write_shard,
)
from commands import require_failure, taxon, taxon_process
from conftest import Once
from hypothesis import given
from hypothesis import strategies as st
from pictures import encode, pattern

import taxon as library
from taxon.api.prediction import predict
from taxon.batch import processes
from taxon.batch.compute import Expected
from taxon.batch.items import Item
from taxon.batch.listing import list_items
from taxon.batch.plan import Plan, pieces_of, write_plan
from taxon.core.errors import DataError, InputError, LostProcessError, OutputError
from taxon.inference import load_embedder

MANY, BROKEN = 150, (7, 64)


@pytest.fixture(scope="module")
def many(once: Once) -> Path:
    return once.made("many", lambda folder: write_many(folder, MANY, broken=BROKEN))


@pytest.fixture(scope="module")
def reference(run: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that ran through, in one process."""
    out = tmp_path_factory.mktemp("reference") / "out"
    job(run, many, out, processes=1)
    return out


def job(run: Path, source: Path, out: Path, **more: object) -> library.BatchResult:
    options = {"part_size": 16, "batch_size": 4, **more}
    return library.batch_predict(run, source, out, **options)  # type: ignore[arg-type]


class TestSources:
    def names(self, *sources: str | Path, **more: str) -> list[str]:
        return [item.name for item in list_items([str(each) for each in sources], **more)]

    def test_a_folder_its_sub_folders_and_a_pattern_are_listed_in_order(
        self, tmp_path: Path
    ) -> None:
        for name in ("b/2.jpg", "b/1.jpg", "a/3.jpg", ".hidden/4.jpg", "notes.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        expected = [str(tmp_path / name) for name in ("a/3.jpg", "b/1.jpg", "b/2.jpg")]
        assert self.names(tmp_path) == expected
        assert self.names(f"{tmp_path}/**/*.jpg") == expected
        assert self.names(f"{tmp_path}/?") == expected

    def test_tables_name_pictures_beside_them_or_below_a_base(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("path,label\na.jpg,x\nsub/b.jpg,y\n")
        pq.write_table(pa.table({"file_name": ["a.jpg", "sub/b.jpg"]}), tmp_path / "t.parquet")
        pq.write_table(pa.table({"picture": ["a.jpg", "sub/b.jpg"]}), tmp_path / "u.parquet")
        expected = [str(tmp_path / "a.jpg"), str(tmp_path / "sub/b.jpg")]
        assert self.names(tmp_path / "t.csv") == expected
        assert self.names(tmp_path / "t.parquet") == expected
        assert self.names(tmp_path / "u.parquet", path_column="picture") == expected
        assert self.names(tmp_path / "t.csv", base="s3://shop") == [
            "s3://shop/a.jpg",
            "s3://shop/sub/b.jpg",
        ]
        with pytest.raises(DataError, match="--path-column"):
            self.names(tmp_path / "u.parquet")

    @pytest.mark.parametrize(
        ("cell", "base"),
        [
            ("http://inside.example/secret.jpg", None),
            ("s3://other/a.jpg", "s3://shop"),
            ("s3://shopping/a.jpg", "s3://shop"),
            ("s3://shop/../other/a.jpg", "s3://shop"),
            ("../a.jpg", "s3://shop"),
            ("%2e%2e/a.jpg", "s3://shop"),
            ("//host/share/a.jpg", None),
            ("\\\\host\\share\\a.jpg", None),
            ("/etc/passwd", "s3://shop"),
        ],
    )
    def test_a_table_does_not_decide_what_is_asked_for(
        self, tmp_path: Path, cell: str, base: str | None
    ) -> None:
        (tmp_path / "t.csv").write_text(f"path\n{cell}\n")
        with pytest.raises(DataError, match=r"picture 1"):
            list(list_items([str(tmp_path / "t.csv")], base=base))

    def test_shards_of_webdataset_are_read_where_their_pictures_lie(self, tmp_path: Path) -> None:
        pictures = {f"{number}.png": encode(pattern(9, 8, number)) for number in range(3)}
        for number in (8, 9, 10):
            write_shard(tmp_path / f"s-{number:02d}.tar", pictures)
        items = list(list_items([f"{tmp_path}/s-{{08..10}}.tar"]))
        assert len(items) == 9
        assert items[4].name == f"tar://1.png::{tmp_path}/s-09.tar"
        assert [item.read() for item in items] == [*pictures.values()] * 3
        assert list(list_items([str(tmp_path)])) == items
        assert list(list_items([f"file://{tmp_path}"])) == [
            replace(item, archive=f"file://{item.archive}") for item in items
        ]
        (tmp_path / "a.jpg").write_bytes(b"x")  # beside pictures an archive is something else
        assert self.names(tmp_path) == [str(tmp_path / "a.jpg")]

    def test_a_damaged_shard_is_named_before_anything_is_computed(self, tmp_path: Path) -> None:
        shard = write_shard(tmp_path / "s.tar", {"1.png": encode(pattern(90, 80, 1))})
        shard.write_bytes(shard.read_bytes()[:700])
        with pytest.raises(DataError, match=r"s\.tar"):
            list(list_items([str(shard)]))
        three = {f"{number}.png": encode(pattern(90, 80, number)) for number in range(3)}
        whole = write_shard(tmp_path / "three.tar", three).read_bytes()
        second = next(
            item for item in list_items([str(tmp_path / "three.tar")]) if item.offset > 600
        )
        for name, data in {
            "header.tar": whole[: second.offset - 400] + b"x" * 8 + whole[second.offset - 392 :],
            "cut-header.tar": whole[: second.offset - 300],
            "cut-between.tar": whole[: second.offset - 512],
            "joined.tar": whole + whole,
        }.items():
            (tmp_path / name).write_bytes(data)
            with pytest.raises(DataError, match=name):
                list(list_items([str(tmp_path / name)]))
        compressed = tmp_path / "z.tar"
        compressed.write_bytes(b"\x1f\x8b" + b"0" * 1000)
        with pytest.raises(DataError, match="compressed"):
            list(list_items([str(compressed)]))

    @pytest.mark.parametrize(
        ("name", "saying"),
        [
            ("", "empty name"),
            ("{tmp}/*.jpg", "nothing matches"),
            ("{tmp}", "no pictures"),
            ("s-{09..01}.tar", "smaller one first"),
            ("nowhere://a/b.jpg", "nowhere"),
        ],
    )
    def test_sources_that_hold_nothing_are_refused(
        self, tmp_path: Path, name: str, saying: str
    ) -> None:
        with pytest.raises(InputError, match=saying):
            list(list_items([name.replace("{tmp}", str(tmp_path))]))

    @pytest.fixture
    def server(self, many: Path, tmp_path: Path) -> Iterator[str]:
        """A server of files; what lies elsewhere, for fsspec."""
        shutil.copytree(many, tmp_path / "photos")
        write_shard(tmp_path / "s.tar", {"1.jpg": (many / "00001.jpg").read_bytes()})
        handler = partial(QuietHandler, directory=str(tmp_path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    def test_urls_give_what_files_give(
        self, run: Path, many: Path, server: str, tmp_path: Path
    ) -> None:
        (tmp_path / "t.csv").write_text("path\n00001.jpg\n00007.jpg\nabsent.jpg\n")
        table = predict(run, tmp_path / "t.csv", base=f"{server}/photos")
        found = [*table, *predict(run, f"file://{tmp_path}/s.tar")]
        expected = [*predict(run, [many / "00001.jpg", many / "00007.jpg"])]
        assert [each.path for each in found] == [
            f"{server}/photos/00001.jpg",
            f"{server}/photos/00007.jpg",
            f"{server}/photos/absent.jpg",
            f"tar://1.jpg::file://{tmp_path}/s.tar",
        ]
        assert found[0].top == expected[0].top == found[3].top
        assert found[1].error == expected[1].error is not None
        assert found[2].error == "no such file"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


class TestPlan:
    @given(
        length=st.integers(1, 60),
        part=st.integers(1, 25),
        piece=st.integers(1, 25),
        seed=st.integers(0, 9),
    )
    def test_every_picture_stands_in_it_once(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        length: int,
        part: int,
        piece: int,
        seed: int,
    ) -> None:
        items = [
            Item(f"{seed}-{number}.jpg", *(("s.tar", number, 5) if number % 3 else ()))
            for number in range(length)
        ]
        file = tmp_path_factory.mktemp("plan") / "plan.parquet"
        assert write_plan(items, file, part) == length
        plan = Plan(file)
        read = [plan.read(number) for number in range(plan.parts)]
        assert [item for items in read for item in items] == items
        assert [len(items) for items in read] == list(map(plan.part_length, range(plan.parts)))
        for found in read:
            assert [item for cut in pieces_of(len(found), piece) for item in found[cut]] == found
        plan.close()

    def test_names_that_are_no_utf8_survive(self, tmp_path: Path) -> None:
        items = [Item(os.fsdecode(b"/a/caf\xe9.jpg"))]
        write_plan(items, tmp_path / "plan.parquet", 5)
        assert Plan(tmp_path / "plan.parquet").read(0) == items
        assert items[0].name == "/a/caf\\xe9.jpg"


class TestJob:
    def test_rows_are_what_predict_says_and_all_is_counted(
        self, run: Path, many: Path, reference: Path
    ) -> None:
        expected = [each.model_dump(mode="json") for each in predict(run, many)]
        rows = rows_of(reference).to_pylist()
        assert [row["path"] for row in rows] == [row["path"] for row in expected]
        assert [row["label"] for row in rows] == [row["label"] for row in expected]
        for row, other in zip(rows, expected, strict=True):
            assert row["error"] == other["error"]
            assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-5)
        assert [number for number, row in enumerate(rows) if row["error"]] == list(BROKEN)
        summary = json.loads((reference / "_summary.json").read_text())
        assert (summary["pictures"], summary["errors"], summary["parts"]) == (MANY, 2, 10)

    def test_several_processes_write_the_same_bytes(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        done: list[tuple[int, int]] = []
        told: list[str] = []
        result = job(
            run,
            many,
            tmp_path / "out",
            processes=2,
            progress=lambda *counts: done.append(counts),
            tell=told.append,
        )
        require_same_parts(tmp_path / "out", reference)
        assert (result.pictures, result.errors, result.computed) == (MANY, 2, MANY)
        assert (sum(count for count, _ in done), sum(errors for _, errors in done)) == (MANY, 2)
        assert "150 pictures in 10 parts" in told[0]

    def test_the_same_command_again_changes_nothing(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(reference, tmp_path / "out")
        before = {part: part.stat().st_mtime_ns for part in parts_of(tmp_path / "out")}
        result = job(run, many, tmp_path / "out", batch_size=3)
        assert (result.computed, result.pictures_per_second, result.errors) == (0, None, 2)
        assert {part: part.stat().st_mtime_ns for part in parts_of(tmp_path / "out")} == before

    def test_parts_that_are_missing_or_damaged_are_computed_anew_and_no_others(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(reference, tmp_path / "out")
        parts = parts_of(tmp_path / "out")
        parts[3].unlink()
        parts[5].write_bytes(parts[5].read_bytes()[:50])
        parts[6].write_bytes(parts[7].read_bytes()[:-9])
        (tmp_path / "out/.part-000004.123.tmp.parquet").write_bytes(b"half")
        result = job(run, many, tmp_path / "out", processes=1)
        assert result.computed == 3 * 16
        require_same_parts(tmp_path / "out", reference)
        assert not list((tmp_path / "out").glob(".part*"))

    def test_it_goes_on_with_the_pictures_it_began_with(self, run: Path, tmp_path: Path) -> None:
        photos = write_many(tmp_path / "photos", 8)
        job(run, photos, tmp_path / "out", part_size=4, processes=1)
        parts_of(tmp_path / "out")[1].unlink()
        write_many(photos, 12)
        (photos / "00006.jpg").unlink()
        result = job(run, photos, tmp_path / "out", part_size=4, processes=1)
        rows = rows_of(tmp_path / "out").to_pylist()
        assert (len(rows), result.errors) == (8, 1)
        assert rows[6]["error"] is not None

    def test_other_jobs_and_other_files_are_left_alone(
        self, run: Path, tags_run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError, match="another --top"):
            job(run, many, reference, top=2)
        with pytest.raises(OutputError, match="another model"):
            job(tags_run, many, reference)
        with pytest.raises(OutputError, match="other sources"):
            job(run, many / "00001.jpg", reference)
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            job(run, many, tmp_path, overwrite=True)
        assert (tmp_path / "notes.txt").read_text() == "mine"
        with pytest.raises(OutputError, match="is a file"):
            job(run, many, tmp_path / "notes.txt")

    def test_overwrite_replaces_a_job(self, run: Path, many: Path, tmp_path: Path) -> None:
        job(run, many, tmp_path / "out", processes=1)
        result = job(run, many / "00001.jpg", tmp_path / "out", overwrite=True)
        assert (result.pictures, len(parts_of(tmp_path / "out"))) == (1, 1)

    def test_what_is_replaced_stays_until_there_is_something_in_its_place(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(reference, tmp_path / "out")
        (tmp_path / "out/.mine").write_text("kept")
        with pytest.raises(DataError, match="nothing matches"):
            job(run, tmp_path / "absent-*" / "*.jpg", tmp_path / "out", overwrite=True)
        require_same_parts(tmp_path / "out", reference)
        job(run, many / "00001.jpg", tmp_path / "out", overwrite=True)
        assert (tmp_path / "out/.mine").read_text() == "kept"

    def test_whatever_reads_folders_of_parquet_reads_the_parts_alone(self, reference: Path) -> None:
        assert dataset.dataset(reference).count_rows() == MANY
        assert len(pq.read_table(reference)) == MANY

    def test_another_artefact_in_the_same_folder_is_another_model(
        self, run: Path, tags_run: Path, many: Path, tmp_path: Path
    ) -> None:
        both = shutil.copytree(run / "artefacts/onnx", tmp_path / "both")
        shutil.copy(tags_run / "artefacts/onnx/model.onnx", both / "other.onnx")
        job(both / "model.onnx", many / "00001.jpg", tmp_path / "out")
        with pytest.raises(OutputError, match="another model"):
            job(both / "other.onnx", many / "00001.jpg", tmp_path / "out")

    def test_a_job_goes_on_only_where_the_model_gives_what_it_gave(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(reference, tmp_path / "out")
        file = tmp_path / "out/_expected.npz"
        expected = Expected.from_bytes(file.read_bytes())
        file.write_bytes(replace(expected, outputs=expected.outputs + 1).to_bytes())
        with pytest.raises(library.CheckFailed, match="computes something else"):
            job(run, many, tmp_path / "out")
        file.write_bytes(b"damaged")
        with pytest.raises(OutputError, match="damaged"):
            job(run, many, tmp_path / "out")

    def test_folders_of_any_name_do(
        self, run: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("d[1]", os.fsdecode(b"caf\xe9")):
            folder = tmp_path / name
            folder.mkdir()
            shutil.copy(many / "00001.jpg", folder)
            monkeypatch.chdir(folder)
            assert job(run, "*.jpg", tmp_path / f"out-{name[0]}").pictures == 1  # type: ignore[arg-type]
            assert job(run, folder, folder / "out").pictures == 1

    def test_nothing_is_imported_from_the_working_folder(
        self, run: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "onnxruntime.py").write_text("raise SystemExit('imported')")
        monkeypatch.chdir(tmp_path)
        assert job(run, many, tmp_path / "out", processes=2).pictures == MANY

    def test_a_device_is_not_forgotten(self, run: Path, many: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nonsense"):
            job(run, many, tmp_path / "out", device="nonsense")
        with pytest.raises(InputError, match="on the CPU"):
            job(run, many, tmp_path / "out", device="cuda", backend="onnx")
        with pytest.raises(InputError, match="unknown engine 'spark'"):
            job(run, many, tmp_path / "out", engine="spark")

    def test_a_second_call_at_the_same_time_is_refused(
        self, run: Path, many: Path, tmp_path: Path
    ) -> None:
        refused: list[str] = []

        def meanwhile(_done: int, _errors: int) -> None:
            if not refused:
                with pytest.raises(OutputError) as caught:
                    job(run, many, tmp_path / "out")
                refused.append(str(caught.value))

        job(run, many, tmp_path / "out", processes=1, progress=meanwhile)
        assert "another job writes" in refused[0]

    def test_a_folder_at_a_url_holds_the_same(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        url = f"file://{tmp_path}/out"
        library.batch_predict(run, many, url, part_size=16, batch_size=4, processes=1)
        require_same_parts(tmp_path / "out", reference)
        parts_of(tmp_path / "out")[2].unlink()
        again = library.batch_predict(run, many, url, part_size=16, batch_size=4, processes=1)
        assert again.computed == 16
        require_same_parts(tmp_path / "out", reference)

    def test_an_artefact_alone_does_it_too(self, run: Path, many: Path, tmp_path: Path) -> None:
        for name, path in (("a", run / "artefacts/onnx"), ("b", run / "artefacts/onnx/model.onnx")):
            job(path, many / "00001.jpg", tmp_path / name)
            (row,) = rows_of(tmp_path / name).to_pylist()
            assert row["label"] == next(predict(run, many / "00001.jpg")).label


class TestEmbed:
    def test_parts_hold_the_features_and_why_there_are_none(
        self, run: Path, many: Path, copy_of: Callable[[Path], Path], tmp_path: Path
    ) -> None:
        model = copy_of(run)
        told: list[str] = []
        options: dict[str, Any] = {"part_size": 64, "batch_size": 4, "tell": told.append}
        result = library.embed(model, many, tmp_path / "out", processes=2, **options)
        assert (result.pictures, result.errors, result.parts) == (MANY, 2, 3)
        assert "onnx-features" in told[0]
        rows = rows_of(tmp_path / "out")
        embedder = load_embedder(model)
        assert rows.schema.field("features").type == pa.list_(pa.float32(), embedder.size)
        assert rows.column("path").to_pylist() == [str(path) for path in sorted(many.iterdir())]
        (first, *_, last) = rows.column("features").to_pylist()
        for features, name in ((first, "00000.jpg"), (last, "00149.jpg")):
            image = embedder.prepare((many / name).read_bytes())
            assert np.allclose(features, embedder.run(image[None])[0], atol=1e-5)
        assert rows.column("features").is_null().to_pylist() == [
            number in BROKEN for number in range(MANY)
        ]
        alone = library.embed(model, many, tmp_path / "alone", processes=1, **options)
        assert alone.computed == MANY
        require_same_parts(tmp_path / "alone", tmp_path / "out")
        query = tmp_path / "query.jpg"
        query.write_bytes((many / "00003.jpg").read_bytes() + b"\0")  # another file
        found = taxon("search", model, query, tmp_path / "out", "-n", "1")
        assert str(many / "00003.jpg") in found.stdout

    def test_the_command_writes_them(self, run: Path, many: Path, tmp_path: Path) -> None:
        exported = tmp_path / "exported"
        library.export(run, "onnx-features", out=exported)
        done = taxon(
            "embed", exported / "onnx-features", many / "00001.jpg", "--out", tmp_path / "out"
        )
        assert done.returncode == 0
        assert "1 picture in 1 part below" in done.stdout
        refused = taxon("embed", run / "artefacts/onnx", many, "--out", tmp_path / "other")
        require_failure(refused, 2, "onnx-features")


class TestFaults:
    def start(self, run: Path, many: Path, out: Path, *more: str) -> subprocess.Popen[str]:
        """A job that is under way: its first part is written."""
        command = [sys.executable, "-m", "taxon", "predict", str(run), str(many)]
        command += ["--format", "parts", "--out", str(out), "--part-size", "16", *more]
        process = subprocess.Popen(
            [*command, "--batch-size", "4"], stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: bool(parts_of(out)) or process.poll() is not None)
        return process

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
    )
    def test_a_job_that_was_stopped_goes_on(
        self,
        run: Path,
        many: Path,
        reference: Path,
        tmp_path: Path,
        number: signal.Signals,
        code: int,
    ) -> None:
        out = tmp_path / "out"
        process = self.start(run, many, out, "--processes", "2")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        if code > 0:
            assert "the same command goes on" in said
        kept = {part: part.stat().st_mtime_ns for part in parts_of(out)}
        assert 0 < len(kept) < 10
        result = job(run, many, out)
        assert result.computed == MANY - 16 * len(kept)
        assert {part: part.stat().st_mtime_ns for part in kept} == kept
        require_same_parts(out, reference)

    def test_a_computing_process_that_is_killed_ends_the_job_in_one_line(
        self,
        run: Path,
        many: Path,
        reference: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        started: list[processes.ComputingProcess] = []
        begin = processes.Processes.start

        def note(pool: processes.Processes) -> None:
            begin(pool)
            started.append(pool._local.process)

        monkeypatch.setattr(processes.Processes, "start", note)

        def kill(_done: int, _errors: int) -> None:
            if started:
                os.kill(started.pop().process_id, signal.SIGKILL)

        with pytest.raises(LostProcessError, match="the same command goes on"):
            job(run, many, tmp_path / "out", processes=2, progress=kill)
        assert len(parts_of(tmp_path / "out")) < 10
        job(run, many, tmp_path / "out", processes=1)
        require_same_parts(tmp_path / "out", reference)

    def test_a_full_disk_is_told_in_a_line_and_the_job_goes_on(
        self, run: Path, many: Path, reference: Path, tmp_path: Path
    ) -> None:
        arguments = ["predict", run, many, "--format", "parts", "--out", tmp_path / "out"]
        # The plan fits, the part does not.
        done = taxon_process(*arguments, "--batch-size", "4", largest_file=6000)
        require_failure(done, 2, "cannot write")
        assert (tmp_path / "out/_plan.parquet").is_file()
        assert not parts_of(tmp_path / "out")
        job(run, many, tmp_path / "out", processes=1)
        assert rows_of(tmp_path / "out").equals(rows_of(reference))

    def test_a_process_that_computes_something_else_is_refused(
        self, run: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from taxon.api.batch_model import OpenModel
        from taxon.batch.compute import Task

        task = OpenModel.task

        def other(model: OpenModel, batch_size: int) -> Task:
            told = task(model, batch_size)
            return replace(told, expected=replace(told.expected, outputs=told.expected.outputs + 1))

        monkeypatch.setattr(OpenModel, "task", other)
        with pytest.raises(library.CheckFailed, match="computes something else"):
            job(run, many, tmp_path / "out", processes=2)


class TestCommand:
    def test_parts_are_written_and_unreadable_pictures_end_with_three(
        self, run: Path, many: Path, tmp_path: Path
    ) -> None:
        arguments = ["predict", run, many, "--format", "parts", "--out", tmp_path / "out"]
        done = taxon(*arguments, "--processes", "1")
        assert "150 pictures in 1 part below" in done.stdout
        require_failure(done, 3, "2 of 150 pictures could not be read")
        assert len(paths_of(tmp_path / "out")) == MANY

    @pytest.mark.parametrize(
        ("arguments", "saying"),
        [
            (["--format", "parts"], "--out"),
            (["--format", "csv", "--part-size", "5"], "--part-size is for --format parts"),
            (["--format", "csv", "--engine", "ray"], "--engine ray is for --format parts"),
            (["--format", "parts", "--out", "x", "--sort-into", "y"], "--sort-into"),
        ],
    )
    def test_options_that_do_not_go_together_are_refused(
        self, run: Path, many: Path, arguments: list[str], saying: str
    ) -> None:
        require_failure(taxon("predict", run, many, *arguments), 2, saying)
