"""The card's section on what the figures and the promises do not cover."""

from __future__ import annotations

from collections.abc import Iterator

from taxon.bundle.card.facts import CardFacts, SlicedFacts
from taxon.bundle.card.tables import code, prose, table
from taxon.core.text import agree, counted

FEW_PICTURES = 20
_SHOWN_SLICES = 5
_NAMED_CLASSES = 10


def limit_lines(facts: CardFacts) -> list[str]:
    """Return the lines of Markdown."""
    points = [
        "Figures hold for pictures like those of the test part. Another camera, place, season or "
        "group of people is another question: score pictures of it (`taxon evaluate RUN DATA`).",
        *_independence(facts),
        *_fitted(facts),
        *_scope(facts),
        *_small_classes(facts),
        *(f"Audit before the training, {prose(text)}" for text in facts.data.warnings),
    ]
    return [*(f"- {point}" for point in points), *_subgroups(facts)]


def _independence(facts: CardFacts) -> Iterator[str]:
    if all(part.groups is None for part in facts.data.parts):
        yield (
            "No groups were given. Where several pictures show one thing (a patient, a part, a "
            "scene), the parts of the split are not independent, and the figures are too good."
        )


def _fitted(facts: CardFacts) -> Iterator[str]:
    policy = facts.spec.policy
    part = facts.data.part(policy.fitted_on)
    if policy.fitted_on == "defaults" or part is None:
        yield (
            "Nothing was calibrated: probabilities, and limits on them, are not to be taken at "
            "their word."
        )
        return
    promised = "coverage of the prediction sets, " if policy.sets is not None else ""
    yield (
        f"Temperature, thresholds and limits ({promised}abstention, out of scope) come from "
        f"{counted(part.pictures, 'picture', 'pictures')} of the {part.name} part. They hold for "
        "pictures like these and on average, not for each picture, and no longer where pictures "
        "or the frequency of classes have changed."
    )
    if part.name == "validation":
        yield (
            "That part also chose which epoch was kept, so what was fitted on it is somewhat too "
            "sure."
        )


def _scope(facts: CardFacts) -> Iterator[str]:
    if facts.spec.policy.scope is None and facts.spec.label_space.task == "multiclass":
        yield "It names a class for every picture, also for one that shows none of its classes."


def _small_classes(facts: CardFacts) -> Iterator[str]:
    part = facts.data.part("test")
    if part is None:
        yield "There is no test part: nothing here says how good the model is."
        return
    names = facts.spec.label_space.names
    small = [
        code(name)
        for name, count in zip(names, part.per_class, strict=True)
        if count < FEW_PICTURES
    ]
    if small:
        shown, more = small[:_NAMED_CLASSES], len(small) - _NAMED_CLASSES
        yield (
            f"Of {', '.join(shown)}{f' and {more} more' if more > 0 else ''} the test part has "
            f"fewer than {FEW_PICTURES} pictures: figures of {agree(len(small), 'it', 'them')} "
            "are rough."
        )


def _subgroups(facts: CardFacts) -> list[str]:
    """The weak slices; what no column names stays unknown."""
    sliced = SlicedFacts() if facts.measured is None else facts.measured.sliced
    lines = [
        "- Subgroups that nobody measured (a device, a site, an age, a light) may be worse than "
        "all figures here: `taxon evaluate RUN DATA --slice-by COLUMN` scores them apart.",
        *(f"- Subgroups: {prose(note)}" for note in sliced.notes),
    ]
    return [*lines, *_weak(sliced)] if sliced.judged else lines


def _weak(sliced: SlicedFacts) -> list[str]:
    count = len(sliced.weak)
    were = agree(sliced.judged, "was", "were")
    measured = f"{counted(sliced.judged, 'subgroup', 'subgroups')} that {were} measured"
    if not count:
        return [f"- Of {measured}, none is weak."]
    rows = [
        [
            f"{code(row.column)} {code(row.value)}",
            f"{row.pictures:,}",
            prose(row.figure),
            prose(row.difference),
        ]
        for row in sliced.weak[:_SHOWN_SLICES]
    ]
    shown = f" The worst {_SHOWN_SLICES}:" if count > _SHOWN_SLICES else ""
    return [
        f"- Of {measured}, {count} {agree(count, 'is', 'are')} weak, more than chance would "
        f"make of so many (permutation test over groups, corrected for their number).{shown}",
        "",
        *table(["Subgroup", "Pictures", "Figure", "Difference"], rows),
    ]
