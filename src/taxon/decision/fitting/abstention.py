"""Abstention: below which confidence an answer is unsure, so that the others can be relied on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from taxon.decision.policy import ALWAYS_UNSURE

# Places from which ever less confident answers are tested, and what each may take of the chance to
# err. The first, the fewest answers by which a risk can be shown at all, takes half of it: where a
# low risk is asked for, few pictures decide whether anything can be promised.
SHARES = (1 / 2, 1 / 8, 1 / 8, 1 / 8, 1 / 8)


@dataclass(frozen=True)
class AbstentionFit:
    """The limit, what was found, in a sentence, and whether the promise is kept."""

    abstain_below: float
    note: str
    kept: bool


def fit_abstention(
    confidence: npt.NDArray[np.float64],
    wrong: npt.NDArray[np.bool_],
    *,
    risk: float,
    certainty: float,
    part: str,
) -> AbstentionFit:
    """Find the lowest limit whose answers above it have, with this certainty, a lower risk.

    The share of mistakes among answers at least as confident as the limit is bounded by the exact
    binomial (Clopper & Pearson 1934). Limits are tested in a fixed order, from confident to less,
    until one fails ("fixed sequence testing": Angelopoulos et al. 2021, "Learn then Test"); from
    five places, each with its share of the chance to err, so that one early mistake does not end
    it all. Places and order are fixed before any label is seen, which the promise rests on.

    Args:
        confidence: float64 [N], of the answers.
        wrong: bool [N].
        risk: above 0, below 1.
        certainty: above 0, below 1: the chance that the promise holds, over calibration parts.
        part: its name, for the sentence.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, mistakes = confidence[order], np.cumsum(wrong[order])
    chances = [(1 - certainty) * share for share in SHARES]
    fewest = math.ceil(math.log(chances[0]) / math.log1p(-risk))  # without any mistake
    total = len(order)
    if total < fewest:
        return AbstentionFit(
            ALWAYS_UNSURE,
            f"a risk below {risk:g} cannot be promised with {total} pictures of {part}: it takes "
            f"{fewest} answers without a mistake; every answer is unsure",
            kept=False,
        )
    # A limit cannot separate answers of equal confidence.
    possible = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True)) + 1
    kept = 0
    starts = np.geomspace(fewest, total, len(SHARES), endpoint=False).astype(int)
    for start, chance in zip(starts.tolist(), chances, strict=True):
        answered = possible[possible >= start]
        shown = _bounds(mistakes[answered - 1], answered, chance) <= risk
        before_failure = answered[: len(shown) if shown.all() else int(shown.argmin())]
        kept = max(kept, *before_failure[-1:].tolist(), 0)
    if not kept:
        return AbstentionFit(
            ALWAYS_UNSURE,
            f"a risk below {risk:g} cannot be promised: too many mistakes among the most "
            f"confident answers on {part}; every answer is unsure",
            kept=False,
        )
    # Between two confidences: a runtime that rounds otherwise gives the same answers.
    below = ranked[kept] if kept < total else 0.0
    limit, seen = float(ranked[kept - 1] + below) / 2, int(mistakes[kept - 1])
    return AbstentionFit(
        limit,
        f"unsure below {limit:.3g}: {kept / total:.0%} of the answers on {part} are sure, {seen} "
        f"of these {kept} are wrong; with {certainty:.0%} confidence less than {risk:g} of new "
        "sure answers are",
        kept=True,
    )


def _bounds(
    mistakes: npt.NDArray[np.integer], answered: npt.NDArray[np.integer], chance: float
) -> npt.NDArray[np.float64]:
    """The largest shares of mistakes that go with what was seen, but for this chance."""
    some_right = np.maximum(answered - mistakes, 1)
    bounds = stats.beta.ppf(1 - chance, mistakes + 1, some_right)
    return np.asarray(np.where(mistakes == answered, 1.0, bounds))
