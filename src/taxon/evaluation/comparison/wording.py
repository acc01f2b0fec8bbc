"""A comparison in words: the verdict, and the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass

from taxon.core.text import counted, some
from taxon.evaluation.comparison.summary import Paired, PairedMetrics
from taxon.evaluation.wording import percent, plain
from taxon.metrics import exact_interval

# What is smaller is not worth a sentence, whatever the test says: a tenth of a point is shown.
SMALLEST = 0.0005
SURE = 0.05

_NAMES = {
    "top1": "top-1",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "balanced_accuracy": "balanced accuracy",
    "mAP": "mAP",
    "exact_match": "exact match",
    "log_loss": "log loss",
    "average_distance": "hierarchical distance",
}
_PLAIN = frozenset({"log_loss", "average_distance"})


@dataclass(frozen=True)
class PairedRow:
    """One figure of both runs, for a table.

    Attributes:
        name: `top-1`; where less is better the name says so.
        a, b: `83.1 %` or `0.512`; a dash where it is undefined.
        difference: B less A in points, `+2.3`, or as a plain number.
        interval: `0.4 to 4.1`, or nothing.
        p_value: `0.031`, or nothing.
        paired: the figure itself.
        in_points: whether differences are per cents of pictures or of a score.
    """

    name: str
    a: str
    b: str
    difference: str
    interval: str
    p_value: str
    paired: Paired
    in_points: bool


def paired_rows(metrics: PairedMetrics) -> list[PairedRow]:
    """Return a row for every figure, the verdict's first."""
    return [paired_row(name, figure) for name, figure in metrics.figures.items()]


def paired_row(name: str, figure: Paired) -> PairedRow:
    """Write one figure for people."""
    in_points = name not in _PLAIN
    show = percent if in_points else plain
    words = _NAMES.get(name, name)
    return PairedRow(
        name=f"{words} (less is better)" if figure.lower_is_better else words,
        a=show(figure.a.value),
        b=show(figure.b.value),
        difference=_signed(figure.difference.value, in_points),
        interval=_interval(figure, in_points),
        p_value="" if figure.p_value is None else p_words(figure.p_value),
        paired=figure,
        in_points=in_points,
    )


