"""Which pooled features and which input size: whichever a probe reads best."""

from __future__ import annotations

import numpy as np

from taxon.config import Pooling
from taxon.models.backbones import Backbone
from taxon.models.pooling import build_features, gives_blocks
from taxon.preprocessing import Preprocessing
from taxon.training.candidates import Candidate, Probes

# Another size is about so much larger, and a multiple of the strides of nearly all networks.
LARGER, MULTIPLE = 1.43, 32
# A logistic regression on more features than this takes minutes.
MOST_FEATURES = 8000


def choose_pooling(probes: Probes, spec: Preprocessing) -> tuple[Pooling, str]:
    """Compare the backbone's own pooled features with statistics of all its blocks, and both.

    The statistics are the usual ones (docs/adr/0020-auto.md).

    Returns:
        The pooling, and why, in a sentence.
    """
    usual, *others = probes.poolings
    if not others:
        return usual, f"{usual}, the only ones that a probe can take of this network"
    candidates: dict[str, Candidate] = {kind: Candidate(spec, kind) for kind in probes.poolings}
    choice = probes.compare(candidates, usual, "the usual ones")
    return candidates[choice.name].pooling, choice.reason


def poolings(backbone: Backbone) -> list[Pooling]:
    """The kinds of features that a backbone has and a probe can take, the usual one first."""
    if not gives_blocks(backbone) or build_features(backbone, "all")[1] > MOST_FEATURES:
        return ["last"]
    return ["blocks", "last", "all"]


def choose_size(probes: Probes, spec: Preprocessing, pooling: Pooling) -> tuple[Preprocessing, str]:
    """Compare the input size with a larger one, where the pictures have as many pixels.

    Returns:
        The preprocessing with the size that is kept, and why, in a sentence.
    """
    side = MULTIPLE * round(LARGER * spec.height / MULTIPLE)
    usual = f"{spec.height} px"
    if probes.backbone.settings.get("fixed_input_size"):
        return spec, f"{usual}, which the architecture fixes"
    sides = [min(record.width, record.height) for record in probes.sample.records]
    if float(np.median(sides)) < side:
        return spec, f"{usual}, as the weights have it: most pictures are smaller than {side} px"
    larger = spec.model_copy(update={"height": side, "width": side})
    candidates = {usual: Candidate(spec, pooling), f"{side} px": Candidate(larger, pooling)}
    choice = probes.compare(candidates, usual, "as the weights have it")
    return candidates[choice.name].preprocessing, choice.reason
