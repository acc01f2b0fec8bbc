"""Gates: floors and ceilings that stop a script at a bad model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails, taxon

from taxon import evaluate
from taxon.api.evaluation import GatesMissed
from taxon.core.errors import CheckFailed, ConfigError
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation import Metrics, compute_metrics
from taxon.evaluation.gates import check_gates, parse_gates, read_gates, require_known
from taxon.evaluation.slice_columns import SliceColumn

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "evaluate.md"
# Names as users have them: a dot, a slash, and the end of another figure's name.
SPACE = LabelSpace.flat("multiclass", ["a", "b.recall", "no. 3/x", "never"])


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """40 pictures of three classes, 36 of which are named rightly; the fourth class has none."""
    targets = np.arange(40) % 3
    targets = np.array([0, 1, 3])[targets]
    named = targets.copy()
    named[::7] = 0
    probabilities = np.full((40, 4), 0.05, np.float32)
    probabilities[np.arange(40), named] = 0.85
    table = PredictionTable(
        tuple(map(str, range(40))), SPACE.names, np.log(probabilities), probabilities
    )
    camera = SliceColumn("camera", tuple("ok" if place % 7 else "bad" for place in range(40)))
    return compute_metrics(
        table, targets, SPACE, DecisionPolicy.default(SPACE), slices=[camera], about={}
    )


def said(metrics: Metrics, gates: dict[str, Any]) -> dict[str, bool]:
    return {result.words: result.met for result in check_gates(parse_gates(gates), metrics)}


def test_floor_of_the_value(metrics: Metrics) -> None:
    value = metrics.top1.value
    assert value == 0.9  # 4 of 40 are wrong
    assert said(metrics, {"top1": 0.9}) == {"top1 is 0.9, at least 0.9": True}
    assert said(metrics, {"top1": 0.91}) == {"top1 is 0.9, below 0.91": False}
    assert said(metrics, {"top1": {"value": 0.85}}) == {"top1 is 0.9, at least 0.85": True}


def test_ends_of_the_interval_and_ceilings(metrics: Metrics) -> None:
    low, high = metrics.top1.ci95 or (0, 0)
    [(words, met)] = said(metrics, {"top1": {"low": 0.85}}).items()
    assert not met and words == f"the lower end of top1's interval is {low:g}, below 0.85"
    [(words, met)] = said(metrics, {"top1": {"high": 0.9}}).items()
    assert not met and words == f"the upper end of top1's interval is {high:g}, above 0.9"
    assert (
        list(said(metrics, {"top1": {"value": 0.8, "low": 0.1, "high": 1}}).values()) == [True] * 3
    )
    assert said(metrics, {"calibration.ece": {"at_most": 0.001}}).popitem()[1] is False
    assert said(metrics, {"calibration.ece": {"at_most": 0.2}}).popitem()[1] is True


def test_class_names_may_hold_dots_and_slashes(metrics: Metrics) -> None:
    for name in SPACE.names:
        require_known(parse_gates({f"per_class.{name}.recall": 0.5}), SPACE)
    [(words, _)] = said(metrics, {"per_class.no. 3/x.recall": 0.5}).items()
    assert words == "per_class.no. 3/x.recall is 0.846154, at least 0.5"  # 11 of 13
    assert said(metrics, {"auc_roc.per_class.b.recall": 0.5}).popitem()[1] is True


def test_star_is_every_class_and_an_undefined_figure_is_missed(metrics: Metrics) -> None:
    results = check_gates(parse_gates({"per_class.*.recall": 0.5}), metrics)
    assert [(result.figure, result.met) for result in results] == [
        ("per_class.a.recall", True),
        ("per_class.b.recall.recall", True),
        ("per_class.never.recall", False),
        ("per_class.no. 3/x.recall", True),
    ]
    assert results[2].words == "per_class.never.recall is undefined: no pictures of this class"


def test_no_interval_is_missed_with_the_reason(metrics: Metrics) -> None:
    [(words, met)] = said(metrics, {"calibration.ece": {"high": 0}}).items()
    assert not met and words == "calibration.ece has no interval"


def test_figures_that_this_evaluation_lacks_are_missed(metrics: Metrics) -> None:
    for name in ("taxonomy.f1", "scope.flagged", "sets.coverage", "slices.site.x.top1"):
        bounds = parse_gates({name: {"at_most": 0.5}})
        require_known(bounds, SPACE)
        [result] = check_gates(bounds, metrics)
        assert not result.met and "not among the figures" in result.words


def test_slices_have_gates(metrics: Metrics) -> None:
    bounds = parse_gates({"slices.*.top1": 0.5, "slices.camera.ok.top1": 0.99})
    require_known(bounds, SPACE)
    found = {result.figure: result.met for result in check_gates(bounds, metrics)}
    assert found == {"slices.camera.bad.top1": False, "slices.camera.ok.top1": True}


def test_per_cent_are_recognised(metrics: Metrics) -> None:
    [(words, _)] = said(metrics, {"top1": 85}).items()
    assert words.endswith("(shares are fractions: 0.85 is 85 %)")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("top2", "top1"),
        ("per_class.b.recal", ""),
        ("per_class.a", "per_class.a"),
        ("n", ""),
        ("levels.1.top1", "levels.0.top1"),
        ("per_class.*.recal", ""),
    ],
)
def test_names_that_no_figure_has_are_refused(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="names no figure") as caught:
        require_known(parse_gates({name: 0.5}), SPACE)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("", "received nothing"),
        ("- top1", "received list"),
        ("top1: high", "must be a number, received 'high'"),
        ("top1: yes", "must be a number, received True"),
        ("top1: .nan", "must be finite"),
        ("top1: {}", "has no limit"),
        ("top1: {floor: 0.5}", "allowed: value, low, high, at_most"),
        ("per_class: {crack: {recall: 0.5}}", "written with dots"),
        ("top1: 0.5\ntop1: 0.6", "written twice"),
        ("top1: [", "not valid YAML"),
        ("top1: " + "[" * 1000, "not valid YAML"),
    ],
)
def test_files_that_are_no_gates_are_refused(text: str, saying: str, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=saying) as caught:
        read_gates(file)
    assert str(file) in str(caught.value)


def test_the_gates_of_the_guide(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(top1: .*?)```", GUIDE.read_text(), re.DOTALL)
    file = tmp_path / "gates.yaml"
    file.write_text(example)
    bounds = read_gates(file)
    require_known(bounds, LabelSpace.flat("multiclass", ["crack", "good"]))
    assert {bound.kind for bound in bounds} == {"value", "low", "at_most"}


def test_missed_gates_end_with_3_after_all_is_written(run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "gates.yaml", tmp_path / "out"
    file.write_text("top1: 1.01\nmacro_f1: {value: 0, high: 1}\ncalibration.ece: {at_most: 1}\n")
    done = taxon("evaluate", run, "--gate", file, "--out", out)
    assert done.returncode == 3
    assert done.stderr.strip().endswith("error: 1 of 4 gates missed (see above)")
    lines = [line for line in done.stdout.splitlines() if line.startswith("gate ")]
    assert [line.split(":")[0] for line in lines] == ["gate missed"] + ["gate met"] * 3
    about = json.loads((out / "metrics.json").read_text())["about"]["gates"]
    assert about["passed"] is False and len(about["missed"]) == 1 and len(about["met"]) == 3
    assert about["missed"][0] in (out / "report" / "report.html").read_text()
    assert (out / "report" / "predictions.parquet").is_file()


def test_gates_that_are_met_end_with_0(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("top1: 0\n")
    done = taxon("evaluate", run, "--gate", file, "--out", tmp_path / "out")
    assert done.returncode == 0 and "gate met: top1 is" in done.stdout


def test_in_python(run: Path, tmp_path: Path) -> None:
    with pytest.raises(GatesMissed, match="1 of 1 gates missed: top1 is") as caught:
        evaluate(run, gate={"top1": 1.01}, out=tmp_path / "out")
    assert isinstance(caught.value, CheckFailed) and caught.value.exit_code == 3
    assert caught.value.evaluation.report.is_file()
    assert [result.met for result in caught.value.evaluation.gates] == [False]


def test_mistakes_of_the_user_are_told_before_anything_is_computed(
    run: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "gates.yaml", tmp_path / "out"
    file.write_text("top1: 0.5\nper_class.crak.recall: 0.5\n")
    fails(
        2, "evaluate", run, "--gate", file, "--out", out,
        saying="Did you mean 'per_class.crack.recall'",
    )  # fmt: skip
    fails(2, "evaluate", run, "--gate", tmp_path / "none.yaml", "--out", out, saying="cannot read")
    fails(2, "evaluate", run, "--ordered", "crack,good", "--out", out, saying="it lacks 'dent'")
    assert not out.exists()


def test_an_order_from_the_command_line(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    order = "good, stain, dent, scratch, pit, crack"
    done = taxon("evaluate", run, "--ordered", order, "--out", out)
    assert done.returncode == 0, done.stderr
    figure = json.loads((out / "metrics.json").read_text())["cohen_kappa_quadratic"]
    assert figure["reason"] == f"in the order {order}"
    assert "Quadratic kappa" in done.stdout


@pytest.mark.parametrize(
    "figure", ["log_loss", "calibration.ece", "selective.risk", "scope.flagged", "hamming_loss"]
)
@pytest.mark.parametrize("floor", [0.1, {"value": 0.1}, {"low": 0.1}])
def test_floor_on_a_figure_of_which_less_is_better_is_refused(figure: str, floor: object) -> None:
    """It would let a bad model pass, and stop a good one."""
    with pytest.raises(ConfigError, match=r"less is better.*at_most: 0\.1"):
        parse_gates({figure: floor})
    assert parse_gates({figure: {"at_most": 0.1}})
