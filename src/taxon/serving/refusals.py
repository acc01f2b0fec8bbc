"""Why a request is not answered; REST and gRPC each say it in their way."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from taxon.core.errors import InputError
from taxon.serving.computing.errors import ComputationFailed, DeadlinePassed, Overloaded, TooMany
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.served import UnknownModel


class BadRequest(InputError):
    """What a request holds cannot be used."""


class NoKey(InputError):
    """A request without a key, on a server that wants one."""


class NotAllowed(InputError):
    """This server does not do that for anyone who asks."""


# By the statuses of HTTP, in which requests are counted, those of gRPC too.
STATUSES: dict[type[Exception], int] = {
    BadRequest: 400,
    NoKey: 401,
    NotAllowed: 403,
    UnknownModel: 404,
    TooMany: 413,
    ComputationFailed: 500,
    Overloaded: 503,
    DeadlinePassed: 504,
}


@dataclass(frozen=True)
class Refusal:
    """What a client is told.

    Attributes:
        status: of HTTP.
        text: one sentence.
        retry_seconds: after which to ask again, where that may help.
    """

    status: int
    text: str
    retry_seconds: int | None = None


def refusal_of(error: Exception, metrics: ServerMetrics) -> Refusal:
    """Say an error, and count it; of a failure of the server's own, no more than that it is one."""
    status = next((STATUSES[kind] for kind in STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        # The batcher logged the cause of a failed computation, once a batch.
        metrics.failed("computation" if isinstance(error, ComputationFailed) else "bug")
        return Refusal(500, "internal error")
    if isinstance(error, Overloaded):
        metrics.rejected(error.reason)
        return Refusal(status, str(error), ceil(error.seconds))
    if isinstance(error, DeadlinePassed):
        metrics.rejected("deadline")
    if isinstance(error, NoKey):
        metrics.rejected("key")
    return Refusal(status, str(error))
