"""Classes that nest: the tree, losses, answers and figures, against numbers by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import TINY_BACKBONE
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

import taxon
from taxon.bundle import read_bundle
from taxon.bundle.layout import ModelSpec
from taxon.config import ImbalanceConfig, ImbalanceStrategy, LossConfig
from taxon.core.errors import ConfigError, DataError
from taxon.core.fingerprint import sha256_file
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.data.imbalance import choose, class_weights
from taxon.decision import DecisionPolicy, decide
from taxon.decision.answers import named_classes
from taxon.evaluation import compute_metrics, summary_rows
from taxon.exporters.parity import compare_backends
from taxon.inference import Outputs
from taxon.metrics import GroupBootstrap, taxonomy_scores
from taxon.preprocessing import Preprocessing
from taxon.training.losses import build_loss
from taxon.training.taxonomy_losses import HierarchicalLoss, LevelsLoss

ONES = np.ones(4)
FLOATS = npt.NDArray[np.float64]
# In order: Fruit/Apple, Fruit/Citrus/Lemon, Fruit/Citrus/Lime, Tool. Heights: Fruit 2, Citrus 1.
UNEVEN = LabelSpace.taxonomy(
    [("Fruit", "Apple"), ("Fruit", "Citrus", "Lemon"), ("Fruit", "Citrus", "Lime"), ("Tool",)]
)
FRUIT = LabelSpace.taxonomy([("Fruit", "Apple"), ("Fruit", "Pear"), ("Tool", "Axe")])

# The first call of torch takes longer than hypothesis allows.
quick = settings(deadline=None, max_examples=60)


@st.composite
def spaces(draw: st.DrawFn) -> LabelSpace:
    """Trees of any shape: leaves at several depths, branches with one child."""
    words = st.sampled_from(["a", "a-b", "a b", "b", "c", "Z", "é"])
    paths = draw(st.lists(st.lists(words, min_size=1, max_size=4), min_size=2, max_size=12))
    leaves = {tuple(path) for path in paths}
    inner = {leaf[:depth] for leaf in leaves for depth in range(1, len(leaf))}
    assume(len(leaves - inner) > 1)
    return LabelSpace.taxonomy(leaves - inner)


def least_risk(space: LabelSpace) -> DecisionPolicy:
    return DecisionPolicy.default(space).model_copy(update={"taxonomy_rule": "least-risk"})


def rows(space: LabelSpace, seed: int, count: int = 5, sharpness: float = 1.0) -> npt.NDArray:
    """Float32 [N, C] of probabilities."""
    drawn = np.random.default_rng(seed).gamma(sharpness, size=(count, len(space.names))) + 1e-12
    return (drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)


def lca_height(space: LabelSpace, first: str, second: str) -> int:
    """By the definition, over the paths: edges from the deepest shared node to its deepest leaf."""
    shared = [a for a, b in zip(space.path(first), space.path(second), strict=False) if a == b]
    below = [name for name in space.names if space.path(name)[: len(shared)] == tuple(shared)]
    return max(len(space.path(name)) for name in below) - len(shared)


def reference_loss(space: LabelSpace, logits: FLOATS, kind: str, alpha: float) -> FLOATS:
    """What each class costs, float64 [N, C], by the formulas, over sets of names."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)

    def of(node: str) -> FLOATS:
        below = [i for i, name in enumerate(space.names) if node in space.path(name)]
        return p[:, below].sum(axis=1)

    costs = np.zeros_like(p)
    for position, name in enumerate(space.names):
        path = space.path(name)
        if kind == "levels":
            padded = [*path, *[name] * (space.depth - len(path))]
            costs[:, position] = -sum(np.log(of(node)) for node in padded)
            continue
        for number, node in enumerate(path):
            deepest = max(
                len(space.path(other)) for other in space.names if node in space.path(other)
            )
            above = of(path[number - 1]) if number else 1.0
            weight = np.exp(-alpha * (deepest - number - 1))
            costs[:, position] -= weight * np.log(of(node) / above)
    return costs


