"""Keys that clients send: the file that they stand in, and whether one was sent."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

from taxon.core.errors import InputError

NO_KEY = "this server wants a key: send it as Authorization: Bearer KEY"
_LEAST_KEY = 16  # characters: shorter ones can be guessed


def read_api_keys(file: Path) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and lines that begin with # are passed over.

    Raises:
        InputError: the file cannot be read, has no key, or one that is too short.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the keys in {file}: {error}") from error
    stripped = [line.strip() for line in lines]
    keys = tuple(line for line in stripped if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"{file} has no keys; write one a line")
    if not all(key.isascii() for key in keys):
        raise InputError(f"{file} has a key with other letters than those of ASCII")
    if any(len(key) < _LEAST_KEY for key in keys):
        raise InputError(
            f"{file} has a key of fewer than {_LEAST_KEY} characters; make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return keys


def has_key(keys: Iterable[str], authorization: str, own: str) -> bool:
    """Whether one of the keys was sent; all are compared each time, in constant time.

    Args:
        authorization, own: the headers `Authorization` and `X-Api-Key`, empty where absent.
    """
    kind, _, bearer = authorization.partition(" ")
    given = bearer.strip() if kind.lower() == "bearer" else own
    found = False
    for key in keys:
        found |= hmac.compare_digest(key.encode(), given.encode())
    return found
