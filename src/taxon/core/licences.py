"""What a licence of code or weights asks of who uses a model, in one sentence each."""

from __future__ import annotations

_DUTIES = {
    "agpl-3.0": (
        "AGPL-3.0: who passes this model on, or lets others use it over a network, has to offer "
        "them the source of what is built with it under the same licence, or needs another licence "
        "from its owner"
    ),
}


def duty(licence: str) -> str | None:
    """Return what a licence asks, None where it asks for no more than its notice to be kept.

    Args:
        licence: as timm and the Hugging Face Hub write it, say `apache-2.0`.
    """
    return _DUTIES.get(licence.lower())