class TestTree:
    def test_heights_of_common_ancestors_by_hand(self) -> None:
        names = range(4)
        heights = [
            UNEVEN.tree.lca_heights(np.full(4, first), np.arange(4)).tolist() for first in names
        ]
        assert heights == [[0, 2, 2, 3], [2, 0, 1, 3], [2, 1, 0, 3], [3, 3, 3, 0]]

    def test_shared_nodes_by_hand(self) -> None:
        shared = [
            UNEVEN.tree.shared_nodes(np.full(4, first), np.arange(4)).tolist() for first in range(4)
        ]
        assert shared == [[2, 1, 1, 0], [1, 3, 2, 0], [1, 2, 3, 0], [0, 0, 0, 1]]

    @quick
    @given(spaces())
    def test_heights_equal_the_definition(self, space: LabelSpace) -> None:
        classes = np.arange(len(space.names))
        for first in classes:
            found = space.tree.lca_heights(np.full(len(classes), first), classes)
            expected = [lca_height(space, space.names[first], other) for other in space.names]
            assert found.tolist() == expected

    @quick
    @given(spaces(), st.integers(0, 1000))
    def test_levels_sum_to_one_and_no_child_outranks_its_parent(
        self, space: LabelSpace, seed: int
    ) -> None:
        probabilities = rows(space, seed, sharpness=0.05)
        rolled = space.tree.roll_up(probabilities)
        for level, sums in zip(space.tree.levels, rolled, strict=True):
            assert sums.shape == (5, len(level.nodes))
            np.testing.assert_allclose(sums.sum(axis=1), probabilities.sum(axis=1, dtype=float))
            for position, node in enumerate(level.nodes):
                below = [i for i, name in enumerate(space.names) if node in space.path(name)]
                expected = probabilities[:, below].sum(axis=1, dtype=np.float64)
                np.testing.assert_allclose(sums[:, position], expected, rtol=1e-12)
        for level, sums, above in zip(space.tree.levels[1:], rolled[1:], rolled, strict=False):
            assert (sums <= above[:, level.parent_of_node]).all()  # to the last bit

    @quick
    @given(spaces(), st.integers(0, 1000))
    def test_a_row_comes_out_the_same_alone_and_among_others(
        self, space: LabelSpace, seed: int
    ) -> None:
        probabilities = rows(space, seed, count=7)
        together = space.tree.closeness(probabilities)
        alone = [space.tree.closeness(row[None])[0] for row in probabilities]
        np.testing.assert_array_equal(together, alone)

    def test_no_rows_at_all(self) -> None:
        assert [sums.shape for sums in UNEVEN.tree.roll_up(np.zeros((0, 4)))] == [
            (0, 2), (0, 3), (0, 4),
        ]  # fmt: skip


