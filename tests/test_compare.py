"""Two runs on the same pictures: statistics against published and brute-force figures, and
`taxon compare` from the command line to the page in a browser."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import fails, taxon, taxon_process
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import taxon as api
from taxon.api.common_pictures import Run, choose_pictures
from taxon.bundle.layout import ENTRIES, ModelSpec
from taxon.core.errors import DataError, OutputError
from taxon.core.fingerprint import sha256_file
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.data import Manifest, Record, read_manifest, write_manifest
from taxon.decision import DecisionPolicy
from taxon.evaluation import compute_metrics
from taxon.evaluation.comparison import Answers, PairedMetrics, compare_answers, write_page
from taxon.evaluation.comparison.figures import paired
from taxon.metrics import Figure, GroupBootstrap
from taxon.metrics.paired import holm, mcnemar, swap_test

CHROMIUM = Path("/usr/bin/chromium")
Targets = npt.NDArray[np.int64]
Copy = Callable[[Path], Path]
ONNX = Path("artefacts/onnx/model.onnx")


def answers(space: LabelSpace, probabilities: Any, **policy: Any) -> Answers:
    """A run that gives these probabilities, [N, C]."""
    values = np.asarray(probabilities, np.float32)
    ids = tuple(f"{row:04d}.png" for row in range(len(values)))
    chosen = DecisionPolicy.default(space).model_copy(update=policy)
    return Answers(PredictionTable(ids, space.names, values, values), space, chosen)


def naming(space: LabelSpace, named: Targets, confidence: float = 0.7) -> Answers:
    """A run that names these classes."""
    rest = (1 - confidence) / (len(space.names) - 1)
    probabilities = np.full((len(named), len(space.names)), rest)
    probabilities[np.arange(len(named)), named] = confidence
    return answers(space, probabilities)


def classes(count: int) -> LabelSpace:
    return LabelSpace.flat("multiclass", [f"class {position}" for position in range(count)])


def changed_from(
    n: int, *, fixed: int, broken: int, groups: Targets | None = None
) -> PairedMetrics:
    """Two classes and n pictures of the first, of which A gets `fixed` wrong and B `broken`; half
    of the pictures are of the second class, and right."""
    space, truth = classes(2), np.zeros(n, np.int64)
    truth[n // 2 :] = 1
    a, b = truth.copy(), truth.copy()
    a[:fixed] = 1
    b[fixed : fixed + broken] = 1
    return compare_answers(
        naming(space, a), naming(space, b), truth, space, groups=groups, about={}
    )


class TestStatistics:
    def test_mcnemar_worked(self) -> None:
        # Fagerland, Lydersen & Laake 2013, "The McNemar test for binary matched-pairs data": the
        # exact conditional test of their two examples.
        assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
        assert mcnemar(6, 16) == pytest.approx(0.0525, abs=5e-5)
        assert mcnemar(16, 6) == mcnemar(6, 16)
        assert mcnemar(0, 0) == 1.0

    def test_holm_worked(self) -> None:
        # The example of Wikipedia's article on the Holm-Bonferroni method, as adjusted p-values.
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
        assert len(holm([])) == 0

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    @settings(max_examples=50, deadline=None)
    def test_holm_rejects_what_the_step_down_procedure_rejects(self, values: list[float]) -> None:
        corrected = holm(values)
        rejected: set[int] = set()
        for step, position in enumerate(np.argsort(values, kind="stable").tolist()):
            if values[position] * (len(values) - step) > 0.05:
                break
            rejected.add(position)
        assert {row for row, value in enumerate(corrected) if value <= 0.05} == rejected
        assert (corrected >= np.array(values)).all() and (corrected <= 1).all()

    def test_swap_test_against_every_swap(self) -> None:
        groups = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9])
        generator = np.random.default_rng(3)
        a, b = generator.normal(size=(2, len(groups)))
        differences = np.array([(b - a)[groups == group].sum() for group in range(10)])
        signs = np.array(list(product((-1, 1), repeat=10)))
        expected = (abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
        bootstrap = GroupBootstrap(len(groups), groups, resamples=20_000)
        found = swap_test(bootstrap, a[:, None], b[:, None], lambda totals: totals[0])
        assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 20_000) ** 0.5)

    @pytest.mark.parametrize(("only_a", "only_b"), [(0, 4), (1, 7), (6, 16), (10, 10)])
    def test_swap_test_is_mcnemars_without_groups(self, only_a: int, only_b: int) -> None:
        metrics = changed_from(120, fixed=only_b, broken=only_a)
        expected = mcnemar(only_a, only_b)
        assert metrics.mcnemar.p_value == expected
        assert metrics.headline.p_value == pytest.approx(expected, abs=0.05)

    def test_differences_against_a_loop(self) -> None:
        space, n = classes(4), 90
        generator = np.random.default_rng(1)
        truth = np.arange(n) % 4
        groups = np.arange(n) // 3
        probabilities = [
            generator.dirichlet(np.ones(4), n) + strength * np.eye(4)[truth]
            for strength in (0.4, 0.7)
        ]
        probabilities = [rows / rows.sum(axis=1, keepdims=True) for rows in probabilities]
        sides = [answers(space, rows) for rows in probabilities]
        metrics = compare_answers(*sides, truth, space, groups=groups, about={})
        loop: dict[str, list[float]] = {}
        for weights in GroupBootstrap(n, groups).weights():
            for drawn in weights.T.astype(int):
                rows = np.repeat(np.arange(n), drawn[groups])
                one, other = (_figures(truth[rows], part[rows]) for part in probabilities)
                for name in one:
                    loop.setdefault(name, []).append(other[name] - one[name])
        whole = [_figures(truth, part) for part in probabilities]
        assert set(loop) == set(metrics.figures)
        for name, figure in metrics.figures.items():
            assert (figure.a.value, figure.b.value) == pytest.approx(
                (whole[0][name], whole[1][name])
            )
            assert figure.difference.value == pytest.approx(whole[1][name] - whole[0][name])
            expected = np.percentile(loop[name], [2.5, 97.5])
            np.testing.assert_allclose(figure.difference.ci95, expected, atol=1e-6)

    @pytest.mark.parametrize("in_groups", [False, True])
    def test_equal_classifiers_are_told_apart_in_5_per_cent(self, in_groups: bool) -> None:
        repetitions, n = 250, 100
        generator = np.random.default_rng(0)
        covered = rejected = 0
        for _ in range(repetitions):
            groups = np.arange(n) // 4 if in_groups else None
            # In groups: whether a run has a picture right is the same for the whole group.
            size = n // 4 if in_groups else n
            rights = generator.random((2, size)) < 0.8
            a, b = np.repeat(rights, n // size, axis=1)
            bootstrap = GroupBootstrap(n, groups)
            found = paired(
                bootstrap,
                Figure.of(a.mean()),
                Figure.of(b.mean()),
                bootstrap.means(a),
                bootstrap.means(b),
            )
            assert found.difference.ci95 is not None
            low, high = found.difference.ci95
            covered += low <= 0 <= high
            p_value = swap_test(bootstrap, a[:, None], b[:, None], lambda totals: totals[0])
            rejected += p_value < 0.05
        assert 0.92 <= covered / repetitions <= 0.98  # the standard error is 0.014
        assert rejected / repetitions <= 0.07


def _figures(truth: Targets, probabilities: npt.NDArray[Any]) -> dict[str, float]:
    """The figures of a resample, counted one by one."""
    said = probabilities.argmax(axis=1)
    recalls, f1s = [], []
    for position in np.unique(truth).tolist():
        hits = ((truth == position) & (said == position)).sum()
        support, named = (truth == position).sum(), (said == position).sum()
        recalls.append(hits / support)
        f1s.append(2 * hits / (support + named))
    return {
        "top1": float((said == truth).mean()),
        "macro_f1": float(np.mean(f1s)),
        "balanced_accuracy": float(np.mean(recalls)),
        "log_loss": float(-np.log(probabilities[np.arange(len(truth)), truth]).mean()),
    }


class TestVerdict:
    def test_better_worse_and_the_mirror(self) -> None:
        metrics, mirrored = (
            changed_from(200, fixed=20, broken=2),
            changed_from(200, fixed=2, broken=20),
        )
        assert (metrics.verdict.outcome, mirrored.verdict.outcome) == ("better", "worse")
        assert metrics.verdict.sentences[0].startswith("B is better: top-1 +9.0 points (")
        assert mirrored.verdict.sentences[0].startswith("B is worse: top-1 -9.0 points (-")
        assert "20 answers turned right, 2 turned wrong" in metrics.verdict.sentences[1]
        assert [len(metrics.of(kind)) for kind in ("fixed", "broken", "different")] == [20, 2, 0]
        for name, figure in metrics.figures.items():
            assert figure.difference.value == pytest.approx(
                -(mirrored.figures[name].difference.value or 0)
            )
        assert (metrics.mcnemar.only_a, metrics.mcnemar.only_b) == (2, 20)
        assert metrics.mcnemar.both_right == 178 and metrics.mcnemar.both_wrong == 0

    def test_four_pictures_prove_nothing(self) -> None:
        # The bootstrap alone would: a resample without any of four is rare (exp(-4)).
        metrics = changed_from(200, fixed=4, broken=0)
        assert metrics.headline.difference.ci95 is not None
        assert metrics.headline.difference.ci95[0] > 0
        assert metrics.verdict.outcome == "undecided"
        assert "chance alone makes such a difference (p = 0.1" in metrics.verdict.sentences[0]

    def test_undecided_says_what_could_have_been_seen(self) -> None:
        metrics = changed_from(400, fixed=12, broken=9)
        found = re.search(r"below (\d+\.\d) points", metrics.verdict.sentences[0])
        assert metrics.verdict.outcome == "undecided" and found is not None
        # The standard error of a difference of right and wrong pairs, by hand.
        error = ((12 + 9 - (12 - 9) ** 2 / 400) ** 0.5) / 400
        assert float(found.group(1)) == pytest.approx(280 * error, rel=0.1)

    def test_a_group_counts_once(self) -> None:
        groups = np.arange(200)
        groups[:20] = 0  # all that is fixed is of one part
        metrics = changed_from(200, fixed=20, broken=0, groups=groups)
        assert metrics.mcnemar.p_value < 0.001
        assert metrics.verdict.outcome == "undecided" and metrics.groups == 181
        assert any("McNemar's test takes pictures for inde" in s for s in metrics.verdict.sentences)

    def test_same_answers(self) -> None:
        metrics = changed_from(50, fixed=0, broken=0)
        assert metrics.verdict.outcome == "same" and metrics.changed == ()
        assert metrics.verdict.sentences == ("A and B give the same answers to all 50 pictures.",)
        for figure in metrics.figures.values():
            # An interval from 0 to 0 would claim certainty.
            assert figure.difference.value == 0 and figure.difference.ci95 is None
            assert figure.difference.reason
            assert figure.p_value == 1.0

    def test_always_wrong_beside_always_right(self) -> None:
        """Every resample has the same difference, and no interval: the swap test decides."""
        space, truth = classes(2), np.zeros(20, np.int64)
        wrong, right = naming(space, 1 - truth), naming(space, truth)
        metrics = compare_answers(wrong, right, truth, space, about={})
        assert metrics.headline.difference.ci95 is None
        assert metrics.verdict.outcome == "better"
        assert "+100.0 points" in metrics.verdict.sentences[0]

    def test_wrong_in_another_way(self) -> None:
        space, truth = classes(3), np.array([0, 1, 2] * 10)
        a, b = truth.copy(), truth.copy()
        a[0], b[0] = 1, 2
        metrics = compare_answers(naming(space, a), naming(space, b), truth, space, about={})
        (picture,) = metrics.changed
        assert (picture.change, picture.truth) == ("different", ("class 0",))
        assert (picture.answer_a, picture.answer_b) == (("class 1",), ("class 2",))
        assert metrics.verdict.outcome == "undecided"
        # Clopper and Pearson: 1 - 0.025 ** (1 / 30), of 10 groups 1 - 0.025 ** (1 / 10).
        assert "up to 11.6 % of pictures like these" in metrics.verdict.sentences[1]
        grouped = compare_answers(
            naming(space, a), naming(space, b), truth, space, groups=np.arange(30) // 3, about={}
        )
        assert "up to 30.8 % of pictures like these" in grouped.verdict.sentences[1]

    def test_a_gain_in_one_figure_does_not_hide_a_loss_in_another(self) -> None:
        space = classes(2)
        truth = np.array([0] * 500 + [1] * 30)
        a, b = truth.copy(), np.zeros(530, np.int64)  # B gives the rare class up ...
        a[:100] = 1  # ... of which A sees too much
        metrics = compare_answers(naming(space, a), naming(space, b), truth, space, about={})
        assert metrics.verdict.outcome == "better"
        words = " ".join(metrics.verdict.sentences)
        assert "B is worse in macro-F1" in words or "B is worse in balanced accuracy" in words
        assert "B is worse on 'class 1' (corrected for 2 classes)." in words
        assert metrics.per_class["class 1"].only_a == 30
        assert metrics.per_class["class 0"].only_b == 100

    def test_classes_without_pictures_are_not_tested(self) -> None:
        space, truth = classes(3), np.array([0, 1] * 20)
        wrong = truth.copy()
        wrong[:8:2] = 2
        metrics = compare_answers(
            naming(space, wrong), naming(space, truth), truth, space, about={}
        )
        absent = metrics.per_class["class 2"]
        assert (absent.support, absent.p_value, absent.corrected) == (0, None, None)
        assert absent.f1.difference.value is None and absent.f1.difference.reason
        first = metrics.per_class["class 0"]
        assert first.p_value == 0.125 and first.corrected == 0.25  # of two classes, not of three

    def test_each_by_its_own_policy(self) -> None:
        space, truth = classes(2), np.array([0, 1] * 20)
        probabilities = np.tile([0.6, 0.4], (40, 1))
        a = answers(space, probabilities)
        b = answers(space, probabilities, costs=((0.0, 1.0), (9.0, 0.0)))
        metrics = compare_answers(a, b, truth, space, about={})
        assert {picture.answer_b for picture in metrics.changed} == {("class 1",)}
        assert [picture.confidence_b for picture in metrics.changed] == pytest.approx([0.4] * 40)
        assert metrics.figures["log_loss"].difference.value == 0
        assert (metrics.mcnemar.only_a, metrics.mcnemar.only_b) == (20, 20)

    def test_taxonomy(self) -> None:
        space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "z")])
        truth = np.zeros(40, np.int64)
        truth[20:] = 2
        a, b = truth.copy(), truth.copy()
        a[:10], b[:10] = 2, 1  # of x, A says z, over the root; B says y, a sibling
        metrics = compare_answers(naming(space, a), naming(space, b), truth, space, about={})
        distance = metrics.figures["average_distance"]
        assert (distance.a.value, distance.b.value) == (0.5, 0.25)
        assert distance.outcome == "better" and metrics.headline.outcome == "undecided"
        assert "hierarchical distance -0.250" in " ".join(metrics.verdict.sentences)

    def test_refusals(self) -> None:
        space, truth = classes(2), np.array([0, 1])
        one, other = naming(space, truth), naming(classes(3), truth)
        with pytest.raises(DataError, match="other classes"):
            compare_answers(one, other, truth, space, about={})
        with pytest.raises(ValueError, match="same pictures"):
            compare_answers(one, naming(space, truth[:1]), truth, space, about={})
        broken = answers(space, np.full((2, 2), np.nan))
        with pytest.raises(DataError, match="not a number"):
            compare_answers(one, broken, truth, space, about={})


class TestTags:
    SPACE = LabelSpace.flat("multilabel", ["fog", "sea", "sun"])

    def test_worked(self) -> None:
        truth = np.array([[1, 0, UNKNOWN], [0, 1, 1], [1, UNKNOWN, 0], [0, 0, 1]])
        a = answers(
            self.SPACE, [[0.9, 0.1, 0.9], [0.9, 0.9, 0.9], [0.1, 0.9, 0.1], [0.9, 0.9, 0.1]]
        )
        b = answers(
            self.SPACE, [[0.9, 0.1, 0.1], [0.1, 0.9, 0.9], [0.1, 0.1, 0.1], [0.9, 0.1, 0.1]]
        )
        metrics = compare_answers(a, b, truth, self.SPACE, about={})
        # The first and the third differ where truth is unknown only: nothing changed.
        assert [(row.id, row.change) for row in metrics.changed] == [
            ("0001.png", "fixed"), ("0003.png", "different"),
        ]  # fmt: skip
        assert metrics.changed[0].answer_a == ("fog", "sea", "sun")
        assert metrics.changed[0].truth == ("sea", "sun")
        figures = {name: (each.a.value, each.b.value) for name, each in metrics.figures.items()}
        # Of the second and fourth picture all is known; A has neither right, B the second.
        assert figures["exact_match"] == (0.0, 0.5)
        # fog: A 1 right of 3 named and 2 true, B 1 of 2 and 2; sea: 1 of 2 and 1, 1 of 1 and 1;
        # sun: 1 of 1 and 2 for both.
        assert figures["macro_f1"] == pytest.approx(
            ((2 / 5 + 2 / 3 + 2 / 3) / 3, (2 / 4 + 1 + 2 / 3) / 3)
        )
        assert figures["micro_f1"] == pytest.approx((6 / 11, 6 / 9))
        tags = {name: (each.only_a, each.only_b) for name, each in metrics.per_class.items()}
        assert tags == {"fog": (0, 1), "sea": (0, 1), "sun": (0, 0)}
        assert metrics.verdict.figure == "macro_f1"

    def test_pictures_with_unknown_tags_are_not_judged(self) -> None:
        truth = np.array([[1, 0, 1], [0, 1, 1], [1, UNKNOWN, 0], [UNKNOWN, 0, 1], [0, 1, UNKNOWN]])
        named_a = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]])
        named_b = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 1, 1]])
        metrics = compare_answers(
            *(answers(self.SPACE, np.where(named, 0.9, 0.1)) for named in (named_a, named_b)),
            truth,
            self.SPACE,
            about={},
        )
        test = metrics.mcnemar
        assert (test.both_right, test.only_a, test.only_b, test.both_wrong) == (0, 1, 1, 0)
        assert test.judged == 2 and metrics.n == 5
        assert {(row.id, row.change) for row in metrics.changed} == {
            ("0000.png", "broken"), ("0001.png", "fixed"),
            ("0002.png", "not_judged"), ("0003.png", "not_judged"),  # the last: in no known tag
        }  # fmt: skip
        figure = metrics.figures["exact_match"]
        assert (figure.a.value, figure.b.value) == (0.5, 0.5)
        assert figure.a.reason == "over 2 pictures of 5; of the others some tags are unknown"
        assert "Of 3 pictures some tags are unknown: exact match and" in " ".join(
            metrics.verdict.sentences
        )

    def test_no_picture_is_judged(self) -> None:
        truth = np.array([[1, 0, UNKNOWN]] * 6)
        named = np.array([[1, 0, 0]] * 3 + [[1, 1, 0]] * 3)
        metrics = compare_answers(
            answers(self.SPACE, np.where(truth == 1, 0.9, 0.1)),
            answers(self.SPACE, np.where(named, 0.9, 0.1)),
            truth,
            self.SPACE,
            about={},
        )
        figure = metrics.figures["exact_match"]
        assert figure.difference.value is None and figure.p_value is None
        assert figure.difference.reason == "of no picture all tags are known"
        assert {row.change for row in metrics.changed} == {"not_judged"}
        assert metrics.verdict.outcome != "same" and len(metrics.changed) == 3

    def test_what_is_unknown_counts_nowhere(self) -> None:
        generator = np.random.default_rng(2)
        truth = generator.integers(0, 2, (80, 3))
        truth[generator.random((80, 3)) < 0.3] = UNKNOWN
        a, b = generator.random((2, 80, 3))
        scrambled = np.where(truth == UNKNOWN, generator.random((80, 3)), b)
        first, second = (
            compare_answers(
                answers(self.SPACE, a), answers(self.SPACE, other), truth, self.SPACE, about={}
            )
            for other in (b, scrambled)
        )
        assert first.figures == second.figures and first.mcnemar == second.mcnemar
        assert first.per_class == second.per_class

    def test_better_in_tags_though_no_picture_is_wholly_right(self) -> None:
        generator = np.random.default_rng(4)
        truth = generator.integers(0, 2, (300, 3))
        truth[:, 2] = 1
        good = np.where(truth == 1, 0.9, 0.1)
        good[:, 2] = 0.1
        poor = good.copy()
        poor[generator.random((300, 3)) < 0.3] = 0.6
        poor[:, 2] = 0.1
        metrics = compare_answers(
            answers(self.SPACE, poor), answers(self.SPACE, good), truth, self.SPACE, about={}
        )
        assert metrics.verdict.outcome == "better"
        assert metrics.figures["exact_match"].b.value == 0
        assert "better on 'fog', 'sea' (corrected for 3 tags)" in " ".join(
            metrics.verdict.sentences
        )

    def test_own_thresholds(self) -> None:
        truth = np.array([[1, 1, 1], [0, 0, 0]] * 10)
        probabilities = np.where(truth == 1, 0.4, 0.1)
        a = answers(self.SPACE, probabilities)
        b = answers(self.SPACE, probabilities, thresholds=(0.3, 0.3, 0.3))
        metrics = compare_answers(a, b, truth, self.SPACE, about={})
        assert metrics.figures["exact_match"].difference.value == 0.5
        assert metrics.figures["mAP"].difference.value == 0


class TestAsInMetricsJson:
    """The figures of each run, and their intervals, are those of its own evaluation."""

    @staticmethod
    def check(
        sides: tuple[Answers, Answers],
        truth: Targets,
        groups: Targets | None,
    ) -> PairedMetrics:
        space = sides[0].label_space
        compared = compare_answers(*sides, truth, space, groups=groups, about={})
        for name, side in zip("ab", sides, strict=True):
            own = compute_metrics(side.table, truth, space, side.policy, groups=groups, about={})
            alone = {"mAP": own.average_precision.macro}
            if own.taxonomy is not None:
                alone["average_distance"] = own.taxonomy.average_distance
            for figure, pair in compared.figures.items():
                expected = alone[figure] if figure in alone else getattr(own, figure)
                _same(getattr(pair, name), expected, figure)
            for label, entry in compared.per_class.items():
                _same(getattr(entry.recall, name), own.per_class[label].recall, label)
                _same(getattr(entry.f1, name), own.per_class[label].f1, label)
        return compared

    def test_without_a_mistake(self) -> None:
        space, truth = classes(3), np.arange(60) % 2  # of the third class there is no picture
        wrong = truth.copy()
        wrong[truth == 1] = 2
        wrong[0] = 1
        sides = naming(space, truth), naming(space, wrong)
        for groups in (None, np.arange(60) // 4):
            compared = self.check(sides, truth, groups)
            count = 60 if groups is None else 15
            end = 0.025 ** (1 / count)
            assert compared.figures["top1"].a.ci95 == pytest.approx((end, 1))
        alone = self.check(sides, truth, None).per_class["class 1"]
        share = 1 - 0.025 ** (1 / 31)  # 30 of the class, and one more that B names so
        assert alone.recall.b.ci95 == pytest.approx((0, 1 - 0.025 ** (1 / 30)))
        assert alone.f1.b.ci95 == pytest.approx((0, 2 * share / (1 + share)))

    def test_one_group(self) -> None:
        space, truth = classes(2), np.arange(20) % 2
        self.check((naming(space, truth), naming(space, 1 - truth)), truth, np.zeros(20, np.int64))

    def test_taxonomy(self) -> None:
        space = LabelSpace.taxonomy([("A", "x"), ("A", "y"), ("B", "z")])
        truth, other = np.random.default_rng(0).integers(0, 3, (2, 60))
        self.check((naming(space, truth), naming(space, other)), truth, np.arange(60) // 2)

    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 1.0]), st.booleans())
    @settings(max_examples=15, deadline=None)
    def test_tags(self, seed: int, unknown: float, in_groups: bool) -> None:
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 2, (24, 3))
        good = np.where(truth == 1, 0.9, 0.1)
        poor = np.abs(good - (generator.random((24, 3)) < 0.3) * generator.random((24, 3)))
        truth[generator.random((24, 3)) < unknown / 3] = UNKNOWN
        if unknown == 1.0:
            truth[:, 2] = UNKNOWN
        sides = answers(TestTags.SPACE, good), answers(TestTags.SPACE, poor)
        self.check(sides, truth, np.arange(24) // 3 if in_groups else None)


def _same(found: Figure, expected: Figure, name: str) -> None:
    assert found.reason == expected.reason, name
    assert found.value == pytest.approx(expected.value), name
    assert (found.ci95 is None) == (expected.ci95 is None), name
    if found.ci95 is not None:
        assert found.ci95 == pytest.approx(expected.ci95), name


def test_json_round_trip() -> None:
    truth = np.array([[1, 0, UNKNOWN]] * 6)
    space = TestTags.SPACE
    for metrics in (
        changed_from(30, fixed=3, broken=1),
        compare_answers(
            answers(space, np.full((6, 3), 0.9)),
            answers(space, np.full((6, 3), 0.2)),
            truth,
            space,
            about={"part": "test"},
        ),
    ):
        text = json.dumps(metrics.as_json(), allow_nan=False)
        assert PairedMetrics.model_validate_json(text) == metrics
        assert metrics.as_json()["schema_version"] == 1


# Which pictures --------------------------------------------------------------------------------


def run_of(name: str, parts: dict[str, str], **changes: dict[str, Any]) -> Run:
    """A run whose manifest has these pictures in these parts."""
    space = LabelSpace.flat("multiclass", ["a", "b"])
    records = tuple(
        replace(
            Record(id=f"{name}/{picture}", path=Path(picture), sha256=picture, labels=("a",)),
            split=part,
            **changes.get(picture, {}),
        )
        for picture, part in parts.items()
    )
    spec = ModelSpec(
        name=name,
        fingerprint=name,
        backbone="none",
        label_space=space,
        preprocessing={},
        policy=DecisionPolicy.default(space),
    )
    return Run(Path(name), spec, Manifest(records, space, Path(name)), None)


class TestPictures:
    def test_test_part_of_both(self) -> None:
        a = run_of("A", {"1": "test", "2": "test", "3": "test", "4": "train", "5": "test"})
        b = run_of("B", {"1": "test", "2": "validation", "3": "test", "4": "test", "6": "test"})
        manifest, notes = choose_pictures(a, b, None, None, None)
        assert [record.id for record in manifest.records] == ["B/1", "B/3"]
        assert notes == [
            "2 pictures that one of the runs trained, selected or calibrated on were left out",
            "2 pictures that only one of the runs has in the test part were left out",
        ]

    def test_a_copy_in_training_is_seen(self) -> None:
        a = run_of("A", {"1": "test", "2": "test"})
        b = run_of("B", {"1": "test", "2": "test", "copy": "train"}, copy={"sha256": "2"})
        manifest, notes = choose_pictures(a, b, None, None, None)
        assert [record.sha256 for record in manifest.records] == ["1"]
        assert notes[0].startswith("1 picture that one of the runs trained")

    def test_different_labels_and_groups_of_either(self) -> None:
        a = run_of("A", {"1": "test", "2": "test"}, **{"1": {"group": "part"}})
        b = run_of("B", {"1": "test", "2": "test"}, **{"2": {"labels": ("b",)}})
        manifest, notes = choose_pictures(a, b, None, None, None)
        assert [(record.id, record.group) for record in manifest.records] == [("B/1", "part")]
        assert notes == ["1 picture that the two runs have under different labels was left out"]
        c = run_of("C", {"1": "test"}, **{"1": {"labels": ("b",)}})
        with pytest.raises(DataError, match="different labels for all 1 pictures"):
            choose_pictures(a, c, None, None, None)

    def test_nothing_in_common(self) -> None:
        a, b = run_of("A", {"1": "test", "2": "train"}), run_of("B", {"1": "train", "2": "test"})
        with pytest.raises(DataError, match="name pictures that neither has seen: taxon compare A"):
            choose_pictures(a, b, None, None, None)
        manifest, notes = choose_pictures(a, b, None, "all", None)
        assert len(manifest) == 2
        assert notes == ["pictures that a run has seen are scored: they flatter it"]

    def test_the_part_that_they_were_selected_by(self) -> None:
        a = run_of("A", {"1": "validation", "2": "train", "3": "validation"})
        b = run_of("B", {"1": "validation", "2": "validation", "3": "validation"})
        with pytest.raises(DataError, match=r"A has 0, B 0.*--split val"):
            choose_pictures(a, b, None, None, None)
        manifest, notes = choose_pictures(a, b, None, "val", None)
        assert [record.id for record in manifest.records] == ["B/1", "B/3"]
        assert "only one of the runs has in the validation part" in notes[0]
        assert "flatter" in notes[1]


# The command ----------------------------------------------------------------------------------


def leaning(run: Path, copy: Path, name: str, amount: float = 50.0) -> Path:
    """Copy a model folder and give it a policy that leans to one class (or tag)."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "artefacts")  # they carry the old policy
    decision = copy / "decision.json"
    policy = DecisionPolicy.model_validate_json(decision.read_bytes())
    names = json.loads((copy / "labels.json").read_text())["names"]
    bias = [amount if name == each else 0.0 for each in names]
    decision.write_text(policy.with_bias(bias).model_dump_json())
    info = json.loads((copy / "bundle.json").read_text())
    info["files"]["decision.json"] = sha256_file(decision)
    (copy / "bundle.json").write_text(json.dumps(info))
    return copy