def p_words(value: float) -> str:
    """`0.031`; a very small one as `below 0.001`."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def verdict_sentences(metrics: PairedMetrics) -> tuple[str, ...]:
    """Return the verdict in a sentence, then what a reader must know beside it."""
    return (
        _verdict(metrics),
        *_turned(metrics),
        *_other_figures(metrics),
        *_classes(metrics),
        *_not_judged(metrics),
        *_independence(metrics),
    )


def _verdict(metrics: PairedMetrics) -> str:
    outcome, pictures = metrics.verdict.outcome, counted(metrics.n, "picture", "pictures")
    if outcome == "same":
        return f"A and B give the same answers to all {pictures}."
    headline, name = metrics.headline, _NAMES[metrics.verdict.figure]
    if headline.difference.value is None:
        return f"Nothing can be said: {name} is undefined ({headline.difference.reason})."
    if outcome in ("better", "worse"):
        return f"B is {outcome}: {name} {_with_interval(headline, in_points=True)}."
    told = f"No difference can be told with {pictures}: {name} "
    told += _with_interval(headline, in_points=True)
    if _excludes_zero(headline) and headline.p_value is not None:
        # Few pictures differ: resampling them cannot make the interval wide enough.
        return (
            f"{told}, but chance alone makes such a difference (p = {p_words(headline.p_value)})."
        )
    if metrics.verdict.detectable is None:
        return f"{told}."
    size = 100 * metrics.verdict.detectable
    return f"{told}; a difference below {size:.1f} points cannot be relied on to be seen."


def _turned(metrics: PairedMetrics) -> list[str]:
    """How many answers turned right or wrong; what it means that none did."""
    if metrics.verdict.outcome == "same":
        return []
    test = metrics.mcnemar
    changed = test.only_a + test.only_b
    if metrics.task == "multilabel":
        if not changed:
            return []
        return [
            f"{counted(test.only_b, 'answer', 'answers')} turned right in every tag, {test.only_a} "
            f"no longer so (McNemar's exact test: p = {p_words(test.p_value)})."
        ]
    if not changed:
        # What was not seen in any group: as for every other share of exactly 0.
        bound = 100 * exact_interval(False, metrics.groups or metrics.n)[1]
        return [
            f"No answer turned right or wrong; up to {bound:.1f} % of pictures like these still "
            "might."
        ]
    return [
        f"{counted(test.only_b, 'answer', 'answers')} turned right, {test.only_a} turned wrong "
        f"(McNemar's exact test: p = {p_words(test.p_value)})."
    ]


def _other_figures(metrics: PairedMetrics) -> list[str]:
    """The figures that are better or worse beyond chance, beside that of the verdict."""
    sentences = []
    for outcome in ("worse", "better"):
        found = [
            f"{_NAMES[name]} {_with_interval(figure, in_points=name not in _PLAIN)}"
            for name, figure in metrics.figures.items()
            if name != metrics.verdict.figure
            and figure.outcome == outcome
            and abs(figure.difference.value or 0.0) >= SMALLEST
        ]
        if found:
            sentences.append(f"B is {outcome} in {', '.join(found)}.")
    return sentences


def _classes(metrics: PairedMetrics) -> list[str]:
    """The classes that changed beyond chance, corrected for their number."""
    told = {
        name: entry
        for name, entry in metrics.per_class.items()
        if entry.corrected is not None and entry.corrected < SURE
    }
    kinds = "tags" if metrics.task == "multilabel" else "classes"
    sentences = []
    for outcome, sign in (("worse", 1), ("better", -1)):
        found = [name for name, entry in told.items() if sign * (entry.only_a - entry.only_b) > 0]
        if found:
            sentences.append(
                f"B is {outcome} on {some(found)} (corrected for {len(metrics.classes)} {kinds})."
            )
    return sentences


def _not_judged(metrics: PairedMetrics) -> list[str]:
    """What becomes of the pictures of which some tags are unknown."""
    count = metrics.n - metrics.mcnemar.judged
    if not count:
        return []
    return [
        f"Of {counted(count, 'picture', 'pictures')} some tags are unknown: exact match and "
        "McNemar's test leave them out, and none is called fixed or broken; their known tags count "
        "in the other figures."
    ]


def _independence(metrics: PairedMetrics) -> list[str]:
    if metrics.groups is None:
        return []
    return [
        f"The pictures are in {counted(metrics.groups, 'group', 'groups')}: intervals and the "
        "verdict go by groups, McNemar's test takes pictures for independent."
    ]


def _excludes_zero(figure: Paired) -> bool:
    interval = figure.difference.ci95
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _with_interval(figure: Paired, *, in_points: bool) -> str:
    """`+2.3 points (0.4 to 4.1)`."""
    unit = " points" if in_points else ""
    interval = _interval(figure, in_points)
    return f"{_signed(figure.difference.value, in_points)}{unit}" + (
        f" ({interval})" if interval else ""
    )


def _signed(value: float | None, in_points: bool) -> str:
    if value is None:
        return "–"
    text = f"{100 * value:+.1f}" if in_points else f"{value:+.3f}"
    return text[1:] if not float(text) else text


def _interval(figure: Paired, in_points: bool) -> str:
    if figure.difference.ci95 is None:
        return ""
    # Plus 0.0: a rounded -0 is written 0.
    low, high = figure.difference.ci95
    if in_points:
        return f"{round(100 * low, 1) + 0.0:.1f} to {round(100 * high, 1) + 0.0:.1f}"
    return f"{round(low, 3) + 0.0:.3f} to {round(high, 3) + 0.0:.3f}"