class TestLosses:
    LOGITS = np.random.default_rng(0).normal(size=(20, 4)) * 4

    @staticmethod
    def _loss(kind: str, space: LabelSpace = UNEVEN, alpha: float = 0.5) -> torch.nn.Module:
        config = LossConfig.model_validate({"taxonomy": kind, "taxonomy_alpha": alpha})
        return build_loss(space, None, config)

    def test_two_levels_by_hand(self) -> None:
        # p = 1/2, 1/4, 1/4; Fruit 3/4. Of Apple: p(Fruit) 3/4, p(Apple | Fruit) 2/3.
        logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
        apple = torch.tensor([0])
        expected = -np.exp(-0.5) * np.log(3 / 4) - np.log(2 / 3)
        assert self._loss("hierarchical", FRUIT)(logits, apple).tolist() == pytest.approx(
            [expected]
        )
        expected = -np.log(3 / 4) - np.log(1 / 2)
        assert self._loss("levels", FRUIT)(logits, apple).tolist() == pytest.approx([expected])

    @quick
    @given(spaces(), st.sampled_from(["hierarchical", "levels"]), st.floats(0, 3), st.integers(0))
    def test_equal_to_a_float64_reference(
        self, space: LabelSpace, kind: str, alpha: float, seed: int
    ) -> None:
        assume(space.is_taxonomy)
        generator = np.random.default_rng(seed % 1000)
        logits = generator.normal(size=(3, len(space.names))) * 5
        targets = generator.integers(0, len(space.names), 3)
        found = self._loss(kind, space, alpha)(
            torch.tensor(logits, dtype=torch.float32), torch.tensor(targets)
        )
        costs = reference_loss(space, logits, kind, alpha)
        np.testing.assert_allclose(found, costs[np.arange(3), targets], rtol=2e-5, atol=2e-5)

    @quick
    @given(st.integers(0, 1000), st.sampled_from([0.0, 0.1]))
    def test_without_alpha_it_is_the_cross_entropy_of_torch(
        self, seed: int, smoothing: float
    ) -> None:
        logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)) * 3
        targets = torch.arange(8) % 4
        expected = functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=smoothing
        )
        config = LossConfig(taxonomy="hierarchical", taxonomy_alpha=0, label_smoothing=smoothing)
        found = build_loss(UNEVEN, None, config)(logits, targets)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["hierarchical", "levels"])
    def test_label_smoothing_mixes_in_the_cost_of_all_classes(self, kind: str) -> None:
        logits = torch.tensor(self.LOGITS, dtype=torch.float32)
        plain = self._loss(kind)
        each = torch.stack([plain(logits, torch.full((20,), c)) for c in range(4)], dim=1)
        config = LossConfig.model_validate(
            {"taxonomy": kind, "taxonomy_alpha": 0.5, "label_smoothing": 0.2}
        )
        smoothed = build_loss(UNEVEN, None, config)(logits, torch.full((20,), 2))
        torch.testing.assert_close(smoothed, 0.8 * each[:, 2] + 0.2 * each.mean(dim=1))

    @pytest.mark.parametrize("alpha", [0.0, 0.4, 10.0])
    def test_of_one_level_it_is_exactly_plain_cross_entropy(self, alpha: float) -> None:
        tree = LabelSpace.flat("multiclass", "abcd").tree
        logits = torch.tensor(self.LOGITS, dtype=torch.float32)
        targets = torch.arange(20) % 4
        plain = functional.cross_entropy(logits, targets, reduction="none")
        for loss in (HierarchicalLoss(tree, ONES, 0.0, alpha), LevelsLoss(tree, ONES, 0.0)):
            assert torch.equal(loss(logits, targets), plain)

    @pytest.mark.parametrize("kind", ["hierarchical", "levels"])
    def test_blended_targets_cost_the_mean_of_their_classes(self, kind: str) -> None:
        logits = torch.tensor(self.LOGITS, dtype=torch.float32)
        loss = self._loss(kind)
        first, second = (loss(logits, torch.full((20,), c)) for c in (1, 3))
        blended = torch.tensor([[0.0, 0.3, 0.0, 0.7]]).expand(20, 4)
        torch.testing.assert_close(loss(logits, blended), 0.3 * first + 0.7 * second)

    @pytest.mark.parametrize("kind", ["hierarchical", "levels"])
    def test_class_weights_multiply_the_cost_of_a_class(self, kind: str) -> None:
        counts = {"Fruit/Apple": 90, "Fruit/Pear": 9, "Tool/Axe": 1}
        plan = choose(
            ImbalanceConfig(strategy=("class-weights",)),
            counts,
            "multiclass",
            pictures=100,
            taxonomy_loss="levels",
        )
        config = LossConfig.model_validate({"taxonomy": kind})
        logits = torch.tensor(self.LOGITS[:, :3], dtype=torch.float32)
        targets = torch.arange(20) % 3
        weighted = build_loss(FRUIT, plan, config)(logits, targets)
        plain = build_loss(FRUIT, None, config)(logits, targets)
        of_picture = torch.tensor(class_weights(plan), dtype=torch.float32)[targets]
        torch.testing.assert_close(weighted, plain * of_picture)

    @pytest.mark.parametrize("kind", ["hierarchical", "levels"])
    @pytest.mark.parametrize("size", [0.0, 1e-30, 50.0, 1e4, 1e30])
    def test_values_and_gradients_are_finite_at_extreme_logits(
        self, kind: str, size: float
    ) -> None:
        logits = torch.tensor([[size, -size, 0.0, size]] * 4, requires_grad=True)
        values = self._loss(kind)(logits, torch.arange(4))
        values.sum().backward()
        assert torch.isfinite(values).all() and (values >= -1e-6).all()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()

    def test_gradients_equal_finite_differences(self) -> None:
        for kind in ("hierarchical", "levels"):
            loss = self._loss(kind).double()
            logits = torch.tensor(self.LOGITS[:4], requires_grad=True)
            assert torch.autograd.gradcheck(lambda x, f=loss: f(x, torch.arange(4)), (logits,))

    def test_a_mistake_within_the_branch_costs_less_at_one_level(self) -> None:
        """Levels: of two answers with the same probability for the truth, the near one."""
        near = torch.log(torch.tensor([[0.2, 0.7, 0.1]]))  # for Apple: Pear instead
        far = torch.log(torch.tensor([[0.2, 0.1, 0.7]]))  # Axe instead
        loss = self._loss("levels", FRUIT)
        assert loss(near, torch.tensor([0])) < loss(far, torch.tensor([0]))


