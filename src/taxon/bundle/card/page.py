"""The card as one page of Markdown: what the model is, for what, how good, and where it ends."""

from __future__ import annotations

from taxon.bundle.card.data import data_lines
from taxon.bundle.card.facts import CardFacts
from taxon.bundle.card.limits import limit_lines
from taxon.bundle.card.metadata import metadata_block, read_block
from taxon.bundle.card.policy import policy_lines
from taxon.bundle.card.results import result_lines
from taxon.bundle.card.tables import code, prose
from taxon.bundle.card.usage import usage_lines
from taxon.core.labels import LabelSpace
from taxon.core.licences import duty_in_words
from taxon.core.text import counted, one_line

_BEGIN = "<!-- yours: what stands from here to the next mark is kept when taxon writes the card -->"
_END = "<!-- end of yours -->"
_NOTHING_YET = (
    "*Nobody has written here yet who uses the model and for what, on which pictures, who looks at "
    "its answers, and what a mistake costs.*"
)


def model_card(facts: CardFacts, previous: str | None = None) -> str:
    """Return README.md of a model folder.

    Args:
        previous: the card that it replaces; what people wrote into it is kept: the text between
            the two marks, and all of the block at the top but the figures.

    Raises:
        ValueError: the previous card is not `is_refreshable`.
    """
    spec, provenance = facts.spec, facts.info.provenance
    sections = {
        "Intended use": [*_intended(spec.label_space), "", _BEGIN, _yours(previous), _END],
        "Data": data_lines(facts.data, spec.label_space, provenance.data_fingerprint),
        "How good": result_lines(facts.measured, facts.info.name, spec.label_space.task),
        "What it answers": policy_lines(spec.policy, spec.label_space),
        "Limits": limit_lines(facts),
        "Licence": [_licence(facts)],
        "How to use it": usage_lines(facts),
        "How it was made": _origin(facts),
    }
    lines = [metadata_block(facts, previous), "", f"# {prose(facts.info.name)}", ""]
    lines += _what_it_is(facts)
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def is_refreshable(card: str) -> bool:
    """Whether taxon may write a card anew: it has the marks, and a block that can be read."""
    try:
        _yours(card)
        read_block(card)
    except ValueError:
        return False
    return True


def _yours(previous: str | None) -> str:
    """What people wrote between the marks."""
    if previous is None:
        return _NOTHING_YET
    _, begin, rest = previous.partition(f"{_BEGIN}\n")
    text, end, _ = rest.partition(f"\n{_END}")
    if not begin or not end:
        raise ValueError("the card lacks the marks around what is kept")
    return text


def _what_it_is(facts: CardFacts) -> list[str]:
    space, provenance, spec = facts.spec.label_space, facts.info.provenance, facts.spec
    shape = f"{spec.preprocessing.width}x{spec.preprocessing.height}"
    return [
        f"An image classifier: {_task(space)}. Trained with taxon "
        f"{provenance.versions.get('taxon', '')} on the backbone {code(facts.info.backbone)}; it "
        f"sees pictures at {shape} pixels ({spec.preprocessing.resize}).",
        "",
        f"Fingerprint of the model: `{facts.info.fingerprint}`",
    ]


def _task(space: LabelSpace) -> str:
    count = len(space.names)
    if space.task == "multilabel":
        return f"any number of {counted(count, 'tag', 'tags')} a picture"
    levels = f" in a taxonomy of {space.depth} levels" if space.is_taxonomy else ""
    return f"one of {count} classes a picture{levels}"


def _intended(space: LabelSpace) -> list[str]:
    thing = "tags" if space.task == "multilabel" else "classes"
    return [
        f"For naming the {thing} below on pictures like those that it was trained on: the same "
        "subjects, taken in the same way, at the same places. **Not for** pictures of other kinds, "
        "for classes that it was not taught, or for decisions about people or safety that nobody "
        "checks: it is as good as what was measured below, and no better.",
    ]


def _licence(facts: CardFacts) -> str:
    weights = facts.info.provenance.weights
    licence = weights.get("licence")
    if licence is None:
        return (
            "No pretrained weights went into the model: it has the licence that its owner gives "
            "it. Write it into the block at the top (`license:`); taxon keeps it there."
        )
    return (
        f"The pretrained weights ({prose(weights.get('source', 'unknown'))}) are under the "
        f"licence **{prose(licence)}**. {duty_in_words(licence)} What the pictures' own rights "
        "allow is not known here."
    )


def _origin(facts: CardFacts) -> list[str]:
    provenance = facts.info.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return [
        f"    {one_line(provenance.command)}",
        "",
        f"On {provenance.created}, in {provenance.seconds:.0f} s on {provenance.device}, with "
        f"{versions}. The whole configuration is in `bundle.json`. On the way was decided:",
        "",
        *(f"- {prose(note)}" for note in provenance.notes),
    ]
