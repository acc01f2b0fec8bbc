"""JSON of strangers, looked at before it is parsed.

Parsed, 32 MB with a list or a number in every two bytes are gigabytes of objects, and nothing else
is answered meanwhile. Counting the characters that make up the structure takes milliseconds.
"""

from __future__ import annotations

from taxon.serving.computing.errors import TooMany

# Of each, for what a request says beside its pictures, and for such characters in names.
_SPARE = 1000


def require_simple(body: bytes, *, objects: int, lists: int, strings: int, values: int) -> None:
    """Refuse JSON with more structure than a request of its kind can have.

    Args:
        objects, lists, strings, values: that it has at most; keys are strings too, and values are
            the entries of all lists and objects together.

    Raises:
        TooMany: it has more.
    """
    allowed = {b"{": objects, b"[": lists, b'"': 2 * strings, b":": strings, b",": values}
    for character, most in allowed.items():
        if body.count(character) > most + _SPARE:
            raise TooMany(
                f"the JSON has more than {most} '{character.decode()}'; send less in a request"
            )