class TestRefusals:
    @pytest.mark.parametrize("strategy", ["focal", "balanced-softmax", "logit-adjust"])
    def test_strategies_that_change_the_loss_of_single_classes(
        self, strategy: ImbalanceStrategy
    ) -> None:
        counts = dict.fromkeys(FRUIT.names, 3)
        plan = choose(ImbalanceConfig(strategy=(strategy,)), counts, "multiclass", pictures=9)
        with pytest.raises(ConfigError, match=f"'{strategy}' is defined for a loss over single"):
            build_loss(FRUIT, plan, LossConfig(taxonomy="levels"))

    def test_flat_classes(self) -> None:
        flat = LabelSpace.flat("multiclass", "ab")
        with pytest.raises(ConfigError, match="needs classes that nest"):
            build_loss(flat, None, LossConfig(taxonomy="hierarchical"))

    def test_auto_does_nothing_about_rare_classes_and_says_why(self) -> None:
        counts = {"a": 100, "b": 5}
        plan = choose(ImbalanceConfig(), counts, "multiclass", pictures=105, taxonomy_loss="levels")
        assert plan.strategies == ("none",)
        assert "focal loss does not go with loss.taxonomy=levels" in plan.sentence()

    @pytest.mark.parametrize(
        ("override", "saying"),
        [
            ("loss.taxonomy=levels", "loss.taxonomy=levels follows a taxonomy.*--parents"),
            ("decision.taxonomy_rule=least-risk", "taxonomy_rule=least-risk follows a taxonomy"),
        ],
    )
    def test_training_on_flat_classes_before_pictures_are_read(
        self, override: str, saying: str, tmp_path: Path
    ) -> None:
        for name in "ab":
            (tmp_path / "data" / name).mkdir(parents=True)
            (tmp_path / "data" / name / "x.png").write_bytes(b"no picture")
        with pytest.raises(ConfigError, match=saying):
            taxon.train(
                tmp_path / "data", out=tmp_path / "run", weights="none", overrides=[override]
            )


