"""Eight bits: the layers that stay in float are those that do harm, and no more than needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.stats import binom

import taxon
from taxon.bundle import ModelSpec
from taxon.bundle.artefact import read_artefact
from taxon.core.errors import CheckFailed
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.decision.policy import Scope
from taxon.exporters import artefact_reports
from taxon.exporters.job import Labelled
from taxon.exporters.layer_choice import MOST_GROUPS, choose_layers
from taxon.exporters.parity import above, compare_outputs
from taxon.inference import Outputs
from taxon.preprocessing import Preprocessing

PICTURES = 400


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    space = LabelSpace.flat("multiclass", ["a", "b"])
    return ModelSpec(
        name="m",
        fingerprint="0" * 64,
        backbone="b",
        label_space=space,
        preprocessing=Preprocessing(),
        policy=DecisionPolicy.default(space),
    )


@pytest.fixture(scope="module")
def validation() -> Labelled:
    images = np.arange(PICTURES, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 1, 1))
    names = tuple(str(place) for place in range(PICTURES))
    return Labelled(images.astype(np.uint8), np.arange(PICTURES) % 2, names)


def _outputs(truth: np.ndarray, wrong: int) -> Outputs:
    """The first `wrong` of the answers are the other class; all are sure."""
    named = truth.copy()
    named[:wrong] = 1 - named[:wrong]
    probabilities = np.eye(2, dtype=np.float32)[named] * np.float32(0.8) + np.float32(0.1)
    return Outputs(np.log(probabilities), probabilities)


class Network:
    """A network each of whose layers, in eight bits, changes so many answers."""

    def __init__(self, harm: dict[str, int]) -> None:
        self.harm = harm
        self.builds = 0

    def build(self, kept: frozenset[str]) -> Network.Backend:
        self.builds += 1
        changed = sum(count for name, count in self.harm.items() if name not in kept)
        return self.Backend(changed)

    class Backend:
        name = "quantised"

        def __init__(self, changed: int) -> None:
            self.left = changed

        def run(self, images: np.ndarray) -> Outputs:
            here = min(self.left, len(images))
            self.left -= here
            return _outputs(images[:, 0, 0, 0].astype(int) % 2, here)


def _choose(network: Network, validation: Labelled, spec: ModelSpec, max_drop: float = 0.05):  # type: ignore[no-untyped-def]
    return choose_layers(
        list(network.harm),
        network.build,
        validation,
        _outputs(validation.targets, 0),
        spec,
        max_drop=max_drop,
        tell=lambda text: None,
    )


def test_harmless_layers_are_all_quantised_at_once(validation: Labelled, spec: ModelSpec) -> None:
    network = Network({"one": 1, "two": 2, "three": 0})
    choice = _choose(network, validation, spec)
    assert not choice.kept and network.builds == 1 and choice.chosen.changed_decisions == 3


def test_just_the_harmful_layers_stay_in_float(validation: Labelled, spec: ModelSpec) -> None:
    # Two of 400 answers may change by a percent less than eight may (2 %).
    network = Network({"a": 1, "bad": 30, "b": 2, "worse": 35, "c": 1, "d": 0})
    choice = _choose(network, validation, spec)
    assert choice.kept == {"bad", "worse"}
    assert choice.all_quantised.changed_decisions == 69 and choice.chosen.changed_decisions == 4
    assert [name for name, _ in choice.errors[:2]] == ["worse", "bad"]


def test_budget_of_the_headline_figure_is_kept_too(validation: Labelled, spec: ModelSpec) -> None:
    network = Network({"a": 2, "b": 4, "c": 1})
    assert not _choose(network, validation, spec).kept
    # Seven answers of 400 are within the 2 %, and cost 1.75 points of macro-F1.
    assert _choose(network, validation, spec, max_drop=0.01).kept == {"b"}


def test_many_layers_are_looked_at_in_groups(validation: Labelled, spec: ModelSpec) -> None:
    harm = {f"layer{place:03d}": 0 for place in range(300)} | {"layer137": 200}
    network = Network(harm)
    choice = _choose(network, validation, spec)
    assert "layer137" in choice.kept and len(choice.kept) <= 300 // MOST_GROUPS + 1
    assert network.builds < 2 * MOST_GROUPS


def test_network_that_bears_no_eight_bits_is_refused(validation: Labelled, spec: ModelSpec) -> None:
    network = Network({"a": 100, "b": 100})
    with pytest.raises(CheckFailed, match="no layer of b bears eight bits"):
        _choose(network, validation, spec)


@pytest.mark.parametrize(("changed", "passes"), [(0, True), (5, True), (6, False), (40, False)])
def test_half_precision_may_change_answers_within_chance(
    changed: int, passes: bool, validation: Labelled, spec: ModelSpec
) -> None:
    """Half a per cent of 400 is two; five are still within chance, six no longer (binomial)."""
    report = compare_outputs(
        _outputs(validation.targets, 0),
        _outputs(validation.targets, changed),
        list(validation.names),
        spec,
        artefact="half",
        reference="whole",
        precision="float16",
        targets=validation.targets,
        max_drop=0.5,
    )
    assert report.passed is passes and report.changed_decisions == changed
    assert ("EQUAL ENOUGH" in report.sentence()) is not passes


@pytest.mark.parametrize("pictures", [200, 220, 1500, 20000])
@pytest.mark.parametrize("share", [0.005, 0.02])
def test_shares_are_judged_by_the_binomial_distribution(pictures: int, share: float) -> None:
    for changed in range(0, 40 + int(2 * share * pictures)):
        expected = changed > share * pictures and binom.sf(changed - 1, pictures, share) < 0.05
        assert above(changed, pictures, share) == expected
    assert above(pictures, pictures, share)


@pytest.mark.parametrize("lost", ["scope", "nan"])
def test_lost_scope_is_never_equal(lost: str, validation: Labelled, spec: ModelSpec) -> None:
    """Without the score, nothing would be flagged any more: so it counts in every precision."""
    scope = Scope(method="energy", energy=(0.0, 1.0), nearest=None, limit=-3.0, in_scope_share=0.95)
    flagging = spec.model_copy(update={"policy": spec.policy.model_copy(update={"scope": scope})})
    whole = _outputs(validation.targets, 0)
    scores = np.zeros(PICTURES, np.float32)
    actual = None if lost == "scope" else np.full(PICTURES, np.nan, np.float32)
    report = compare_outputs(
        Outputs(whole.logits, whole.probabilities, scores),
        Outputs(whole.logits, whole.probabilities, actual),
        list(validation.names),
        flagging,
        artefact="half",
        reference="whole",
        precision="int8",
    )
    assert not report.passed and report.changed_decisions == PICTURES


def test_real_network_in_eight_bits(run: Path, tmp_path: Path) -> None:
    (info,) = taxon.export(run, "onnx-int8", out=tmp_path, max_drop=0.2)
    assert info == read_artefact(tmp_path / "onnx-int8")
    model = onnx.load(tmp_path / "onnx-int8" / "model.onnx")
    kinds = [node.op_type for node in model.graph.node]
    details = info.details["quantisation"]
    assert kinds.count("QuantizeLinear") > details["layers"] - len(details["kept_in_float"])
    eight = [entry for entry in model.graph.initializer if entry.data_type == 3]  # INT8
    scales = {entry.name: entry for entry in model.graph.initializer if "scale" in entry.name}
    assert any(np.prod(entry.dims) > 1 for entry in scales.values())  # one a channel
    assert len(eight) >= details["layers"] - len(details["kept_in_float"])
    assert artefact_reports(info)[-1].passed
    assert (tmp_path / "onnx-int8" / "classify.pyz").is_file()
    whole = (run / "artefacts/onnx/model.onnx").stat().st_size
    assert info.size < 0.6 * whole
    # Speed is told as measured: either it is faster here, or a note says that it is not.
    slower = any(speed.ratio >= 0.97 for speed in info.speed)
    assert any("not faster than float32" in note for note in info.notes) is slower
