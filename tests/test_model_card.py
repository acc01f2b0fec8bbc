"""The model card: what the Hub reads of it, what it says, and what is kept of people's words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, metadata_update
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import taxon
from taxon.api.card import LEFT_ALONE, write_card
from taxon.api.refitting import refit_policy
from taxon.bundle import read_bundle
from taxon.bundle.card import (
    CardFacts,
    ClassRow,
    DataFacts,
    FigureRow,
    IndexedFigure,
    MeasuredFacts,
    PartFacts,
    SlicedFacts,
    SliceRow,
    is_refreshable,
    model_card,
)
from taxon.bundle.card.policy import policy_lines
from taxon.bundle.card.tables import code, prose
from taxon.bundle.layout import BundleInfo, ModelSpec, Provenance
from taxon.core.labels import LabelSpace
from taxon.core.text import one_line
from taxon.decision import DecisionPolicy
from taxon.decision.policy import ALWAYS_UNSURE, PredictionSets, Scope
from taxon.metrics import Figure
from taxon.preprocessing import Preprocessing

Copy = Callable[[Path], Path]
FLAT = LabelSpace.flat("multiclass", ["ant", "bee", "wasp"])
TAGS = LabelSpace.flat("multilabel", ["rust", "stain"])
UNSLICED = SlicedFacts()
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _facts(space: LabelSpace = FLAT, **changes: Any) -> CardFacts:
    """Of a model that never was: `weights`, `name` and `policy` of it, or fields of the facts."""
    info = BundleInfo(
        name=changes.pop("name", "insects"),
        backbone="resnet18.a1_in1k",
        head="linear",
        files={},
        provenance=Provenance(
            command="taxon train insects",
            created="2026-01-01",
            seconds=1,
            device="cpu",
            config={},
            data_fingerprint="abc",
            weights=changes.pop("weights", {"source": "none (random initialisation)"}),
            versions={"taxon": "1.0"},
            notes=("chosen so",),
        ),
    )
    spec = ModelSpec(
        name=info.name,
        fingerprint=info.fingerprint,
        backbone=info.backbone,
        label_space=space,
        preprocessing=Preprocessing(),
        policy=changes.pop("policy", DecisionPolicy.default(space)),
    )
    counts = tuple(range(30, 30 + len(space.names)))
    parts = tuple(PartFacts(name, sum(counts), None, counts) for name in ("train", "test"))
    facts = CardFacts(
        info=info,
        spec=spec,
        library="timm",
        data=DataFacts("pictures", parts, left_out=0, unknown=0, notes=("by chance",), warnings=()),
        measured=None,
    )
    return dataclasses.replace(facts, **changes)


def _measured(*indexed: IndexedFigure, sliced: SlicedFacts = UNSLICED) -> MeasuredFacts:
    return MeasuredFacts(
        pictures=93,
        sentence="As good as that.",
        rows=(),
        classes=tuple(ClassRow(name, 31, "80 %", "70 %", "90 %", "75 %") for name in FLAT.names),
        sliced=sliced,
        indexed=indexed,
        left_out=("2 pictures are gone",),
    )


def _block(card: str) -> dict[str, Any]:
    content: dict[str, Any] = ModelCard(card).data.to_dict()
    return content


def _slice(
    value: str, difference: float, ci95: tuple[float, float] | None, p_value: float | None = None
) -> dict[str, Any]:
    """One slice of metrics.json."""
    return {
        "column": "look",
        "value": value,
        "n": 23,
        "figures": {"top1": {"value": 0.652}, "macro_f1": {"value": 0.5}},
        "difference": {"value": difference, "ci95": ci95},
        "p_value": p_value,
    }


def _tables(card: str) -> list[list[list[str]]]:
    """The cells of each row of each table, split as a renderer does at bars."""
    rows = [line.split("|")[1:-1] if line.startswith("|") else [] for line in card.splitlines()]
    return [list(lines) for filled, lines in groupby(rows, key=bool) if filled]


class TestHub:
    """What the Hub's own library makes of the card."""

    def test_figures_are_those_of_metrics_json(self, run: Path) -> None:
        data = ModelCard.load(run / "README.md").data
        metrics = json.loads((run / "metrics.json").read_text())
        found = {result.metric_name: result for result in data.eval_results}
        expected = {
            "Top-1": metrics["top1"],
            "Macro-F1": metrics["macro_f1"],
            "Balanced accuracy": metrics["balanced_accuracy"],
            "AUC-ROC, macro": metrics["auc_roc"]["macro"],
        }
        assert found.keys() == expected.keys()
        for name, figure in expected.items():
            assert found[name].metric_value == pytest.approx(figure["value"], abs=5e-5)
            assert found[name].metric_args["ci95"] == pytest.approx(figure["ci95"], abs=5e-5)
            assert (found[name].task_type, found[name].dataset_split) == (
                "image-classification",
                "test",
            )
        assert data.model_name == run.name
        assert data.metrics == ["accuracy", "f1", "balanced_accuracy", "roc_auc"]
        assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
        provenance = read_bundle(run).info.provenance
        assert {result.dataset_revision for result in data.eval_results} == {
            provenance.data_fingerprint
        }

    def test_card_is_what_the_library_writes(self, run: Path) -> None:
        text = (run / "README.md").read_text()
        assert ModelCard(text).content == text

    def test_metadata_update_finds_our_figures(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub itself is stood in for: it would give our card, and take the new one."""
        card, pushed = (run / "README.md").read_text(), []
        monkeypatch.setattr(ModelCard, "load", lambda *_, **__: ModelCard(card))
        monkeypatch.setattr(ModelCard, "push_to_hub", lambda new, *_, **__: pushed.append(new))
        index = _block(card)["model-index"]
        index[0]["results"][0]["metrics"][0]["value"] = 0.123
        with pytest.raises(ValueError, match="overwrite=True"):
            metadata_update("team/model", {"model-index": index})
        metadata_update("team/model", {"model-index": index}, overwrite=True)
        results = pushed[0].data.eval_results
        assert results[0].metric_value == 0.123 and len(results) == 4

    def test_several_tags(self, tags_run: Path, copy_of: Copy) -> None:
        copy = copy_of(tags_run)
        before = _block((copy / "README.md").read_text())
        assert "model-index" not in before and "metrics" not in before
        assert "multi-label" in before["tags"]
        taxon.load(copy).evaluate()
        data = ModelCard.load(copy / "README.md").data
        names = [result.metric_name for result in data.eval_results]
        assert names == ["Macro-F1", "Micro-F1", "mAP", "AUC-ROC, macro"]

    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            ({"source": "none (random initialisation)"}, {}),
            (
                {"source": "hub: timm/resnet18.a1_in1k", "licence": "apache-2.0"},
                {"license": "apache-2.0", "base_model": "timm/resnet18.a1_in1k"},
            ),
            ({"source": "mine.safetensors", "licence": "unknown"}, {"license": "unknown"}),
            (
                {"source": "hub: timm/vit", "licence": "dinov3-license"},
                {"license": "other", "license_name": "dinov3-license", "base_model": "timm/vit"},
            ),
        ],
    )
    def test_licence_and_base_model(
        self, weights: dict[str, str], expected: dict[str, str]
    ) -> None:
        block = _block(model_card(_facts(weights=weights)))
        keys = ("license", "license_name", "base_model")
        assert {key: block[key] for key in keys if key in block} == expected

    def test_undefined_figures_are_not_indexed(self, run: Path) -> None:
        entry = IndexedFigure("f1", "Macro-F1", Figure.of(0.5))
        block = _block(model_card(_facts(measured=_measured(entry))))
        metric = block["model-index"][0]["results"][0]["metrics"][0]
        assert metric == {"type": "f1", "value": 0.5, "name": "Macro-F1"}


class TestRefreshing:
    def test_before_it_is_measured(self, surfaces_run: Path) -> None:
        card = (surfaces_run / "README.md").read_text()
        assert "Not measured yet. `taxon evaluate surfaces-model`" in card
        assert "in a taxonomy of 2 levels" in card and "**Path.**" in card

    def test_own_test_part_alone(self, run: Path, copy_of: Copy, defects: Path) -> None:
        copy = copy_of(run)
        card = (copy / "README.md").read_text()
        measured = taxon.load(copy)
        measured.evaluate(split="val")
        measured.evaluate(defects, split="all")
        measured.evaluate(out=copy.parent / "elsewhere")
        assert (copy / "README.md").read_text() == card
        assert read_bundle(copy).info == read_bundle(run).info

    def test_figures_of_an_earlier_policy_go(self, run: Path, copy_of: Copy) -> None:
        copy = copy_of(run)
        metrics = json.loads((copy / "metrics.json").read_text())
        metrics["about"]["fingerprint"] = "0" * 64
        (copy / "metrics.json").write_text(json.dumps(metrics))
        assert write_card(read_bundle(copy)) == ()
        card = (copy / "README.md").read_text()
        assert "Not measured yet" in card and "model-index" not in card

    def test_another_policy(self, run: Path, copy_of: Copy) -> None:
        copy = copy_of(run)
        card = (copy / "README.md").read_text()
        assert "**Prediction sets.**" in card
        mine = card.replace("*Nobody has written here yet", "*We know")
        (copy / "README.md").write_text(mine)
        refit_policy(copy, overrides=["decision.set_coverage=null"])
        after = (copy / "README.md").read_text()
        assert "**Prediction sets.**" not in after and "Not measured yet" in after
        assert "*We know" in after and read_bundle(copy).info.fingerprint in after
        assert (run / "README.md").read_text() == card

    @pytest.mark.parametrize("content", [None, "{", '{"schema_version": 99}'])
    def test_unreadable_figures(self, run: Path, copy_of: Copy, content: str | None) -> None:
        copy = copy_of(run)
        (copy / "metrics.json").unlink()
        if content is not None:
            (copy / "metrics.json").write_text(content)
        write_card(read_bundle(copy))
        assert "Not measured yet" in (copy / "README.md").read_text()

    def test_what_people_wrote_is_kept(self, run: Path, copy_of: Copy) -> None:
        copy, mine = copy_of(run), "The line in hall 3 uses it.\n\n- and nobody else"
        text = (copy / "README.md").read_text()
        start = text.index("*Nobody has written here yet")
        end = text.index("\n<!-- end of yours -->")
        text = text[:start] + mine + text[end:]
        text = text.replace("library_name: timm", "language: de\nlibrary_name: timm\nlicense: mit")
        (copy / "README.md").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        assert LEFT_ALONE not in taxon.load(copy).evaluate().notes
        after = (copy / "README.md").read_text()
        assert f"-->\n{mine}\n<!-- end" in after
        assert _block(after)["license"] == "mit" and _block(after)["language"] == "de"
        assert len(_block(after)["model-index"][0]["results"][0]["metrics"]) == 4

    @pytest.mark.parametrize("damage", ["# My own page\n", "---\na: [\n---\n", None])
    def test_a_card_of_somebody_else_is_left_alone(
        self, run: Path, copy_of: Copy, damage: str | None
    ) -> None:
        copy = copy_of(run)
        text = (copy / "README.md").read_text()
        changed = text.replace("type: accuracy", "kind: accuracy") if damage is None else damage
        (copy / "README.md").write_text(changed)
        assert not is_refreshable(changed)
        assert LEFT_ALONE in taxon.load(copy).evaluate().notes
        assert (copy / "README.md").read_text() == changed


class TestWords:
    def test_data_and_decisions(self, run: Path) -> None:
        card = (run / "README.md").read_text()
        provenance = read_bundle(run).info.provenance
        assert "| Class | train | validation | test |" in card and "| `crack` |" in card
        assert f"`{provenance.data_fingerprint}`" in card and provenance.command in card
        assert all(f"- {prose(note)}" in card for note in provenance.notes)
        assert "No groups were given" in card
        assert "Audit before the training, warning: --imbalance auto" in card
        per_class = json.loads((run / "metrics.json").read_text())["per_class"]["good"]["recall"]
        assert f"{100 * per_class['value']:.1f} %" in next(
            line for line in card.splitlines() if line.startswith("| `good` |") and "%" in line
        )

    def test_policy(self) -> None:
        policy = DecisionPolicy(
            scale=(0.5,) * 3,
            bias=(0.0,) * 3,
            thresholds=(0.5,) * 3,
            costs=((0, 1, 9), (1, 0, 1), (1, 1, 0)),
            abstain_below=0.75,
            sets=PredictionSets(method="lac", coverage=0.9, limits=(0.8,)),
            scope=Scope(
                method="energy", energy=(0.0, 1.0), nearest=None, limit=-3.0, in_scope_share=0.98
            ),
            target="recall of 'ant' at least 0.95",
            fitted_on="calibration",
        )
        text = "\n".join(policy_lines(policy, FLAT))
        assert "fitted on the calibration part" in text
        assert "a temperature of 2.00" in text
        assert "| `ant` | 0 | 1 | 9 |" in text and "least expected cost" in text
        assert "by the costs below, chosen for recall of 'ant' at least 0.95." in text
        assert "below 0.750 is marked `unsure`" in text
        assert "for 90 % of the pictures, over all pictures" in text
        assert "the energy of its logits" in text and "so do 2.0 %" in text

    def test_a_promise_that_cannot_be_kept(self) -> None:
        policy = DecisionPolicy.default(FLAT).model_copy(update={"abstain_below": ALWAYS_UNSURE})
        assert "Every answer is marked `unsure`" in "\n".join(policy_lines(policy, FLAT))

    def test_thresholds(self) -> None:
        policy = DecisionPolicy.default(TAGS).model_copy(
            update={"thresholds": (0.25, 0.625), "scale": (1.0, 2.0)}
        )
        text = "\n".join(policy_lines(policy, TAGS))
        assert "| `rust` | 0.250 |" in text and "| `stain` | 0.625 |" in text
        assert "multiplied by a scale" in text and "sigmoid" in text

    def test_many_classes_are_not_listed(self) -> None:
        space = LabelSpace.flat("multiclass", [f"kind{number:03}" for number in range(51)])
        card = model_card(_facts(space))
        assert "51 classes, from `kind000` with 60 pictures to `kind050` with 160" in card
        assert "| `kind001` |" not in card

    def test_limits_say_what_is_small_and_what_was_sliced(self) -> None:
        parts = (PartFacts("train", 90, 12, (30, 30, 30)), PartFacts("test", 45, 6, (5, 20, 20)))
        data = DataFacts("d", parts, 3, 7, (), ("warning: two cameras",))
        weak = SliceRow("site", "north", 12, "Top-1 50.0 %", "20.0 points below all others")
        sliced = SlicedFacts(judged=9, weak=(weak,), notes=("no slices by 'light'",))
        assert "Subgroups that nobody measured" in model_card(_facts())
        facts = _facts(
            data=data,
            measured=_measured(sliced=sliced),
            policy=DecisionPolicy.default(FLAT).model_copy(update={"fitted_on": "test"}),
        )
        card = model_card(facts)
        assert "Of `ant` the test part has fewer than 20 pictures: figures of it are rough." in card
        assert "| `site` `north` | 12 | Top-1 50.0 % | 20.0 points below all others |" in card
        assert "Of 9 subgroups that were measured, 1 is weak" in card
        assert "1 is weak, more than chance would make of so many" in card
        assert "\n- Subgroups: no slices by 'light'\n" in card
        assert "Audit before the training, warning: two cameras" in card
        assert "| test | 45 | 6 |" in card and "No groups were given" not in card
        assert "3 pictures or rows could not be used" in card and "7 annotations are" in card
        assert "Not scored: 2 pictures are gone." in card

    def test_weak_slices_are_in_points(self, run: Path, copy_of: Copy) -> None:
        """A difference of shares in per cent would read as relative."""
        copy = copy_of(run)
        metrics = json.loads((copy / "metrics.json").read_text())
        metrics["slices"] = [
            _slice("most blurred", -0.272, (-0.518, -0.075), p_value=0.01),
            _slice("turned", -1.0, None, p_value=0.001),  # the same in every resample
            _slice("smallest", -0.2, (-0.4, -0.01), p_value=0.2),  # one of many, by chance
            _slice("darkest", -0.1, (-0.3, 0.1)),  # lower, but not beyond chance
            _slice("brightest", 0.1, (-0.1, 0.3)),
        ]
        (copy / "metrics.json").write_text(json.dumps(metrics))
        write_card(read_bundle(copy))
        card = (copy / "README.md").read_text()
        assert "Of 5 subgroups that were measured, 2 are weak" in card
        assert (
            "| `look` `most blurred` | 23 | Top-1 65.2 % | 27.2 points below all others "
            "(51.8 to 7.5) |"
        ) in card
        assert "| `look` `turned` | 23 | Top-1 65.2 % | 100.0 points below all others |" in card
        assert not any(
            f"| `look` `{name}` |" in card for name in ("darkest", "brightest", "smallest")
        )
        assert "top1" not in card

    def test_no_weak_slice(self) -> None:
        card = model_card(_facts(measured=_measured(sliced=SlicedFacts(judged=1))))
        assert "Of 1 subgroup that was measured, none is weak." in card
        assert "| Subgroup |" not in card

    def test_slices_that_were_not_judged_are_no_pictures_left_out(
        self, run: Path, copy_of: Copy
    ) -> None:
        copy = copy_of(run)
        metrics = json.loads((copy / "metrics.json").read_text())
        gone, same = "3 pictures are gone", "no slices by 'resolution': it is the same for all"
        metrics["about"] |= {"left_out": [gone], "slices": [same]}
        (copy / "metrics.json").write_text(json.dumps(metrics))
        write_card(read_bundle(copy))
        card = (copy / "README.md").read_text()
        assert card.count("Not scored: ") == 1 and f"Not scored: {gone}." in card
        assert f"- Subgroups: {same}\n" in card

    @given(st.text(min_size=1))
    @example("a_b*c*`d`|<img src=x onerror=alert(1)>&amp;\\|[e](f) ~~g~~ _h_")
    def test_any_text_reads_as_it_stands(self, text: str) -> None:
        """What a renderer of Markdown makes of it is the text again, in one cell of two."""
        cell = prose(text)
        for page in (f"- a {cell} b", f"| A | B |\n| --- | --- |\n| a {cell} b | 1 |"):
            tokens = MARKDOWN.parse(page)
            found = [token for token in tokens if token.type == "inline"]
            inline = found[0] if page.startswith("-") else found[2]
            assert len(found) in (1, 4)
            assert {child.type for child in inline.children or ()} == {"text"}
            read = "".join(child.content for child in inline.children or ())
            assert read == f"a {one_line(text)} b"

    @given(st.text(min_size=1))
    @example("a|b")
    @example("<img src=x>|`|")
    def test_tables_keep_their_columns(self, text: str) -> None:
        """Whatever is in the notes, reasons, names of columns and classes."""
        row = ClassRow(text, 3, text, text, text, text)
        measured = dataclasses.replace(
            _measured(sliced=SlicedFacts(2, (SliceRow(text, text, 9, text, text),), (text,))),
            rows=(FigureRow("Top-1", "50.0 %", text),),
            classes=(row,),
            left_out=(text,),
        )
        facts = _facts(measured=measured)
        data = dataclasses.replace(facts.data, notes=(text,), warnings=(text,))
        page = model_card(dataclasses.replace(facts, data=data))
        tables = _tables(page)
        assert [len(table[0]) for table in tables] == [2, 3, 3, 6, 4]
        assert all(len(cells) == len(table[0]) for table in tables for cells in table)

    @given(st.text(min_size=1))
    def test_any_name_stays_in_its_cell(self, name: str) -> None:
        cell = code(name)
        assert "|" not in cell and len(cell.splitlines()) <= 1
        assert cell.startswith("<code>") or cell.count("`") == 2

    @given(st.text(min_size=1))
    def test_any_name_of_data_and_model(self, name: str) -> None:
        facts = _facts(name=name, measured=_measured(IndexedFigure("f1", "F1", Figure.of(0.5))))
        facts = dataclasses.replace(facts, data=dataclasses.replace(facts.data, name=name))
        index = _block(model_card(facts))["model-index"][0]
        assert index["name"] == one_line(name)
        assert index["results"][0]["dataset"]["name"] == one_line(name)