class TestLeastRisk:
    def test_by_hand(self) -> None:
        """The axe is the most probable; any fruit is nearer to most of the rest."""
        probabilities = np.array([0.3, 0.3, 0.4], np.float32)
        policy = DecisionPolicy.default(FRUIT)
        assert decide("x", probabilities, FRUIT, policy).label == "Tool/Axe"
        careful = policy.model_copy(update={"taxonomy_rule": "least-risk", "abstain_below": 0.35})
        answer = decide("x", probabilities, FRUIT, careful)
        # Expected heights: Apple 0.3 * 1 + 0.4 * 2 = 1.1, Pear the same, Axe 0.6 * 2 = 1.2.
        assert (answer.label, answer.labels) == ("Fruit/Apple", ("Fruit/Apple",))
        assert answer.confidence == pytest.approx(0.3) and answer.unsure
        assert answer.top[0].label == "Tool/Axe" and answer.top[0].probability == pytest.approx(0.4)
        assert answer.taxonomy == ("Fruit",)

    @quick
    @given(spaces(), st.integers(0, 1000), st.sampled_from([0.05, 0.3, 1.0, 10.0]))
    def test_equals_brute_force(self, space: LabelSpace, seed: int, sharpness: float) -> None:
        probabilities = rows(space, seed, sharpness=sharpness)
        heights = np.array([[lca_height(space, a, b) for b in space.names] for a in space.names])
        risks = probabilities.astype(np.float64) @ heights
        named = named_classes(probabilities, space, least_risk(space))
        np.testing.assert_allclose(risks[np.arange(5), named], risks.min(axis=1), atol=1e-6)
        if space.is_taxonomy:
            closeness = 1 - risks / space.depth
            np.testing.assert_allclose(space.tree.closeness(probabilities), closeness, atol=1e-6)

    @quick
    @given(st.integers(0, 1000))
    def test_of_flat_classes_is_the_most_probable(self, seed: int) -> None:
        space = LabelSpace.flat("multiclass", "abcd")
        probabilities = rows(space, seed)
        named = named_classes(probabilities, space, least_risk(space))
        assert named.tolist() == probabilities.argmax(axis=1).tolist()

    @quick
    @given(spaces(), st.integers(0, 1000), st.sampled_from(["most-probable", "least-risk"]))
    def test_rows_and_table_agree(self, space: LabelSpace, seed: int, rule: str) -> None:
        probabilities = rows(space, seed)
        policy = DecisionPolicy.default(space).model_copy(update={"taxonomy_rule": rule})
        alone = [decide("x", row, space, policy).label for row in probabilities]
        named = named_classes(probabilities, space, policy)
        assert alone == [space.names[position] for position in named]

    def test_old_decision_files_load(self) -> None:
        old = DecisionPolicy.default(FRUIT).model_dump()
        del old["taxonomy_rule"]
        assert DecisionPolicy.model_validate_json(json.dumps(old)).taxonomy_rule == "most-probable"

    @pytest.mark.parametrize(("rule", "changed"), [("most-probable", 0), ("least-risk", 1)])
    def test_parity_compares_the_answers_of_the_rule(self, rule: str, changed: int) -> None:
        """The most probable class is the same for both, the one of least risk is not."""

        class Fixed:
            name = "fixed"

            def __init__(self, *values: float) -> None:
                self.row = np.array([values], np.float32)

            def run(self, images: object) -> Outputs:
                return Outputs(logits=self.row, probabilities=self.row)

        policy = DecisionPolicy.default(FRUIT).model_copy(update={"taxonomy_rule": rule})
        spec = ModelSpec(
            name="m",
            fingerprint="f",
            backbone="b",
            label_space=FRUIT,
            preprocessing=Preprocessing(),
            policy=policy,
        )
        # Expected heights, left: Apple 1.1, Axe 1.2; right: Apple 1.2, Axe 1.0.
        report = compare_backends(
            Fixed(0.2, 0.3, 0.5), Fixed(0.3, 0.3, 0.4), [np.zeros((1, 3, 2, 2), np.uint8)], ["x"],
            spec, targets=np.array([0]),
        )  # fmt: skip
        assert report.changed_decisions == changed
        assert report.top1 == {"reference": float(rule == "least-risk"), "artefact": 0.0}


