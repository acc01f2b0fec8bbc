"""What both clients share: requests, answers, and when to try again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taxon.core.errors import InputError, TaxonError
from taxon.core.predictions import Prediction

Picture = str | Path | bytes
_FIELDS = tuple(name for name in Prediction.model_fields if name != "path")
Part = tuple[str, bytes]  # the name of a picture, and its file's content
# Of one request: enough to fill batches, and well within a server's limits.
PICTURES_TOGETHER = 16
BYTES_TOGETHER = 16 * 1024 * 1024
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


def requests_of(pictures: Sequence[Picture]) -> Iterator[list[Part]]:
    """Divide pictures among requests, a few in each; files are read as they are sent.

    Raises:
        InputError: a file cannot be read.
    """
    together: list[Part] = []
    size = 0
    for at, picture in enumerate(pictures, start=1):
        part = part_of(picture, at)
        if together and (
            len(together) == PICTURES_TOGETHER or size + len(part[1]) > BYTES_TOGETHER
        ):
            yield together
            together, size = [], 0
        together.append(part)
        size += len(part[1])
    if together:
        yield together


def part_of(picture: Picture, at: int = 1) -> Part:
    """The name and the bytes of a picture.

    Args:
        at: its place, by which one without a name is called.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(picture, bytes):
        return f"picture {at}", picture
    path = Path(picture)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def form_of(parts: Sequence[Part]) -> list[tuple[str, Part]]:
    """The form of a request."""
    return [("files", part) for part in parts]


def query_of(model: str | None, top: int | None) -> dict[str, str | int]:
    """The parameters of a request."""
    wanted: dict[str, str | int | None] = {"model": model, "top": top}
    return {name: value for name, value in wanted.items() if value is not None}


def predictions_of(response: httpx.Response, parts: Sequence[Part]) -> list[Prediction]:
    """The answer of /v1/classify, also where its one picture cannot be read.

    Raises:
        ServerError: it is another error.
    """
    if len(parts) == 1 and response.status_code == 400:
        name = parts[0][0]
        place, separator, reason = error_text(response).partition(f"{name}: ")
        if separator and not place:
            return [Prediction(path=name, error=reason)]
    return [
        Prediction(path=each["file"], **{name: each[name] for name in _FIELDS if name in each})
        for each in checked(response)["results"]
    ]


def error_text(response: httpx.Response) -> str:
    """What an answer says is wrong."""
    try:
        answer = response.json()
    except ValueError:
        return response.text[:200]
    return str(answer.get("error", answer)) if isinstance(answer, dict) else str(answer)[:200]


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
    raise ServerError(
        f"{response.url} answered {response.status_code}: {error_text(response)}",
        response.status_code,
    )


def unreachable(url: str, error: httpx.TransportError) -> ServerError:
    """What to raise where there was no answer."""
    return ServerError(f"no answer from {url} ({type(error).__name__}: {error}); is it running?")


def headers_of(api_key: str | None) -> dict[str, str]:
    """The headers of every request."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}
