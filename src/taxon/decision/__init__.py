"""Decisions: the policy that turns logits into an answer, and (in `fit`) how it is fitted."""

from taxon.decision.decide import decide
from taxon.decision.policy import DecisionPolicy, calibrate

__all__ = ["DecisionPolicy", "calibrate", "decide"]
