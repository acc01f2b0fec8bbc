"""What a licence of code or weights asks of who uses a model, in one sentence each."""

from __future__ import annotations

_DUTIES = {
    "agpl-3.0": (
        "AGPL-3.0: who passes this model on, or lets others use it over a network, has to offer "
        "them the source of what is built with it under the same licence, or needs another licence "
        "from its owner"
    ),
    "cc-by-4.0": "CC BY 4.0: who passes this model on has to name the authors of the weights",
    "cc-by-nc-4.0": (
        "CC BY-NC 4.0: this model is not for commercial use, and who passes it on has to name the "
        "authors of the weights"
    ),
    "apple-amlr": "Apple's licence for machine-learning research: this model is for research only",
    "fair-noncommercial-research-license": (
        "FAIR's non-commercial research licence: this model is for non-commercial research only"
    ),
}
_PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-3-clause"})
# Those of timm's that the Hub knows by name; any other is `other` there, with its name beside it.
_ON_THE_HUB = _PERMISSIVE | _DUTIES.keys() | {"apple-ascl", "gemma", "unknown"}


def duty(licence: str) -> str | None:
    """Return what a licence asks, None where we know of no more than its notice to be kept.

    Args:
        licence: as timm and the Hugging Face Hub write it, say `apache-2.0`.
    """
    return _DUTIES.get(licence.lower())


def duty_in_words(licence: str) -> str:
    """Return a sentence on what a licence asks, also where it is not known.

    Args:
        licence: as for `duty`.
    """
    asked = duty(licence)
    if asked is not None:
        return f"{asked}."
    if licence.lower() in _PERMISSIVE:
        return "It asks for no more than that its notice is kept with the model."
    if licence.lower() == "unknown":
        return (
            "Ask where the weights come from what their licence is, before you use the model or "
            "pass it on."
        )
    return "It has terms of its own: read them before you use the model or pass it on."


def on_the_hub(licence: str) -> dict[str, str]:
    """Return the entries of a model card for a licence: `license`, and `license_name` where the
    Hugging Face Hub does not know it."""
    if licence.lower() in _ON_THE_HUB:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": licence.lower()}