@pytest.fixture(scope="module")
def common(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It always says `good`, the most frequent class."""
    return leaning(run, tmp_path_factory.mktemp("lean") / "common", "good")


@pytest.fixture(scope="module")
def rare(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It always says `pit`, a rare class."""
    return leaning(run, tmp_path_factory.mktemp("lean") / "rare", "pit")


def contents(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "compare.json").read_text("utf-8")))


def test_command(common: Path, rare: Path, defects: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("compare", common, rare, defects, "--split", "all")
    done = taxon(*words, "--out", out)
    assert done.returncode == 0, done.stderr
    content = contents(out)
    counts = {name: entry["support"] for name, entry in content["per_class"].items()}
    n = sum(counts.values())
    assert content["n"] == n == 180
    assert content["figures"]["top1"]["a"]["value"] == pytest.approx(counts["good"] / n)
    assert content["figures"]["top1"]["b"]["value"] == pytest.approx(counts["pit"] / n)
    assert content["mcnemar"]["only_a"] == counts["good"]
    assert content["mcnemar"]["only_b"] == counts["pit"]
    assert content["verdict"]["outcome"] == "worse"
    assert content["about"]["a"]["name"] == "common" and content["about"]["data"] == str(defects)
    with (out / "changed.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kinds = [row["change"] for row in rows]
    assert kinds.count("broken") == counts["good"] and kinds.count("fixed") == counts["pit"]
    assert len(rows) == n and {row["answer_b"] for row in rows} == {"pit"}
    for part in (
        "180 pictures",
        "top-1",
        "95 % interval",
        "B is worse: top-1 -",
        "page: ",
        "note:",
    ):
        assert part in done.stdout, part
    line = fails(3, *words, "--out", out, "--overwrite", "--fail-if-worse", saying="B is worse")
    assert "points" in line
    better = ("compare", rare, common, defects, "--split", "all", "--fail-if-worse")
    assert taxon(*better, "--out", tmp_path / "other").returncode == 0
    assert contents(tmp_path / "other")["verdict"]["outcome"] == "better"
    fails(2, *words, "--out", out, saying="add --overwrite")


def test_own_test_part_as_a_process(run: Path, copy_of: Copy) -> None:
    folder = copy_of(run)
    done = taxon_process("compare", run, folder)  # both answer by ONNX: no torch is loaded
    assert done.returncode == 0, done.stderr
    tested = len(read_manifest(run / "manifest.parquet").part("test"))
    assert f"A and B give the same answers to all {tested} pictures." in done.stdout
    content = contents(folder / "comparisons" / run.name)
    assert content["n"] == tested and content["changed"] == []
    assert content["about"]["part"] == "test part of both"
    assert "comparisons" in ENTRIES  # so that `train --overwrite` may replace the folder


def test_folders_by_name(run: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(run)
    first = api.compare(run, folder)
    assert first.folder == folder / "comparisons" / run.name
    assert api.compare(run, folder).folder == first.folder  # the same again replaces it
    namesake = Path(shutil.copytree(run, tmp_path / "elsewhere" / run.name))
    assert api.compare(namesake, folder).folder == folder / "comparisons" / f"{run.name}-2"
    (first.folder / "compare.json").write_text("{")
    assert api.compare(run, folder).folder == folder / "comparisons" / f"{run.name}-3"


@pytest.mark.parametrize("step", ["page", "table"])
def test_interrupted_while_it_writes(
    run: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = copy_of(run)
    first = api.compare(run, folder)
    old = first.folder / "compare.json"
    assert old.is_file()

    def fails_to_write(path: Path, *_: Any, **__: Any) -> None:
        assert not old.exists()  # else it would lie beside files of another comparison
        raise OutputError(f"cannot write {path}: the disk is full")

    with monkeypatch.context() as patched:
        if step == "page":
            patched.setattr("taxon.evaluation.comparison.write_page", fails_to_write)
        else:
            patched.setattr("taxon.api.comparing.write_text", fails_to_write)
        with pytest.raises(OutputError, match="the disk is full"):
            api.compare(run, folder)
    assert not old.exists()
    assert api.compare(run, folder).folder == first.folder
    assert old.is_file()


def test_artefact_alone(
    run: Path, defects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = Path(shutil.copy(run / ONNX, tmp_path / "model.onnx"))
    fails(2, "compare", run, artefact, saying=f"taxon compare {run} {artefact} DATA")
    monkeypatch.chdir(tmp_path)
    result = api.compare(run, artefact, defects)
    assert result.folder == Path("comparisons") / f"{run.name}-{defects.name}"
    assert result.metrics.verdict.outcome == "same"
    manifest = read_manifest(run / "manifest.parquet")
    assert result.metrics.n == len(manifest.part("test"))  # the rest the run has seen
    seen = len(manifest) - result.metrics.n
    assert result.notes == (
        f"{seen} pictures that one of the runs trained, selected or calibrated on were left out",
        f"it is not known on which pictures {artefact} was trained, an artefact alone: it may have "
        "seen those that are scored",
    )


def test_data_that_a_run_has_seen(run: Path, common: Path, defects: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    for record in read_manifest(run / "manifest.parquet").part("train").records[:20]:
        target = seen / record.id
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.path, target)
    fails(2, "compare", run, common, seen, "--out", tmp_path / "o", saying="add --split all")
    assert not (tmp_path / "o").exists()
    fails(2, "compare", run, common, "--split", "tset", saying="Did you mean 'test'?")
    fails(2, "compare", run, common, defects, "--split", "val", saying="names no parts")


def test_pictures_that_are_gone(run: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(run)
    manifest = read_manifest(folder / "manifest.parquet")
    first = manifest.part("test").records[0]
    moved = tuple(
        replace(record, path=tmp_path / "gone.png") if record.id == first.id else record
        for record in manifest.records
    )
    write_manifest(replace(manifest, records=moved), folder / "manifest.parquet")
    result = api.compare(run, folder)
    assert result.metrics.n == len(manifest.part("test")) - 1
    assert "1 pictures are gone or have changed since training: left out" in result.notes


def test_other_classes_and_other_tasks(
    run: Path, tags_run: Path, surfaces_run: Path, tmp_path: Path
) -> None:
    line = fails(2, "compare", run, surfaces_run, saying="different classes")
    assert f"{surfaces_run} lacks 'crack', " in line and f"{run} lacks " in line
    fails(2, "compare", run, tags_run, saying="only runs of one task can be compared")
    fails(2, "compare", run, tmp_path / "none", saying="neither a model folder")


def test_tags_with_unknown_ones(tags: Path, tags_run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tags_run / "manifest.parquet")
    first = manifest.label_space.names[0]
    table = tmp_path / "tags.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "tags"])
        for record in manifest.records:
            known = [name for name in record.labels if name != first]
            writer.writerow([record.path, "|".join([*known, f"?{first}"])])
    never = leaning(tags_run, tmp_path / "never", manifest.label_space.names[1], -50.0)
    always = leaning(tags_run, tmp_path / "always", manifest.label_space.names[1])
    result = api.compare(never, always, table, split="all", out=tmp_path / "out")
    metrics = result.metrics
    assert metrics.n == len(manifest) and metrics.task == "multilabel"
    entry = metrics.per_class[first]
    assert (entry.support, entry.p_value) == (0, None)
    leant = metrics.per_class[manifest.label_space.names[1]]
    assert leant.recall.b.value == 1.0
    assert any("unknown" in note for note in result.notes)
    assert metrics.changed
    assert all(f"?{first}" in picture.truth for picture in metrics.changed)
    assert {picture.change for picture in metrics.changed} == {"not_judged"}
    assert metrics.mcnemar.judged == 0
    assert "Some tags unknown" in result.page.read_text("utf-8")
    assert "tags" in result.page.read_text("utf-8")


def test_taxonomy_run(surfaces_run: Path, tmp_path: Path) -> None:
    name = read_manifest(surfaces_run / "manifest.parquet").label_space.names[0]
    lean = leaning(surfaces_run, tmp_path / "lean", name)
    result = api.compare(surfaces_run, lean, out=tmp_path / "out")
    assert result.metrics.figures["average_distance"].b.value is not None
    assert {picture.answer_b for picture in result.metrics.changed} == {(name,)}
    with pytest.raises(OutputError, match="not empty"):
        api.compare(surfaces_run, lean, out=tmp_path / "out")


# The page -------------------------------------------------------------------------------------


def jpeg(side: int = 64) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


def test_page_is_small_whole_and_escaped(tmp_path: Path) -> None:
    bad = '<b>&"'
    space = LabelSpace.flat("multiclass", [bad, "z"])
    truth = np.arange(1000) % 2
    about = {"a": {"name": bad}, "b": {"name": "new"}, "part": bad, "left_out": [bad]}
    metrics = compare_answers(
        naming(space, 1 - truth), naming(space, truth), truth, space, about=about
    )
    asked: list[str] = []

    def thumbnails(picture: str) -> bytes:
        asked.append(picture)
        return jpeg(96)

    write_page(tmp_path / "compare.html", metrics, taxonomy=False, thumbnails=thumbnails)
    text = (tmp_path / "compare.html").read_text("utf-8")
    assert "<b>&" not in text and "&lt;b&gt;&amp;" in text
    assert len(asked) == 60 and len(text) < 5_000_000
    assert "The 60 of 1000 in which B is most confident" in text
    assert "<script" not in text and not re.search(r"(src|href)=\"(?!#|data:)", text)


@pytest.mark.parametrize("taxonomy", [False, True])
def test_page_cuts_names_of_a_taxonomy_only(tmp_path: Path, taxonomy: bool) -> None:
    names = ["black/white", "colour/red"]
    space = (
        LabelSpace.taxonomy([name.split("/") for name in names])
        if taxonomy
        else LabelSpace.flat("multiclass", names)
    )
    truth = np.arange(20) % 2
    metrics = compare_answers(
        naming(space, 1 - truth), naming(space, truth), truth, space, about={}
    )
    page = tmp_path / "compare.html"
    write_page(page, metrics, taxonomy=space.is_taxonomy, thumbnails=lambda _: None)
    text = page.read_text("utf-8")
    assert (">white</th>" in text, ">black/white</th>" in text) == (taxonomy, not taxonomy)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM} (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    names = ["a long name of a class that goes on" * 2, *(f"class {each}" for each in range(12))]
    space = LabelSpace.flat("multiclass", names)
    generator = np.random.default_rng(0)
    truth, a, b = generator.integers(0, 13, (3, 200))
    a[:60], b[50:140] = truth[:60], truth[50:140]
    about = {"a": {"name": "runs/old-" + "x" * 80}, "b": {"name": "new"}, "part": "test"}
    metrics = compare_answers(naming(space, a), naming(space, b), truth, space, about=about)
    write_page(tmp_path / "compare.html", metrics, taxonomy=False, thumbnails=lambda _: jpeg())
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "compare.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", ground)[0])
    assert (red < 60) is (scheme == "dark")
    # By keyboard alone: what is folded opens.
    page.focus("#different summary")
    assert not page.is_visible("#different .gallery")
    page.keyboard.press("Enter")
    assert page.is_visible("#different .gallery")
    assert page.inner_text(".outcome").replace("\u00a0", " ") == metrics.verdict.sentences[0]
    assert page.locator("#classes tbody tr").count() == 13
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    page.close()
