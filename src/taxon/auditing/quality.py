"""Quality: dark, bright, blurred and empty pictures, and kinds of pixels that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from taxon.auditing.evidence import NO_LOOKS, BoolArray, Evidence
from taxon.auditing.finding import Finding, NotRun, Severity
from taxon.auditing.wording import percent, pictures
from taxon.core.text import agree
from taxon.data.look import Look
from taxon.data.plan import Drop, Plan

# Brightness and contrast are 0 to 1. Two standard deviations from the mean: of a dark picture
# even the bright areas are dark.
DARK, BRIGHT = 0.2, 0.85
CONSTANT_CONTRAST, CONSTANT_SHARPNESS = 0.012, 4.0
# Below this variance of the Laplacian a photo looks soft, unless it is nearly empty: then it is
# small beside the variance of luma too.
SOFT, SOFT_SHARE = 60.0, 0.05
DEVIATIONS = 3.0
SMALLEST_SPREAD = {"brightness": 0.03, "sharpness": 0.3}
FEW = 20

Floats = npt.NDArray[np.float64]


def check_quality(evidence: Evidence) -> list[Finding] | NotRun:
    """Constant, dark, bright and blurred pictures, compared with the rest of the set."""
    looks = evidence.looks
    if looks is None:
        return NO_LOOKS
    if not looks:
        return []
    brightness = _column(looks, "brightness")
    contrast = _column(looks, "contrast")
    sharpness = _column(looks, "sharpness")
    constant = (contrast < CONSTANT_CONTRAST) & (sharpness < CONSTANT_SHARPNESS)
    deviation = _deviations(brightness, SMALLEST_SPREAD["brightness"])
    dark = ~constant & (brightness + 2 * contrast < DARK) & (deviation < -DEVIATIONS)
    bright = ~constant & (brightness - 2 * contrast > BRIGHT) & (deviation > DEVIATIONS)
    soft = (sharpness < SOFT) & (sharpness < SOFT_SHARE * (255 * contrast) ** 2)
    blurred = ~constant & soft & (_softness(looks, sharpness) < -DEVIATIONS)
    return [
        *_constant(evidence, constant, contrast),
        *_outliers(
            evidence, "very_dark", dark, brightness, "brightness", "very dark, unlike the others"
        ),
        *_outliers(
            evidence,
            "very_bright",
            bright,
            1 - brightness,
            "darkness",
            "very bright, unlike the others",
        ),
        *_outliers(
            evidence, "blurred", blurred, sharpness, "sharpness", "much less sharp than the others"
        ),
        *_modes(evidence, looks),
    ]


def _column(looks: Sequence[Look], name: str) -> Floats:
    return np.array([getattr(look, name) for look in looks], np.float64)


def _deviations(values: Floats, smallest: float) -> Floats:
    """How many robust standard deviations (1.48 times the median absolute deviation, Hampel
    1974) each value is from the median."""
    centre = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - centre))), smallest)
    return np.asarray((values - centre) / spread)


def _softness(looks: Sequence[Look], sharpness: Floats) -> Floats:
    """Deviations of the logarithm of sharpness among pictures of a similar size: a small picture
    is sharper than the same one enlarged."""
    logarithms = np.log(sharpness + 0.01)
    bins = np.array([round(np.log2(min(max(look.width, look.height), 512))) for look in looks])
    deviations = _deviations(logarithms, SMALLEST_SPREAD["sharpness"])
    for size in np.unique(bins):
        alike = bins == size
        if alike.sum() >= FEW:
            deviations[alike] = _deviations(logarithms[alike], SMALLEST_SPREAD["sharpness"])
    return deviations


def _constant(evidence: Evidence, constant: BoolArray, contrast: Floats) -> list[Finding]:
    positions = np.flatnonzero(constant)
    if not len(positions):
        return []
    ids = tuple(evidence.records[position].id for position in positions)
    them = agree(len(ids), "it", "them")
    return [
        Finding(
            check="constant",
            severity="warning",
            record_ids=ids,
            details=tuple(f"contrast {contrast[position]:.3f}" for position in positions),
            score=len(ids) / len(evidence.records),
            advice=f"{pictures(len(ids))} of (nearly) one colour: there is nothing to learn from "
            f"{them}. Leave {them} out, unless emptiness is what a class means.",
            plan=Plan(drop=tuple(Drop(id=name, reason="of one colour") for name in ids)),
        )
    ]


def _outliers(
    evidence: Evidence, check: str, flagged: BoolArray, values: Floats, figure: str, words: str
) -> list[Finding]:
    """Pictures with the lowest values first."""
    positions = np.flatnonzero(flagged)
    if not len(positions):
        return []
    positions = positions[np.argsort(values[positions], kind="stable")]
    share = len(positions) / len(evidence.records)
    them = agree(len(positions), "it", "them")
    return [
        Finding(
            check=check,
            severity="warning" if share > 0.02 else "info",
            record_ids=tuple(evidence.records[position].id for position in positions),
            details=tuple(f"{figure} {values[position]:.2g}" for position in positions),
            score=share,
            advice=f"{pictures(len(positions))} ({percent(share)}) {words}; keep {them} if "
            f"such pictures come in use too, else leave {them} out.",
        )
    ]


def _modes(evidence: Evidence, looks: Sequence[Look]) -> list[Finding]:
    """Pixels of 16 bits, of printing colours or with transparency among others."""
    kinds = [_kind(look.mode) for look in looks]
    odd = [position for position, kind in enumerate(kinds) if kind]
    counts = Counter(kind for kind in kinds if kind)
    if not odd or (len(counts) == 1 and len(odd) == len(looks)):
        return []
    severity: Severity = "info"
    found = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return [
        Finding(
            check="mixed_modes",
            severity=severity,
            record_ids=tuple(evidence.records[position].id for position in odd),
            details=tuple(f"{looks[position].format}, {looks[position].mode}" for position in odd),
            score=len(odd) / len(looks),
            advice=f"pixels of several kinds: {found}, of {pictures(len(looks))}. They are "
            "converted (16 bits are scaled, transparency is laid over the background), but come "
            "from another source than the rest.",
        )
    ]


def _kind(mode: str) -> str:
    if mode.startswith("I"):
        return "with 16 bits"
    if mode == "CMYK":
        return "in CMYK"
    return "with transparency" if mode in ("RGBA", "LA", "PA", "La", "RGBa") else ""
