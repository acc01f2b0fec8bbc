"""The plan: what it changes, what it refuses, and that it survives being written and read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_classes, make_manifest, make_record

from taxon.core.errors import DataError
from taxon.core.labels import LabelSpace
from taxon.data import Manifest
from taxon.data.plan import Drop, Plan, Regroup, Relabel, apply_plan, merge_plans
from taxon.data.plan_account import account
from taxon.data.plan_file import read_plan, write_plan

property_test = settings(max_examples=60, deadline=None)


def _id(position: int) -> str:
    return f"{position:05d}.png"


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Manifest, Plan]:
    """A multi-label manifest with groups and copies, and a plan for it."""
    count = draw(st.integers(2, 15))
    tags = st.lists(st.sampled_from("abc"), unique=True, max_size=3).map(sorted)
    groups = st.none() | st.sampled_from(["g", "h", "i", "j"])
    records = [
        make_record(
            position,
            draw(tags),
            group=draw(groups),
            content=draw(st.none() | st.sampled_from(["same", "alike"])),
        )
        for position in range(count)
    ]
    records.append(make_record(count, ["a", "b", "c"]))  # is never dropped: something is left
    manifest = make_manifest(records, "multilabel")
    positions = st.integers(0, count - 1)
    relabelled = draw(st.lists(positions, unique=True, max_size=4))
    plan = Plan(
        drop=tuple(Drop(id=_id(row)) for row in draw(st.lists(positions, max_size=4))),
        relabel=tuple(
            Relabel(id=_id(row), was=records[row].labels, labels=tuple(draw(tags)))
            for row in relabelled
        ),
        regroup=tuple(
            Regroup(group=draw(st.sampled_from(["g", "h", "x", "y"])), ids=tuple(map(_id, ids)))
            for ids in draw(st.lists(st.lists(positions, min_size=1, max_size=4), max_size=4))
        ),
    )
    return manifest, plan


@given(_cases())
@property_test
def test_plan_adds_nothing_and_takes_away_only_what_it_drops(case: tuple[Manifest, Plan]) -> None:
    before, plan = case
    after = apply_plan(before, plan)
    dropped = {step.id for step in plan.drop}
    old = {record.id: record for record in before.records}
    assert [record.id for record in after.records] == [name for name in old if name not in dropped]
    assert all(record.sha256 == old[record.id].sha256 for record in after.records)
    assert {row.id for row in after.skipped if row.kind == "plan"} == dropped
    assert before.skipped == after.skipped[: len(before.skipped)]
    labels = {step.id: step.labels for step in plan.relabel}
    for record in after.records:
        assert record.labels == labels.get(record.id, old[record.id].labels)


@given(_cases())
@property_test
def test_pictures_that_were_together_or_are_named_together_are_together(
    case: tuple[Manifest, Plan],
) -> None:
    before, plan = case
    group = {record.id: record.group for record in apply_plan(before, plan).records}
    for step in plan.regroup:
        found = {group[name] for name in step.ids if name in group}
        assert len(found) <= 1 and None not in found
    for name in {record.group for record in before.records} - {None}:
        members = [record.id for record in before.records if record.group == name]
        assert len({group[member] for member in members if member in group}) <= 1


@given(_cases())
@property_test
def test_plan_that_was_applied_before_changes_nothing(case: tuple[Manifest, Plan]) -> None:
    manifest, plan = case
    once = apply_plan(manifest, plan)
    assert apply_plan(once, plan) == once


_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_plans = st.builds(
    Plan,
    drop=st.lists(st.builds(Drop, id=_words, reason=st.text(max_size=10))).map(tuple),
    relabel=st.lists(
        st.builds(
            Relabel,
            id=_words,
            was=st.lists(_words, max_size=3).map(tuple),
            labels=st.lists(_words, max_size=3).map(tuple),
        )
    ).map(tuple),
    regroup=st.lists(
        st.builds(Regroup, group=_words, ids=st.lists(_words, min_size=1, max_size=3).map(tuple))
    ).map(tuple),
)


@given(_plans)
@settings(max_examples=200, deadline=None)
def test_plan_survives_being_written(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    write_plan(plan, path)
    assert read_plan(path) == plan


def test_steps_that_share_a_picture_make_one_group_named_by_the_first() -> None:
    records = [
        make_record(row, "ab"[row % 2], group="old" if row in (4, 5) else None) for row in range(8)
    ]
    plan = Plan(
        regroup=(
            Regroup(group="one", ids=(_id(0), _id(1))),
            Regroup(group="two", ids=(_id(1), _id(4))),
            Regroup(group="three", ids=(_id(6), _id(7))),
        )
    )
    after = apply_plan(make_manifest(records), plan)
    groups = ["one", "one", None, None, "one", "one", "three", "three"]
    assert [record.group for record in after.records] == groups


def test_step_with_the_name_of_a_group_joins_it() -> None:
    records = [make_record(0, "a", group="g"), make_record(1, "b")]
    plan = Plan(regroup=(Regroup(group="g", ids=(_id(1),)),))
    assert [record.group for record in apply_plan(make_manifest(records), plan).records] == [
        "g",
        "g",
    ]


def test_class_without_pictures_leaves_the_label_space_and_the_notes_say_so() -> None:
    manifest = make_classes({"a": 2, "b": 2, "c": 1})
    after = apply_plan(manifest, Plan(drop=(Drop(id=_id(4), reason="blurred"),)))
    assert after.label_space.names == ("a", "b")
    assert after.notes == ("the plan leaves no picture of 'c': no class is made of it",)
    assert [(row.id, row.reason, row.kind) for row in after.skipped] == [
        (_id(4), "plan: blurred", "plan")
    ]


def test_branch_without_pictures_leaves_the_taxonomy() -> None:
    space = LabelSpace.taxonomy([("x", "a"), ("x", "b"), ("y", "c")])
    records = [make_record(row, name) for row, name in enumerate(["x/a", "x/b", "y/c"])]
    after = apply_plan(Manifest(tuple(records), space, Path()), Plan(drop=(Drop(id=_id(2)),)))
    assert after.label_space == LabelSpace.taxonomy([("x", "a"), ("x", "b")])


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(drop=(Drop(id="00003.pgn"),)), r"'00003.pgn', which is not in.*mean '00003.png'"),
        (Plan(regroup=(Regroup(group="g", ids=(_id(0), "no")),)), "'no', which is not in the data"),
        (
            Plan(relabel=(Relabel(id=_id(0), was=("good",), labels=("bda",)),)),
            "relabel '00000.png': unknown class 'bda'.*Did you mean 'bad'",
        ),
        (
            Plan(relabel=(Relabel(id=_id(0), was=("good",), labels=("bad", "good")),)),
            "relabel '00000.png': each picture needs exactly one class",
        ),
        (
            Plan(relabel=(Relabel(id=_id(0), was=("good",), labels=()),)),
            "relabel '00000.png': each picture needs exactly one class",
        ),
        (
            Plan(relabel=(Relabel(id=_id(0), was=("ugly",), labels=("bad",)),)),
            "from ugly, but its label now is good; make the plan anew",
        ),
        (
            Plan(
                relabel=(
                    Relabel(id=_id(0), was=("good",), labels=("bad",)),
                    Relabel(id=_id(1), was=("good",), labels=("bad",)),
                    Relabel(id=_id(0), was=("good",), labels=("good",)),
                )
            ),
            r"relabels '00000.png' in two ways: to bad \(relabel, step 1\) and to good "
            r"\(relabel, step 3\); delete one",
        ),
        (Plan(drop=tuple(Drop(id=_id(row)) for row in range(4))), "drops all 4 pictures"),
        (Plan(drop=(Drop(id=_id(2)), Drop(id=_id(3)))), "no picture of 'bad'.*tell apart"),
    ],
)
def test_plan_that_does_not_fit_is_refused(plan: Plan, said: str) -> None:
    manifest = make_manifest(make_record(row, "good" if row < 2 else "bad") for row in range(4))
    with pytest.raises(DataError, match=said):
        apply_plan(manifest, plan)


def test_dropped_picture_is_not_relabelled_and_a_note_names_both_steps() -> None:
    waiting = Drop(id=_id(1), accept=False)
    plan = Plan(
        drop=(waiting, Drop(id=_id(0))), relabel=(Relabel(id=_id(0), was=("a",), labels=("b",)),)
    )
    after = apply_plan(make_classes({"a": 2, "b": 2}), plan)
    assert after.counts() == {"a": 1, "b": 2}
    (note,) = [note for note in after.notes if "relabels" in note]
    assert "'00000.png' (drop, step 2; relabel, step 1)" in note
    merged = merge_plans([Plan(drop=plan.drop), Plan(relabel=plan.relabel)])
    assert merged.drop == plan.drop and not merged.relabel
    proposed = plan.relabel[0].model_copy(update={"accept": False})
    quiet = apply_plan(make_classes({"a": 2, "b": 2}), Plan(drop=plan.drop, relabel=(proposed,)))
    assert not any("relabels" in note for note in quiet.notes)


def test_step_that_is_written_twice_counts_once() -> None:
    manifest = make_classes({"a": 2, "b": 2})
    step = Relabel(id=_id(0), was=("a",), labels=("b",))
    again = step.model_copy(update={"reason": "seen by another"})
    proposal = Relabel(id=_id(0), was=("a",), labels=("a",), accept=False)
    for steps in ((step, step), (step, again), (proposal, step), (step, proposal)):
        assert apply_plan(manifest, Plan(relabel=steps)).counts() == {"a": 1, "b": 3}


def test_of_several_drops_of_a_picture_the_first_gives_the_reason() -> None:
    drops = (Drop(id=_id(0), reason="blurred"), Drop(id=_id(0), reason="a copy"))
    waiting = Drop(id=_id(0), reason="who knows", accept=False)
    manifest = make_classes({"a": 2, "b": 2})
    for steps in (drops, (waiting, *drops)):
        assert apply_plan(manifest, Plan(drop=steps)).skipped[0].reason == "plan: blurred"
    merged = merge_plans([Plan(drop=drops)])
    assert merged.drop == drops[:1]
    bare = apply_plan(manifest, Plan(drop=(Drop(id=_id(0)),)))
    assert bare.skipped[0].reason == "dropped by the plan"


def test_account_counts_what_was_done() -> None:
    before = make_classes({"a": 4, "b": 4})
    relabel = Relabel(id=_id(1), was=("a",), labels=("b",))
    waiting = Relabel(id=_id(2), was=("a",), labels=("b",), accept=False)
    groups = (Regroup(group="g", ids=(_id(2), _id(3))), Regroup(group="h", ids=(_id(3), _id(5))))
    plan = Plan(drop=(Drop(id=_id(0)),) * 2, relabel=(relabel, waiting), regroup=groups)
    after = apply_plan(before, plan)
    assert account(before, after, plan) == (
        "the plan was applied: 1 picture dropped, 1 picture relabelled, 3 pictures kept together "
        "in 1 group"
    )
    assert after.notes == ("1 step is a proposal of the plan and did nothing (accept: false)",)
    assert apply_plan(after, plan).notes == after.notes
    done = Plan(drop=plan.drop, relabel=(relabel,))
    assert account(after, apply_plan(after, done), done).endswith("asks for is so already")
    idle = Plan(relabel=(waiting,))
    assert account(before, before, idle) == "the plan changed nothing: no step of it is accepted"
    assert "has no step" in account(before, before, Plan())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # YAML that cannot be read, or that would be read in part.
        ("drop:\n- {id: x}\nregroup: [a\n\n", r"line 3: not valid YAML .*close brackets"),
        ("drop:\n- id: a: b\n", r"line 2: not valid YAML .*put quotes around a name"),
        ("drop:\n- id: x\x07\n", r"line 2: not valid YAML, .*control character U\+0007"),
        ("drop: " + "[" * 3000 + "]" * 3000, "nests lists or keys too deeply"),
        ("drop:\n- id: 2024-13-40\n", "line 2: 2024-13-40 is no number or date; put it in quotes"),
        (
            "drop:\n- id: a\nrelabel:\ndrop:\n- id: b\n",
            "line 4: `drop:` is written again, after line 1; put all its steps into one `drop:`",
        ),
        ("drop:\n- id: a\n  id: b\n", "line 3: `id:` is written again, after line 2; keep one of"),
        # No plan at all.
        ("- a\n- b\n", r"the whole file: a plan has the keys .* `drop: \[\{id: a.jpg\}\]`.*a list"),
        ("0\n", "the whole file: a plan has the keys version, drop, .*; received 0"),
        ("notes", "the whole file: a plan has the keys version, drop, .*; received 'notes'"),
        ("version: 2\n", r"line 1 \(version\): takes 1, .*; received 2"),
        ('version: "1"\n', r"takes 1, without quotes \(`version: 1`\); received '1'"),
        ("drp: []\n", r"line 1 \(drp\): unknown key; allowed: version, drop, .*'drop'"),
        ("1: []\n", r"line 1 \(1\): unknown key; allowed: version, drop, relabel, regroup"),
        ("drop: {id: x}\n", r"line 1 \(drop\): takes a list of steps, each with a dash.*keys and"),
        # No step.
        ("drop:\n- {id: x, reasn: y}\n", "allowed: accept, id, reason.*'reason'"),
        ("drop:\n- idd: x\n", r"line 2 \(drop, step 1, idd\): unknown key.*'id'"),
        ("drop:\n- reason: x\n", r"`id` is missing; a step is written as `- \{id: a.jpg\}`"),
        ("drop:\n- a.jpg\n", r"a step is written as `- \{id: a.jpg\}`; received 'a.jpg'"),
        ("drop:\n- {id: x, accept: so}\n", r"step 1, accept\): takes true or false; received 'so'"),
        # No text.
        ("drop:\n- id: [x]\n", r"\(drop, step 1, id\): takes a text, .*; received a list$"),
        ("drop:\n- id: 0012\n", 'received 0012, which YAML reads as a number; .*: "0012"'),
        ("drop:\n- id: 2024-01-02\n", "received 2024-01-02, which YAML reads as a date; put it"),
        ("drop:\n- id:\n", r"line 2 \(drop, step 1, id\): is empty; write .* or delete the step"),
        ("drop:\n- id: x\n  reason:\n", r"line 3 .*reason\): is empty; .* or delete the line"),
        (
            "relabel:\n- {id: x, was: [no], labels: [yes]}\n",
            r"step 1, was, entry 1\): .*received no, which YAML reads as true or false; put it in",
        ),
        (
            "relabel:\n- {id: x, was: 7, labels: a}\n",
            "one text, or several in brackets.*received 7",
        ),
        ("regroup:\n- {group: g, ids: []}\n", r"step 1, ids\): names no picture; name some"),
        ("regroup:\n- {group: '', ids: [a]}\n", r"step 1, group\): is empty; write a text"),
    ],
)
def test_file_that_is_no_plan_is_refused_with_the_place(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said) as caught:
        read_plan(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert not any(word in message for word in ("tuple", "Input should", "unicode string"))


def test_keys_that_a_step_takes_over_from_another_are_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("drop:\n- &first {id: x, reason: a copy}\n- {<<: *first, id: y}\n", "utf-8")
    assert [step.id for step in read_plan(path).drop] == ["x", "y"]


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes("drop:\n- id: Fu\u00df.jpg\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"plan\.yaml is not text in UTF-8; save it"):
        read_plan(path)


def test_what_people_leave_behind_when_they_edit_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("drop:\nrelabel:\n- {id: x, was: a, labels: b}\nregroup:\n", encoding="utf-8")
    assert read_plan(path) == Plan(relabel=(Relabel(id="x", was=("a",), labels=("b",)),))


def test_proposals_do_nothing_until_they_are_accepted(tmp_path: Path) -> None:
    manifest = make_classes({"a": 3, "b": 3})
    steps = (
        Drop(id=_id(0), accept=False),
        Drop(id=_id(1)),
    )
    proposed = Plan(
        drop=steps, relabel=(Relabel(id=_id(2), was=("a",), labels=("b",), accept=False),)
    )
    path = tmp_path / "plan.yaml"
    write_plan(proposed, path, ["taxon split 'two\nlines' --resplit", "taxon train m.parquet"])
    text = path.read_text("utf-8")
    assert text.count("- accept: false\n") == 2 and "\n#   taxon train m.parquet\n" in text
    assert "#   taxon split 'two\\nlines' --resplit\n" in text  # a comment stays one
    assert read_plan(path) == proposed
    after = apply_plan(manifest, read_plan(path))
    assert after.counts() == {"a": 2, "b": 3}
    assert any(note.startswith("2 steps are proposals") for note in after.notes)
    path.write_text(text.replace("accept: false", "accept: true"), encoding="utf-8")
    with pytest.raises(DataError, match="no picture of 'a'"):  # two dropped, one is b now
        apply_plan(manifest, read_plan(path))


def test_an_accepted_step_wins_over_a_proposal() -> None:
    proposed = Drop(id=_id(0), accept=False)
    relabel = Relabel(id=_id(0), was=("a",), labels=("b",))
    merged = merge_plans([Plan(drop=(proposed,)), Plan(relabel=(relabel,))])
    assert merged.drop == (proposed,) and merged.relabel == (relabel,)
    certain = Drop(id=_id(0), reason="a copy")
    merged = merge_plans([Plan(drop=(proposed,)), Plan(drop=(certain,), relabel=(relabel,))])
    assert merged.drop == (certain,) and not merged.relabel


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent\.yaml"):
        read_plan(tmp_path / "absent.yaml")


def test_empty_plan_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("# nothing left\n", encoding="utf-8")
    manifest = make_classes({"a": 2, "b": 2})
    assert not read_plan(path)
    assert apply_plan(manifest, read_plan(path)) == manifest