class TestFigures:
    def test_by_hand(self) -> None:
        # Lemon right, Lemon taken for Lime (1), for Apple (2), Apple for Tool (3).
        targets, predicted = np.array([1, 1, 1, 0]), np.array([1, 2, 0, 3])
        scores = taxonomy_scores(targets, predicted, UNEVEN.tree, GroupBootstrap(4))
        assert scores.mistake_height.value == pytest.approx(6 / 3)
        assert scores.distance.value == pytest.approx(6 / 4)
        # Shared nodes 3 + 2 + 1 + 0; named 3 + 3 + 2 + 1; true 3 + 3 + 3 + 2.
        assert scores.precision.value == pytest.approx(6 / 9)
        assert scores.recall.value == pytest.approx(6 / 11)
        assert scores.f1.value == pytest.approx(12 / 20)

    def test_without_a_mistake_their_height_is_undefined(self) -> None:
        right = np.array([0, 1, 2])
        scores = taxonomy_scores(right, right, UNEVEN.tree, GroupBootstrap(3))
        assert scores.mistake_height.value is None
        assert scores.mistake_height.reason == "there is no mistake"
        assert scores.distance.value == 0 and scores.f1.value == 1

    def test_no_pictures(self) -> None:
        none = np.array([], np.int64)
        with pytest.raises(DataError, match="no pictures"):
            taxonomy_scores(none, none, UNEVEN.tree, GroupBootstrap(1))

    def test_intervals_equal_resampling_by_hand(self) -> None:
        generator = np.random.default_rng(0)
        targets, predicted = generator.integers(0, 4, (2, 60))
        groups = np.repeat(np.arange(20), 3)
        bootstrap = GroupBootstrap(60, groups)
        scores = taxonomy_scores(targets, predicted, UNEVEN.tree, bootstrap)
        weights = np.concatenate(list(bootstrap.weights()), axis=1)[groups]  # [N, R]
        heights = np.array(
            [
                lca_height(UNEVEN, UNEVEN.names[a], UNEVEN.names[b])
                for a, b in zip(targets, predicted, strict=True)
            ]
        )
        means = (weights * heights[:, None]).sum(axis=0) / weights[heights > 0].sum(axis=0)
        assert scores.mistake_height.ci95 == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))

    def test_a_single_group_has_no_interval(self) -> None:
        bootstrap = GroupBootstrap(2, np.zeros(2, np.int64))
        scores = taxonomy_scores(np.array([0, 1]), np.array([1, 1]), UNEVEN.tree, bootstrap)
        assert scores.distance.value == 1 and scores.distance.ci95 is None

    @quick
    @given(spaces(), st.integers(0, 1000))
    def test_bounds(self, space: LabelSpace, seed: int) -> None:
        targets, predicted = np.random.default_rng(seed).integers(0, len(space.names), (2, 9))
        scores = taxonomy_scores(targets, predicted, space.tree, GroupBootstrap(9, resamples=20))
        right = float((targets == predicted).mean())
        for figure in (scores.precision, scores.recall, scores.f1):
            assert figure.value is not None and figure.value <= 1
        if right < 1:
            assert scores.mistake_height.value is not None
            assert 1 <= scores.mistake_height.value <= space.depth
            assert scores.distance.value == pytest.approx(scores.mistake_height.value * (1 - right))

    @pytest.mark.parametrize("rule", ["most-probable", "least-risk"])
    def test_evaluation_measures_the_answers_of_the_policy(self, rule: str) -> None:
        probabilities = np.array([[0.3, 0.3, 0.4], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]], np.float32)
        table = PredictionTable(("a", "b", "c"), FRUIT.names, np.log(probabilities + 1e-9),
                                probabilities)  # fmt: skip
        policy = DecisionPolicy.default(FRUIT).model_copy(
            update={"taxonomy_rule": rule, "abstain_below": 0.35}
        )
        metrics = compute_metrics(table, np.array([0, 0, 2]), FRUIT, policy, about={})
        careful = rule == "least-risk"
        assert metrics.taxonomy is not None and metrics.taxonomy.rule == rule
        assert metrics.top1.value == pytest.approx(2 / 3 if careful else 1 / 3)
        assert metrics.confusion is not None
        assert metrics.confusion[0] == ((1, 1, 0) if careful else (0, 1, 1))
        assert metrics.coverage.value == pytest.approx(2 / 3 if careful else 1)
        # The second is named a sibling (1); the first the axe (2), if not carefully.
        assert metrics.taxonomy.mistake_height.value == pytest.approx(1 if careful else 1.5)
        # A level is scored by its own sums: the first is a fruit either way, by 0.6.
        assert metrics.levels[0].top1.value == 1
        assert metrics.levels[1].top1.value == pytest.approx(1 / 3)
        names = [name for name, *_ in summary_rows(metrics)]
        assert "Height of mistakes (1 to 2)" in names and "Hierarchical F1" in names
        assert "Hierarchical recall" not in names  # the same figure: all classes lie equally deep

    def test_flat_classes_have_none(self) -> None:
        space = LabelSpace.flat("multiclass", "ab")
        table = PredictionTable(("x", "y"), space.names, np.eye(2, dtype=np.float32),
                                np.eye(2, dtype=np.float32))  # fmt: skip
        metrics = compute_metrics(
            table, np.array([0, 1]), space, DecisionPolicy.default(space), about={}
        )
        assert metrics.taxonomy is None and metrics.levels == ()
        assert not [name for name, *_ in summary_rows(metrics) if "ierarch" in name]


