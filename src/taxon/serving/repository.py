"""The repository of the Open Inference Protocol V2: which models there are, load, unload.

A request names a model, never a path: it is opened again from where the server was told to look.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from taxon.core.errors import TaxonError
from taxon.serving.desk import Desk
from taxon.serving.models.served import UnknownModel
from taxon.serving.refusals import BadRequest, NotAllowed

OFF = (
    "this server does not open or close models by request; it does with --reload-by-request, and "
    "on SIGHUP or a changed pointer file in any case"
)
# And not the reason itself: it has paths of this machine in it.
REFUSED = "its newest state is refused; the server's log says why"
READY = "READY"


class Entry(BaseModel):
    """A model: READY; or UNAVAILABLE, with the reason why its newest state is not served."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"name": "clothing", "version": "3f6c01d2", "state": "READY", "reason": ""}
        }
    )

    name: str
    version: str
    state: str
    reason: str


def entries(desk: Desk) -> list[Entry]:
    """Return the models that there are, and those whose newest state is refused."""
    served = [
        Entry(name=model.name, version=model.version, state=READY, reason="")
        for model in desk.table
    ]
    refused = [
        Entry(name=name, version="", state="UNAVAILABLE", reason=REFUSED)
        for name in desk.table.refused
    ]
    return served + refused


async def load(desk: Desk, name: str) -> None:
    """Open a model's newest state, where the server was told to look.

    Raises:
        BadRequest: it may not be served.
        NotAllowed: the server does not do this by request.
        UnknownModel: there is none of this name.
    """
    _require_allowed(desk)
    try:
        await desk.table.refresh(name)
    except UnknownModel:
        raise
    except TaxonError as error:
        raise BadRequest(f"model '{name}': {REFUSED}") from error


async def unload(desk: Desk, name: str) -> None:
    """Close a model.

    Raises:
        NotAllowed: the server does not do this by request.
        UnknownModel: there is none of this name.
    """
    _require_allowed(desk)
    await desk.table.unload(name)


def _require_allowed(desk: Desk) -> None:
    if not desk.settings.reload_by_request:
        raise NotAllowed(OFF)
