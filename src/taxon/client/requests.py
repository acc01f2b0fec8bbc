"""What both clients share: requests, answers, and when to try again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taxon.core.errors import InputError, TaxonError
from taxon.core.predictions import Prediction

Picture = str | Path | bytes
_FIELDS = tuple(name for name in Prediction.model_fields if name != "path")
DEFAULT_URL = "http://127.0.0.1:8000"


class ServerError(TaxonError):
    """The server answered with an error, or not at all.

    Attributes:
        status: the HTTP status; None where there was no answer.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """How often and how long a client tries again when the server has no room (503).

    Attributes:
        attempts: in all.
        longest: seconds that it waits before one, whatever the server asks for.
    """

    attempts: int = 5
    longest: float = 10.0

    def pause(self, attempt: int, response: httpx.Response | None) -> float | None:
        """Seconds until the next attempt (the first is 0), or None where there is to be none.

        What the server asks for, or twice as long each time; and up to a half more by chance, so
        that not all who were refused come back at once.
        """
        if attempt + 1 >= self.attempts:
            return None
        if response is not None and response.status_code != 503:
            return None
        asked = response.headers.get("retry-after", "") if response is not None else ""
        seconds = float(asked) if asked.isdecimal() else 0.25 * 2**attempt
        return min(seconds, self.longest) * random.uniform(1.0, 1.5)


def files_of(pictures: Sequence[Picture]) -> list[tuple[str, tuple[str, bytes]]]:
    """The parts of the form.

    Raises:
        InputError: a file cannot be read, or there are none.
    """
    if not pictures:
        raise InputError("no pictures; give at least one path, or the bytes of one")
    return [("files", _part(picture, at)) for at, picture in enumerate(pictures, start=1)]


def predictions_of(response: httpx.Response) -> list[Prediction]:
    """The answer of /v1/classify.

    Raises:
        ServerError: it is an error.
    """
    answer = checked(response)
    return [
        Prediction(path=each["file"], **{name: each[name] for name in _FIELDS if name in each})
        for each in answer["results"]
    ]


def checked(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        ServerError: it is an error, or no JSON.
    """
    try:
        answer = response.json()
    except ValueError as error:
        raise ServerError(
            f"{response.url} answered {response.status_code} and no JSON: is it a taxon server?",
            response.status_code,
        ) from error
    if response.is_success and isinstance(answer, dict):
        return answer
    text = answer.get("error", answer) if isinstance(answer, dict) else answer
    raise ServerError(
        f"{response.url} answered {response.status_code}: {text}", response.status_code
    )


def unreachable(url: str, error: httpx.TransportError) -> ServerError:
    """What to raise where there was no answer."""
    return ServerError(f"no answer from {url} ({type(error).__name__}: {error}); is it running?")


def headers_of(api_key: str | None) -> dict[str, str]:
    """The headers of every request."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def _part(picture: Picture, at: int) -> tuple[str, bytes]:
    if isinstance(picture, bytes):
        return f"picture {at}", picture
    path = Path(picture)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
