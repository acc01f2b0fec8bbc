"""Abstention: below which confidence an answer is unsure, so that the others can be relied on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from taxon.decision.policy import ALWAYS_UNSURE

# Places from which ever less confident answers are tested; each has its share of the error chance.
STARTS = 4


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
    four places, each with a quarter of the chance to err, so that one early mistake does not end
    it all. The order is fixed before any label is seen, which is what the promise rests on.

    Args:
        confidence: float64 [N], of the answers.
        wrong: bool [N].
        risk: above 0, below 1.
        certainty: above 0, below 1: the chance that the promise holds, over calibration parts.
        part: its name, for the sentence.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, mistakes = confidence[order], np.cumsum(wrong[order])
    chance = (1 - certainty) / STARTS
    fewest = math.ceil(math.log(chance) / math.log1p(-risk))  # without any mistake
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
    for start in np.linspace(fewest, total, STARTS, endpoint=False).astype(int):
        for answered in possible[possible >= start].tolist():
            if _bound(int(mistakes[answered - 1]), answered, chance) > risk:
                break
            kept = max(kept, answered)
    if not kept:
        return AbstentionFit(
            ALWAYS_UNSURE,
            f"a risk below {risk:g} cannot be promised: too many mistakes among the most "
            f"confident answers on {part}; every answer is unsure",
            kept=False,
        )
    limit, seen = float(ranked[kept - 1]), int(mistakes[kept - 1])
    return AbstentionFit(
        limit,
        f"unsure below {limit:.3g}: {kept / total:.0%} of the answers on {part} are sure, {seen} "
        f"of these {kept} are wrong; with {certainty:.0%} confidence less than {risk:g} of new "
        "sure answers are",
        kept=True,
    )


def _bound(mistakes: int, answered: int, chance: float) -> float:
    """The largest share of mistakes that goes with what was seen, but for this chance."""
    if mistakes == answered:
        return 1.0
    return float(stats.beta.ppf(1 - chance, mistakes + 1, answered - mistakes))
