"""Why pictures are not computed."""

from __future__ import annotations

from taxon.core.errors import TaxonError


class Overloaded(TaxonError):
    """There is no room for more pictures at the moment; the same request may work later.

    Args:
        reason: in a word, for the metrics: `queue`, `wait`, `stopping`, ...
        seconds: after which it is worth to try again.
    """

    def __init__(self, text: str, reason: str = "queue", seconds: float = 1.0) -> None:
        super().__init__(text)
        self.reason = reason
        self.seconds = seconds


class DeadlinePassed(TaxonError):
    """The request's time was over before its pictures were computed; they are not."""


class ComputationFailed(TaxonError):
    """The backend failed on the batch that this picture was in; the cause is chained."""


class TooMany(ValueError):
    """More pictures than one request may bring."""