def test_trained_on_the_tree_and_answering_with_least_risk(surfaces: Path, tmp_path: Path) -> None:
    model = taxon.train(
        surfaces,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        device="cpu",
        overrides=[
            "preprocessing.size=32",
            "loss.taxonomy=hierarchical",
            "decision.taxonomy_rule=least-risk",
            "decision.taxonomy_confidence=0.3",
            "augment.mixup=0.2",
        ],
    )
    policy = read_bundle(model.path).spec.policy
    assert (policy.taxonomy_rule, policy.taxonomy_confidence) == ("least-risk", 0.3)
    evaluation = model.evaluate(out=tmp_path / "evaluation")
    figures = evaluation.metrics.taxonomy
    assert figures is not None and figures.rule == "least-risk" and figures.height == 2
    page = evaluation.report.read_text("utf-8")
    assert "Height of mistakes" in page and "nearest mistakes" in page
    named = named_classes(evaluation.table.probabilities, model.spec.label_space, policy)
    first = evaluation.table.ids[0]
    # The exported artefact alone answers by the same rule.
    alone = taxon.load(model.path / "artefacts" / "onnx" / "model.onnx").predict(surfaces / first)
    assert alone.label == model.spec.label_space.names[named[0]]


def test_model_folder_from_before_the_rule_still_answers(
    surfaces_run: Path, surfaces: Path, copy_of: Callable[[Path], Path]
) -> None:
    old = copy_of(surfaces_run)
    decision = json.loads((old / "decision.json").read_text("utf-8"))
    assert decision.pop("taxonomy_rule") == "most-probable"
    (old / "decision.json").write_text(json.dumps(decision), "utf-8")
    info = json.loads((old / "bundle.json").read_text("utf-8"))
    info["files"]["decision.json"] = sha256_file(old / "decision.json")
    (old / "bundle.json").write_text(json.dumps(info), "utf-8")
    picture = next(surfaces.glob("*/*/*.jpg"))
    model = taxon.load(old, backend="torch")
    assert model.spec.policy.taxonomy_rule == "most-probable"
    answer = model.predict(picture)
    assert answer.label == taxon.load(surfaces_run, backend="torch").predict(picture).label
