"""What the report holds beside the figures: curves, pictures of cells, blocks, files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_evaluation import Case, Tags, jpeg, multiclass, multilabel

import taxon
from taxon.api.pictures import count_groups
from taxon.bundle.layout import MANIFEST_FILE
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.data import read_manifest
from taxon.decision.policy import ALWAYS_UNSURE, Scope
from taxon.evaluation import Figure, figures
from taxon.evaluation.album import Album
from taxon.evaluation.decisions_view import slices_view
from taxon.evaluation.drawing import svg
from taxon.evaluation.gallery import confident_mistakes, doubtful_hits, label_errors
from taxon.evaluation.report import DataFacts
from taxon.evaluation.summary import ScopeFigures, SelectiveFigures, SetFigures, SliceFigures
from taxon.inference.table import write_table
from taxon.metrics import GroupBootstrap

pytestmark = pytest.mark.filterwarnings("error")


def page_data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


class TestPageData:
    def test_explorer_gives_the_figures_of_the_table_at_the_fitted_threshold(
        self, tmp_path: Path
    ) -> None:
        case = multilabel()
        data = page_data(case.report(tmp_path))["curves"]
        for name, entry in case.metrics.per_class.items():
            curve = data[name]
            at = curve["fitted"]
            assert curve["t"][at] == entry.threshold
            hits, false = curve["h"][at], curve["f"][at]
            assert entry.recall.value == pytest.approx(hits / curve["p"])
            assert entry.precision.value == pytest.approx(hits / (hits + false))

    def test_every_wrong_cell_has_pictures_and_the_diagonal_too(self, tmp_path: Path) -> None:
        case = multiclass(signal=1.0, n=400)
        text = case.report(tmp_path)
        data = page_data(text)
        assert case.metrics.confusion is not None
        wrong = 0
        for row, counts in enumerate(case.metrics.confusion):
            for column, count in enumerate(counts):
                entries = data["cells"].get(f"{row}-{column}", [])
                assert bool(entries) == bool(count)
                assert len(entries) == min(count, 4 if row == column else 6)
                wrong += count * (row != column)
                for name, confidence, number in entries:
                    place = case.table.ids.index(name)
                    assert case.targets[place] == row
                    assert case.table.probabilities[place].argmax() == column
                    assert confidence == pytest.approx(
                        case.table.probabilities[place, column], abs=1e-4
                    )
                    in_gallery = f'data-picture="{number}"' in text
                    assert in_gallery != (str(number) in data["images"])
        assert wrong > 60  # more than the gallery of mistakes shows

    def test_markup_in_ids_does_not_end_the_data(self, tmp_path: Path) -> None:
        case = multiclass()
        ids = tuple(f"</script><b>{name}" for name in case.table.ids)
        object.__setattr__(case.table, "ids", ids)
        text = case.report(tmp_path)
        assert "</script><b>" not in text
        assert page_data(text)["cells"]["0-0"][0][0].startswith("</script><b>folder/")

    @pytest.mark.parametrize("classes", [2, 500])
    def test_few_and_many_classes(
        self, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Intervals of AUC take the most time, and are not what is tested.
        monkeypatch.setattr("taxon.evaluation.compute.RANKING_INTERVALS_UP_TO", 0)
        case = multiclass(classes=classes, n=max(60, classes), signal=3.0)
        text = case.report(tmp_path, thumbnails=lambda _: jpeg(200))
        assert len(text.encode()) < 5_000_000
        assert Tags(text).open == []
        assert len(page_data(text)["curves"]) == classes
        assert text.count("<option ") == classes


class TestSize:
    @pytest.mark.parametrize(("classes", "length"), [(1000, 500), (60, 4000)])
    def test_below_5_megabytes_with_long_names(
        self, classes: int, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # AUC and intervals of many classes take the most time, and are not what is tested.
        monkeypatch.setattr("taxon.evaluation.compute.RANKING_INTERVALS_UP_TO", 0)
        for name in ("roc_auc", "average_precision"):
            monkeypatch.setattr(
                f"taxon.evaluation.compute.{name}", lambda *_: [Figure.of(0.9)] * classes
            )
        few = partial(GroupBootstrap, resamples=20)
        monkeypatch.setattr("taxon.evaluation.case.GroupBootstrap", few)
        names = [f"class {place} <&> " + "ü" * length for place in range(classes)]
        space = LabelSpace.flat("multiclass", names)
        case = Case(space, np.arange(1000) % classes, signal=2.0)
        photo = jpeg(64)
        text = case.report(tmp_path, thumbnails=lambda _: photo)
        assert len(text.encode()) < 5_000_000
        page = Tags(text)
        assert page.open == []
        assert sum(tag == "img" for tag, _ in page.found) > 10
        assert page_data(text)["cells"]
        assert "those with the lowest F1 are shown" in text

    def test_a_picture_that_is_printed_often_counts_as_often(self, tmp_path: Path) -> None:
        # Every tag of three pictures is wrong: they fill the galleries again and again.
        case = multilabel(n=60, classes=40)
        targets = case.targets.copy()
        targets[:3] = case.table.probabilities[:3] < 0.5
        case.targets = targets
        photo = jpeg(128)
        large = photo + b"\0" * 100_000  # what follows the end of a JPEG is kept
        text = case.report(tmp_path, thumbnails=lambda _: large)
        assert 1_000_000 < len(text.encode()) < 5_000_000


class TestNames:
    def test_only_those_of_a_taxonomy_are_shortened(self, tmp_path: Path) -> None:
        space = LabelSpace.flat("multiclass", ["black/white", "n/a", "red"])
        text = Case(space, np.arange(60) % 3).report(tmp_path)
        assert "<span>black/white</span>" in text and "<span>n/a</span>" in text
        space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "x")])
        text = Case(space, np.arange(60) % 3).report(tmp_path)
        assert "<span>y</span>" in text and "<span>B/x</span>" in text


class TestGalleries:
    def test_planted_label_errors_come_first(self) -> None:
        case = multiclass(n=300, signal=6.0)
        wrong = [10, 20, 33]
        targets = case.targets.copy()
        targets[wrong] = (targets[wrong] + 1) % 6
        found = label_errors(case.table, targets, case.label_space, case.policy)
        assert {case.table.ids[row] for row in wrong} <= {shown.id for shown in found[:4]}
        assert all(shown.own is not None and shown.own <= 0.1 for shown in found)

    def test_planted_label_errors_of_tags_and_unknown_ones(self) -> None:
        case = multilabel(n=300)
        logits = (12.0 * (case.targets - 0.5)).astype(np.float32)
        probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
        object.__setattr__(case.table, "probabilities", probabilities)
        targets = case.targets.copy()
        targets[7, 2] = 1 - targets[7, 2]
        targets[8, 1] = UNKNOWN
        (found,) = label_errors(case.table, targets, case.label_space, case.policy)
        assert (found.id, found.column) == (case.table.ids[7], 2)
        assert {found.truth, found.answer} == {"tag 2", "not tag 2"}

    def test_hits_are_right_and_rise_in_confidence(self) -> None:
        for case in (multiclass(), multilabel()):
            hits = doubtful_hits(case.table, case.targets, case.label_space, case.policy)
            assert hits and all(shown.truth == shown.answer for shown in hits)
            assert [shown.confidence for shown in hits] == sorted(s.confidence for s in hits)
            mistakes = confident_mistakes(case.table, case.targets, case.label_space, case.policy)
            assert all(shown.truth != shown.answer for shown in mistakes)

    def test_album_ends_with_its_room(self) -> None:
        content = jpeg(64)
        one = len("data:image/jpeg;base64,") + 4 * -(-len(content) // 3)
        album = Album(lambda _: content, room=3 * one)
        album.add(["a", "b", "a", "c"])  # "a" is printed twice
        assert len(album) == 2
        assert album.get("a") and album.get("b") and album.get("c") is None


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, ci95=(low, high))


class TestBlocks:
    def test_decisions_slices_and_data_show_when_they_are_there(self, tmp_path: Path) -> None:
        case = multiclass()
        plain = case.report(tmp_path)
        assert 'id="abstention"' in plain  # the curve is of use without a limit too
        for name in ("sets", "scope", "slices", "data"):
            assert f'id="{name}"' not in plain
        metrics = case.metrics.model_copy(
            update={
                "selective": SelectiveFigures(
                    curve=((0.5, 0.02, 0.9), (0.9, 0.1, 0.5), (1.0, 0.2, 0.1)),
                    area=figure(0.06, 0.05, 0.08),
                    abstain_below=0.5,
                    coverage=figure(0.9, 0.8, 0.95),
                    risk=figure(0.1, 0.05, 0.15),
                ),
                "sets": SetFigures(
                    method="raps",
                    promised=0.9,
                    coverage=figure(0.913, 0.9, 0.95),
                    size=figure(1.5, 1.2, 1.8),
                    per_class={name: figure(0.8, 0.7, 0.9) for name in case.metrics.classes},
                ),
                "scope": ScopeFigures(
                    method="energy", limit=-3.25, flagged=figure(0.04, 0.02, 0.07)
                ),
                "slices": (
                    SliceFigures(
                        column="camera",
                        value="<old>",
                        n=31,
                        figures={"top1": figure(0.617, 0.5, 0.7)},
                        difference=figure(-0.21, -0.3, -0.1),
                        p_value=0.004,
                    ),
                    SliceFigures(
                        column="camera",
                        value="new",
                        n=89,
                        figures={"top1": Figure(value=None, reason="why not")},
                        difference=figure(0.21, 0.1, 0.3),
                    ),
                ),
            }
        )
        facts = DataFacts({"train": 1200, "test": 120}, groups=41, notes=("12 near-duplicates",))
        text = case.report(tmp_path, metrics, data=facts).replace("\u00a0", " ")
        assert Tags(text).open == []
        for words in (
            "50.0 %", "RAPS", "91.3 %", "1.500", "energy", "-3.250", "61.7 %", "&lt;old&gt;",
            "−21.0 points", "1,200 pictures", "12 near-duplicates", "41", "why not",
        ):  # fmt: skip
            assert words in text, words
        assert text.count('class="worse"') == 1
        assert 'aria-label="Risk by coverage"' in text

    def test_a_limit_that_no_answer_reaches(self, tmp_path: Path) -> None:
        text = multiclass(abstain_below=ALWAYS_UNSURE).report(tmp_path)
        assert "every answer is unsure: the risk that was asked for could not be promised" in text
        assert "200.0\u00a0%" not in text and "The ring is the limit in use" not in text
        assert "The ring is the limit in use" in multiclass(abstain_below=0.4).report(tmp_path)

    def test_worse_slices_come_first_and_none_falls_out(self, tmp_path: Path) -> None:
        case = multiclass()
        low = SliceFigures(
            column="camera",
            value="low",
            n=10,
            figures={"top1": figure(0.3, 0.0, 0.9)},
            difference=figure(-0.5, -0.9, 0.1),
        )
        worse = SliceFigures(
            column="camera",
            value="the worse one",
            n=500,
            figures={"top1": figure(0.7, 0.68, 0.72)},
            difference=figure(-0.1, -0.12, -0.08),
            p_value=0.01,
        )
        metrics = case.metrics.model_copy(update={"slices": (*[low] * 70, worse)})
        view = slices_view(metrics)
        assert view is not None
        assert view.rows[0] == worse and len(view.rows) == 60 and view.more == 11
        assert "the worse one" in case.report(tmp_path, metrics)
        metrics = case.metrics.model_copy(update={"slices": (low, *[worse] * 70)})
        view = slices_view(metrics)
        assert view is not None and len(view.rows) == 70

    def test_what_the_flag_would_change(self, tmp_path: Path) -> None:
        case = multiclass()
        scope = np.linspace(0, 1, 120).astype(np.float32)
        scope[50] = np.float32(0.7)  # a little less than 0.7; not below the limit all the same
        object.__setattr__(case.table, "scope", scope)
        found = ScopeFigures(method="energy", limit=0.7, flagged=figure(0.7, 0.6, 0.8))
        text = case.report(tmp_path, case.metrics.model_copy(update={"scope": found}))
        flagged = scope < np.float32(0.7)
        right = case.table.probabilities.argmax(axis=1) == case.targets
        assert not flagged[50]
        assert (
            f"which would leave {flagged.sum()} of these pictures unnamed, "
            f"{(flagged & right).sum()} of them right."
        ) in text
        assert "without the out-of-scope flag" not in case.report(tmp_path)

    def test_bars_of_tags_say_what_their_share_is(self, tmp_path: Path) -> None:
        (diagram,) = re.findall(
            r'<svg[^>]*aria-label="Reliability.*?</svg>', multilabel().report(tmp_path), re.S
        )
        assert "answers, share that has the class" in diagram and "right" not in diagram

    def test_groups_are_counted_as_on_the_card(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = read_manifest(run / MANIFEST_FILE)
        first, second, *others = manifest.records
        grouped = (replace(first, group="g"), replace(second, group="g"), *others)
        assert count_groups(grouped) == len(others) + 1
        assert count_groups(others) is None
        monkeypatch.setattr(
            "taxon.api.reporting.own_manifest", lambda _: replace(manifest, records=grouped)
        )
        text = taxon.evaluate(run, out=tmp_path / "out", explain=False).report.read_text("utf-8")
        assert f"<dt>Groups</dt><dd>{len(others) + 1}</dd>" in text

    def test_taxonomy(self, tmp_path: Path) -> None:
        space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "x")])
        text = Case(space, np.arange(60) % 3, signal=1.0).report(tmp_path)
        assert Tags(text).open == []
        assert page_data(text)["curves"].keys() == set(space.names)


class TestFigures:
    def test_svg_stands_alone_and_png_beside_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "figures"
        multiclass().report(tmp_path, figures=folder)
        names = {path.stem for path in folder.glob("*.svg")}
        assert names == {
            "confusion", "precision-recall", "reliability", "risk-coverage", "roc",
            "training-loss", "training-score",
        }  # fmt: skip
        for name in names:
            root = ET.parse(folder / f"{name}.svg").getroot()
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert not any("class" in element.attrib for element in root.iter())
            with Image.open(folder / f"{name}.png") as picture:
                assert picture.width >= 900
                # Something is drawn: neither blank nor one colour.
                assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 5

    def test_without_matplotlib_the_note_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(figures, "find_spec", lambda _: None)
        folder = tmp_path / "figures"
        drawing = svg(10, 10, "nothing", [])
        chart = {"reliability": figures.Chart(drawing)}
        (note,) = figures.write_figures(folder, {**chart, "old": figures.Chart(drawing)}, None)
        assert "taxon-vision[figures]" in note
        assert {path.name for path in folder.iterdir()} == {"reliability.svg", "old.svg"}
        figures.write_figures(folder, chart, None)
        assert {path.name for path in folder.iterdir()} == {"reliability.svg"}


class TestPredictionsTable:
    def test_classes(self, tmp_path: Path) -> None:
        case = multiclass(abstain_below=0.5)
        path = tmp_path / "predictions.parquet"
        write_table(case.table, path, case.label_space, case.policy, case.targets)
        rows = pq.read_table(path).to_pylist()
        assert [row["id"] for row in rows] == list(case.table.ids)
        assert np.mean([row["right"] for row in rows]) == case.metrics.top1.value
        assert 1 - np.mean([row["unsure"] for row in rows]) == case.metrics.coverage.value
        for row, target in zip(rows, case.targets, strict=True):
            assert row["truth"] == f"class {target}"
            assert row["right"] == (row["truth"] == row["answer"])
            assert row["confidence"] == row[f"probability:{row['answer']}"]
            assert not row["out_of_scope"] and f"logit:{row['answer']}" in row

    def test_tags_unknown_ones_and_scope(self, tmp_path: Path) -> None:
        case = multilabel()
        targets = case.targets.copy()
        targets[3, 0] = UNKNOWN
        table = replace(case.table, scope=np.linspace(0, 1, 100).astype(np.float32))
        scope = Scope(
            method="energy", energy=(0.0, 1.0), nearest=None, limit=0.25, in_scope_share=0.95
        )
        policy = case.policy.model_copy(update={"scope": scope})
        path = tmp_path / "predictions.parquet"
        write_table(table, path, case.label_space, policy, targets)
        rows = pq.read_table(path).to_pylist()
        assert sum(row["out_of_scope"] for row in rows) == 25
        assert rows[3]["unknown"] == ["tag 0"] and rows[4]["unknown"] == []
        for place, row in enumerate(rows):
            known = [name for name in table.names if name not in row["unknown"]]
            truth = [name for name in known if targets[place, table.names.index(name)] == 1]
            assert row["truth"] == truth
            answer = [name for name in table.names if row[f"probability:{name}"] >= 0.5]
            assert row["answer"] == answer
            assert row["right"] == (set(truth) == set(answer) & set(known))
