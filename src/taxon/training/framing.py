"""Framing: crop, squash or pad, whichever a probe on the training part reads best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxon.config import Pooling
from taxon.data import Record
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import JPEG_FORMATS
from taxon.preprocessing.spec import ResizeMode
from taxon.preprocessing.transform import kept_area
from taxon.training.candidates import Candidate, Probes

MODES: tuple[ResizeMode, ...] = ("crop", "squash", "pad")
# Large JPEGs are halved while they are decoded when even then they are larger than the input.
DCT_FACTOR = 4
MUCH_CUT_AWAY = 0.4


@dataclass(frozen=True)
class Framing:
    """The framing that was chosen, and why, in a sentence."""

    mode: ResizeMode
    reason: str


def choose_framing(probes: Probes, spec: Preprocessing, pooling: Pooling) -> Framing:
    """Compare crop, squash and pad by probes.

    The framing of the weights stays unless another one is better by more than the noise.
    """
    candidates: dict[str, Candidate] = {
        mode: Candidate(spec.model_copy(update={"resize": mode}), pooling)
        for mode in _modes_that_differ(probes.sample.records, spec)
    }
    choice = probes.compare(candidates, spec.resize, "as the weights have it")
    return Framing(candidates[choice.name].preprocessing.resize, choice.reason)


def framing_by_shape(records: Sequence[Record], spec: Preprocessing, why: str) -> Framing:
    """Where no probe can tell, by how much of the pictures a centre crop would cut away.

    Args:
        why: no probe can, in words.
    """
    kept = [kept_area((record.width, record.height), spec) for record in records]
    lost = 1 - float(np.median(kept)) if kept else 0.0
    if spec.resize == "crop" and lost > MUCH_CUT_AWAY:
        return Framing("squash", f"squash, since a centre crop would cut away {lost:.0%} ({why})")
    return Framing(spec.resize, f"{spec.resize}, as the weights have it ({why})")


def suits_dct_scaling(records: Sequence[Record], spec: Preprocessing) -> bool:
    """Whether most pictures are JPEGs several times larger than the input."""
    jpegs = [record for record in records if record.look and record.look.format in JPEG_FORMATS]
    if 2 * len(jpegs) <= len(records):
        return False
    sides = [min(record.width, record.height) for record in jpegs]
    return float(np.median(sides)) >= DCT_FACTOR * max(spec.height, spec.width)


def _modes_that_differ(records: Sequence[Record], spec: Preprocessing) -> list[ResizeMode]:
    """Of square pictures, squash and pad are the same."""
    aspect = spec.width / spec.height
    shapes = np.array([record.width / record.height / aspect for record in records])
    same = float(np.mean(np.abs(np.log(shapes)) < 0.02)) > 0.95
    return [mode for mode in MODES if not same or mode != "pad" or spec.resize == "pad"]
