"""Evaluation: metrics.json from predictions, and the report as one self-contained file."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taxon.core.errors import DataError, OutputError
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation import Metrics, compute_metrics, summary_rows, write_report
from taxon.evaluation.charts import Series, history_values, training_curve
from taxon.evaluation.confusion import short_names
from taxon.evaluation.wording import meaning_sentence

pytestmark = pytest.mark.filterwarnings("error")

TOP_LEVEL = {
    "schema_version", "task", "n", "classes", "confusion", "top1", "top5", "balanced_accuracy",
    "log_loss", "macro_f1", "micro_f1", "weighted_f1", "cohen_kappa", "cohen_kappa_quadratic",
    "matthews", "macro_f1_at_half", "micro_f1_at_half", "hamming_loss", "exact_match",
    "label_ranking_average_precision", "auc_roc", "average_precision", "per_class", "calibration",
    "coverage", "levels", "taxonomy", "selective", "sets", "scope", "slices", "about",
}  # fmt: skip

HISTORY: list[dict[str, Any]] = [
    {"stage": "head probe", "epoch": 1, "train_loss": 1.2, "validation_loss": None},
    {"stage": "head probe", "epoch": 2, "train_loss": 0.9, "validation_loss": 0.8, "macro_f1": 0.6},
    {"stage": "full fine-tune", "epoch": 3, "train_loss": float("nan"), "macro_f1": 0.7},
]


class Case:
    """Predictions with their truth, and the metrics of both."""

    def __init__(
        self,
        label_space: LabelSpace,
        targets: np.ndarray,
        *,
        signal: float = 2.0,
        abstain_below: float = 0.0,
        groups: np.ndarray | None = None,
    ) -> None:
        classes = len(label_space.names)
        generator = np.random.default_rng(0)
        truth = np.eye(classes)[targets] if targets.ndim == 1 else targets
        logits = (signal * truth + generator.normal(size=truth.shape)).astype(np.float32)
        if targets.ndim == 2:
            logits -= np.float32(signal / 2)
        policy = DecisionPolicy.default(label_space).model_copy(
            update={"abstain_below": abstain_below}
        )
        self.label_space, self.targets, self.policy = label_space, targets, policy
        self.table = PredictionTable(
            ids=tuple(f"folder/{row}.jpg" for row in range(len(targets))),
            names=label_space.names,
            logits=logits,
            probabilities=calibrate(logits, policy, label_space.task),
        )
        self.metrics = compute_metrics(
            self.table, targets, label_space, policy, groups=groups, about={"model": "m"}
        )

    def report(self, folder: Path, metrics: Metrics | None = None, **options: Any) -> str:
        path = folder / "report.html"
        write_report(
            path,
            metrics or self.metrics,
            self.table,
            self.targets,
            self.label_space,
            self.policy,
            history=options.get("history", HISTORY),
            thumbnails=options.get("thumbnails", lambda _: jpeg(64)),
            explainer=options.get("explainer"),
            data=options.get("data"),
            figures=options.get("figures"),
        )
        return path.read_text(encoding="utf-8")


def jpeg(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def multiclass(classes: int = 6, n: int = 120, **options: Any) -> Case:
    names = [f"class {position}" for position in range(classes)]
    return Case(LabelSpace.flat("multiclass", names), np.arange(n) % classes, **options)


def multilabel(n: int = 100, classes: int = 4) -> Case:
    targets = (np.random.default_rng(5).random((n, classes)) < 0.4).astype(np.int64)
    names = [f"tag {position}" for position in range(classes)]
    return Case(LabelSpace.flat("multilabel", names), targets)


def figures(content: Any) -> list[dict[str, Any]]:
    """Every object with a `value` in the JSON."""
    if isinstance(content, dict):
        inner = [figure for item in content.values() for figure in figures(item)]
        return [content, *inner] if "value" in content else inner
    if isinstance(content, list):
        return [figure for item in content for figure in figures(item)]
    return []


class TestMetricsJson:
    @pytest.mark.parametrize("make", [multiclass, multilabel])
    def test_keys_and_round_trip(self, make: Any) -> None:
        metrics = make().metrics
        text = json.dumps(metrics.as_json(), allow_nan=False)
        content = json.loads(text)
        assert set(content) == TOP_LEVEL
        assert Metrics.model_validate(content) == metrics
        assert set(content["per_class"][content["classes"][0]]) == {
            "precision", "recall", "specificity", "f1", "support", "threshold",
        }  # fmt: skip
        assert set(content["calibration"]) == {
            "ece", "ece_by_chance", "adaptive_ece", "brier", "nll", "uncalibrated", "temperature",
        }  # fmt: skip
        for figure in figures(content):
            assert (figure["value"] is not None) or figure["reason"]
            if "ci95" in figure:
                assert figure["ci95"][0] <= figure["value"] <= figure["ci95"][1]
                assert figure["ci95"][0] < figure["ci95"][1]

    def test_multiclass(self) -> None:
        case = multiclass()
        content = case.metrics.as_json()
        right = (case.table.probabilities.argmax(axis=1) == case.targets).mean()
        assert content["top1"]["value"] == pytest.approx(right)
        assert content["top1"]["value"] == content["micro_f1"]["value"]
        assert content["calibration"]["nll"] == content["log_loss"]
        assert content["calibration"]["temperature"] == 1.0
        assert sum(map(sum, content["confusion"])) == content["n"] == 120
        assert content["per_class"]["class 0"]["support"] == 20
        assert content["per_class"]["class 0"]["threshold"] is None
        assert content["coverage"]["value"] == 1.0
        assert "there is no limit" in content["coverage"]["reason"]
        assert content["levels"] == []

    def test_multilabel(self) -> None:
        content = multilabel().metrics.as_json()
        assert content["confusion"] is None
        for name in ("top1", "top5", "cohen_kappa", "matthews", "balanced_accuracy"):
            assert content[name]["value"] is None
            assert "one class a picture" in content[name]["reason"]
        assert content["per_class"]["tag 0"]["threshold"] == 0.5
        assert content["average_precision"]["macro"]["ci95"]

    def test_thresholds_of_the_policy_are_used(self) -> None:
        case = multilabel()
        policy = case.policy.model_copy(update={"thresholds": (0.999, 0.5, 0.5, 0.5)})
        changed = compute_metrics(case.table, case.targets, case.label_space, policy, about={})
        assert changed.per_class["tag 0"].threshold == 0.999
        before = case.metrics.per_class["tag 0"].recall.value
        assert (changed.per_class["tag 0"].recall.value or 0.0) < (before or 0.0)
        assert changed.per_class["tag 1"] == case.metrics.per_class["tag 1"]

    def test_one_tag(self) -> None:
        metrics = multilabel(classes=1).metrics
        assert metrics.macro_f1.value == metrics.micro_f1.value
        assert metrics.macro_f1.value == metrics.per_class["tag 0"].f1.value

    def test_absent_class(self) -> None:
        names = LabelSpace.flat("multiclass", ["a", "b", "c"])
        content = Case(names, np.arange(40) % 2).metrics.as_json()
        absent = {"value": None, "reason": "no pictures of this class"}
        assert content["per_class"]["c"]["f1"] == absent
        assert content["auc_roc"]["per_class"]["c"] == absent
        assert content["average_precision"]["per_class"]["c"] == absent
        assert "2 of 3" in content["auc_roc"]["macro"]["reason"]
        assert content["auc_roc"]["macro"]["value"] > 0.5

    def test_single_class_test_set(self) -> None:
        names = LabelSpace.flat("multiclass", ["a", "b"])
        metrics = Case(names, np.zeros(5, np.int64), signal=9.0).metrics
        assert metrics.top1.value == 1.0
        assert metrics.auc_roc.macro.value is None
        assert metrics.cohen_kappa.value is None
        json.dumps(metrics.as_json(), allow_nan=False)

    def test_one_picture_has_no_interval(self) -> None:
        metrics = multiclass(n=1).metrics
        assert metrics.top1.value is not None
        content = metrics.as_json()
        del content["calibration"]["ece_by_chance"]  # a range over classifiers, not pictures
        assert all("ci95" not in figure for figure in figures(content))

    def test_coverage(self) -> None:
        case = multiclass(abstain_below=0.6)
        sure = case.table.probabilities.max(axis=1) >= 0.6
        assert case.metrics.coverage.value == pytest.approx(sure.mean())
        assert 0 < sure.mean() < 1

    def test_groups_widen_the_interval(self) -> None:
        alone, grouped = multiclass().metrics, multiclass(groups=np.arange(120) // 20).metrics
        assert alone.top1.value == grouped.top1.value
        assert alone.top1.ci95 != grouped.top1.ci95

    def test_levels(self) -> None:
        # Leaves: A/x, A/y, B/z. Probabilities of A are the sums of x and y.
        label_space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "z")])
        probabilities = np.array(
            [[0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]], np.float32
        )
        table = PredictionTable(
            ("1", "2", "3", "4"), label_space.names, np.log(probabilities), probabilities
        )
        # x, y, z, y: as leaves 0, 2, 2, 2 are named, so 2 of 4 are right.
        metrics = compute_metrics(
            table,
            np.array([0, 1, 2, 1]),
            label_space,
            DecisionPolicy.default(label_space),
            about={},
        )
        coarse, fine = metrics.levels
        assert (coarse.level, coarse.classes, fine.classes) == (0, 2, 3)
        # As A or B: 0.75, 0.6, 0.3, 0.3 for A, so A, A, B, B are named for A, A, B, A.
        assert coarse.top1.value == 3 / 4
        # F1 of A: 2*2 / (2*2 + 0 + 1) = 4/5; of B: 2*1 / (2*1 + 1 + 0) = 2/3.
        assert coarse.macro_f1.value == pytest.approx((4 / 5 + 2 / 3) / 2)
        assert fine.top1.value == metrics.top1.value == 2 / 4

    def test_refusals(self) -> None:
        case = multiclass()
        with pytest.raises(DataError, match="no pictures"):
            compute_metrics(
                case.table.select([]),
                np.array([], np.int64),
                case.label_space,
                case.policy,
                about={},
            )
        other = LabelSpace.flat("multiclass", ["x", "y"])
        with pytest.raises(DataError, match="other classes"):
            compute_metrics(
                case.table, case.targets, other, DecisionPolicy.default(other), about={}
            )
        with pytest.raises(ValueError, match="shape"):
            compute_metrics(case.table, case.targets[:5], case.label_space, case.policy, about={})
        broken = PredictionTable(
            case.table.ids, case.table.names, case.table.logits, case.table.logits * np.nan
        )
        with pytest.raises(DataError, match="not a number"):
            compute_metrics(broken, case.targets, case.label_space, case.policy, about={})


class TestWords:
    def test_terminal_rows(self) -> None:
        rows = summary_rows(multiclass().metrics)
        assert rows[0][0] == "Top-1"
        assert re.fullmatch(r"\d+\.\d %", rows[0][1])
        assert re.fullmatch(r"\d+\.\d to \d+\.\d", rows[0][2])
        names = [name for name, *_ in summary_rows(multilabel().metrics)]
        assert "Top-1" not in names and "Macro-F1" in names

    def test_terminal_rows_of_a_taxonomy(self) -> None:
        label_space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "z")])
        rows = summary_rows(Case(label_space, np.arange(30) % 3).metrics)
        assert "Top-1 at level 0 (2 classes)" in [name for name, *_ in rows]

    def test_no_mistakes_is_not_called_certain(self) -> None:
        # Clopper and Pearson: 1 - 0.025 ** (1 / 120) = 0.0303.
        assert "up to 3.0 % mistakes" in meaning_sentence(multiclass(signal=50.0).metrics)

    def test_short_names(self) -> None:
        assert short_names(["A/x", "B/x", "B/y"], taxonomy=True) == ("A/x", "B/x", "y")
        assert short_names(["n/a", "black/white"], taxonomy=False) == ("n/a", "black/white")


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and checks that they nest."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestReport:
    @pytest.mark.parametrize("make", [multiclass, multilabel])
    def test_self_contained(self, make: Any, tmp_path: Path) -> None:
        text = make().report(tmp_path)
        page = Tags(text)
        assert page.open == []
        tags = [tag for tag, _ in page.found]
        assert "link" not in tags and "iframe" not in tags
        assert "http://" not in text and "https://" not in text
        assert "@import" not in text and "url(" not in text
        for tag, attributes in page.found:
            if tag == "script":
                assert "src" not in attributes
            if tag == "img":
                assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
                assert attributes["alt"]
            if tag == "a":
                assert (attributes["href"] or "").startswith("#")
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

    def test_accessible(self, tmp_path: Path) -> None:
        text = multiclass().report(tmp_path)
        tags = [tag for tag, _ in Tags(text).found]
        assert tags.count("table") == tags.count("caption")
        assert tags.count("h1") == 1
        assert '<html lang="en">' in text
        for tag, attributes in Tags(text).found:
            if tag == "svg":
                assert attributes["role"] == "img" and attributes["aria-label"]

    def test_shows_the_headline(self, tmp_path: Path) -> None:
        case = multiclass()
        text = case.report(tmp_path).replace("\u00a0", " ")
        assert case.metrics.top1.value is not None
        assert f"{100 * case.metrics.top1.value:.1f} %" in text
        assert "Of 100 new pictures like these" in text
        assert "epochs 1 to 2" in text and "epoch 3" in text

    @pytest.mark.parametrize("task", ["multiclass", "multilabel"])
    def test_escapes(self, task: Any, tmp_path: Path) -> None:
        bad = "<b>&\"'"
        label_space = LabelSpace.flat(task, [bad, "z"])
        targets = np.arange(30) % 2 if task == "multiclass" else np.ones((30, 2), np.int64)
        case = Case(label_space, targets, signal=0.5)
        about = {"model": bad, "notes": [bad], "left_out": {bad: 1}}
        text = case.report(
            tmp_path,
            case.metrics.model_copy(update={"about": about}),
            history=[{"stage": bad, "train_loss": 1.0}],
        )
        assert "<b>&" not in text
        assert "&lt;b&gt;&amp;" in text
        assert Tags(text).open == []

    def test_small_and_bounded(self, tmp_path: Path) -> None:
        case = multiclass(classes=120, n=2400, signal=0.5)
        asked: list[str] = []

        def thumbnails(name: str) -> bytes:
            asked.append(name)
            return jpeg(300)

        text = case.report(tmp_path, thumbnails=thumbnails)
        assert 100 < len(asked) == len(set(asked)) <= 508
        assert len(text.encode()) < 5_000_000
        assert "40 classes with most mistakes, of 120" in text

    def test_most_confident_mistake_first(self, tmp_path: Path) -> None:
        case = multiclass()
        probabilities = case.table.probabilities
        wrong = probabilities.argmax(axis=1) != case.targets
        first = int(np.where(wrong, probabilities.max(axis=1), 0).argmax())
        text = case.report(tmp_path)
        gallery = text[text.index('id="mistakes"') : text.index('id="hits"')]
        gallery = gallery.partition('id="label-errors"')[0]
        shown = re.findall(r'class="file" title="([^"]+)"', gallery)
        assert shown[0] == case.table.ids[first]
        assert len(shown) == wrong.sum()

    def test_pictures_that_are_missing_or_broken(self, tmp_path: Path) -> None:
        assert "<img" not in multiclass().report(tmp_path, thumbnails=lambda _: None)
        assert "<img" not in multiclass().report(tmp_path, thumbnails=lambda _: b"not a picture")

    def test_without_mistakes_history_or_about(self, tmp_path: Path) -> None:
        case = multiclass(signal=50.0)
        metrics = case.metrics.model_copy(update={"about": {}})
        text = case.report(tmp_path, metrics, history=[])
        assert 'id="mistakes"' not in text
        assert 'id="training"' not in text
        assert 'id="provenance"' not in text

    def test_cannot_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot write"):
            multiclass().report(tmp_path / "file")


class TestCharts:
    def test_gap_and_single_points(self) -> None:
        series = [Series("validation", "validation", (0.1, 0.2, None, 0.4))]
        drawing = training_curve("Loss", series, [2])
        # One line of two points, three dots, one stage border.
        assert drawing.count("<polyline") == 1
        assert drawing.count("<circle") == 3
        assert drawing.count('class="border"') == 1

    def test_constant_values(self) -> None:
        for value in (0.0, 1.0, 1e-9, 12345.0):
            series = [Series("training", "train", (value,))]
            assert "nan" not in training_curve("Loss", series, [])
            assert "nan" not in training_curve("Score", series, [], share=True)

    def test_history_values(self) -> None:
        assert history_values(HISTORY, "train_loss") == (1.2, 0.9, None)
        assert history_values(HISTORY, "validation_loss") == (None, 0.8, None)
        assert training_curve("Loss", [Series("a", "train", (None,))], []) == ""

    def test_scores_span_at_least_20_per_cent_within_0_to_100(self) -> None:
        for value in (0.0, 0.48, 0.97, 1.0):
            series = [Series("macro-F1", "validation", (value,))]
            drawing = training_curve("Score", series, [], share=True)
            shown = [int(text) for text in re.findall(r">(\d+)%<", drawing)]
            assert max(shown) - min(shown) >= 20
            assert 0 <= min(shown) <= 100 * value <= max(shown) <= 100

    def test_many_epochs_are_a_thin_line_with_dots_on_hovering(self) -> None:
        def dots(drawing: str, look: str) -> int:
            return len(re.findall(rf'<circle class="[^"]*{look}[^"]*"', drawing))

        few = training_curve("Loss", [Series("training", "train", (1.0,) * 10)], [])
        assert "thin" not in few and dots(few, "hidden") == 0
        many = training_curve("Loss", [Series("training", "train", (1.0,) * 300)], [], kept=7)
        assert "thin" in many and dots(many, "hidden") == 299 and dots(many, "ring") == 1
        most = training_curve("Loss", [Series("training", "train", (1.0,) * 10_000)], [], kept=7)
        assert dots(most, "ring") == 1 and len(most) < 300_000
        # A value between two gaps has no line: it shows as a dot.
        gaps = Series("training", "train", (None, 0.5, None, *[0.4] * 97))
        assert dots(training_curve("Loss", [gaps], []), 'train"') == 1

    def test_numbers_of_short_stages_do_not_overlap(self) -> None:
        series = [Series("training", "train", (1.0,) * 300)]
        drawing = training_curve("Loss", series, [1, 2, 3])
        places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="18"', drawing)]
        assert len(places) == 4
        assert all(after - before >= 10 for before, after in pairwise(places))

    def test_kept_epoch_is_the_first_of_the_best(self, tmp_path: Path) -> None:
        scores = (0.2, 0.6, 0.6, 0.4)
        history = [{"stage": "all", "train_loss": 1.0, "macro_f1": score} for score in scores]
        text = multiclass().report(tmp_path, history=history)
        assert "The ring marks epoch 2" in text
        assert "<title>epoch 2: macro-F1 0.600</title>" in text
        assert "There was no validation part" not in text

    def test_without_validation_no_score_is_drawn(self, tmp_path: Path) -> None:
        row = {"stage": "all", "train_loss": 1.0, "validation_loss": None, "macro_f1": None}
        text = multiclass().report(tmp_path, history=[row])
        assert "There was no validation part" in text
        assert "Score on validation" not in text and "The ring" not in text
