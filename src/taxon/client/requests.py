"""What both clients share: requests, answers, and when to try again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taxon.core.errors import InputError, TaxonError
from taxon.core.predictions import Prediction

Picture = str | Path | bytes
_FIELDS = tuple(name for name in Prediction.model_fields if name != "path")
Part = tuple[str, bytes]  # the name of a picture, and its file's content
# Of one request: enough to fill batches. Where the server's limits are lower, they hold.
PICTURES_TOGETHER = 16
BYTES_TOGETHER = 16 * 1024 * 1024
REQUESTS_TOGETHER = 4  # under way at a time, where several are
_PART_BYTES = 256  # of a form around each picture, at most
DEFAULT_URL = "http://127.0.0.1:8000"


Outcome = httpx.Response | httpx.TransportError  # of an attempt


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
        longest: seconds that it waits before one at most, whatever the server asks for.
    """

    attempts: int = 5
    longest: float = 10.0

    def pause(self, attempt: int, outcome: Outcome) -> float | None:
        """Seconds until the next attempt (the first is 0), or None where there is to be none.

        What the server asks for, or twice as long each time; and up to a half more by chance, so
        that not all who were refused come back at once.
        """
        if attempt + 1 >= self.attempts:
            return None
        seconds: float = 0.25 * 2**attempt
        if isinstance(outcome, httpx.Response):
            if outcome.status_code != 503:
                return None
            asked = outcome.headers.get("retry-after", "")
            seconds = float(asked) if asked.isdecimal() else seconds
        elif not isinstance(outcome, httpx.ConnectError):  # else nothing was sent: it does no harm
            return None
        if seconds >= self.longest:  # they come back too early, but not all at once either
            return self.longest * random.uniform(0.5, 1.0)
        return min(seconds * random.uniform(1.0, 1.5), self.longest)


def requests_of(pictures: Sequence[Picture], limits: Mapping[str, int]) -> Iterator[list[Part]]:
    """Divide pictures among requests that the server accepts; files are read as they are sent.

    Args:
        limits: the server's, out of /v1/model. A picture beyond them is alone in its request.

    Raises:
        InputError: a file cannot be read.
    """
    most = max(1, min(PICTURES_TOGETHER, limits["max_pictures"] // REQUESTS_TOGETHER))
    room = min(BYTES_TOGETHER, limits["max_body_bytes"])
    together: list[Part] = []
    size = 0
    for at, picture in enumerate(pictures, start=1):
        part = part_of(picture, at)
        added = len(part[1]) + _PART_BYTES
        if together and (len(together) == most or size + added > room):
            yield together
            together, size = [], 0
        together.append(part)
        size += added
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
    """The form of a request.

    It calls pictures by their places: their names may be longer than a server repeats, or hold
    what a form cannot.
    """
    return [("files", (str(at), data)) for at, (_, data) in enumerate(parts, start=1)]


def query_of(
    model: str | None, version: str | None, top: int | None = None
) -> dict[str, str | int]:
    """The parameters of a request."""
    wanted: dict[str, str | int | None] = {"model": model, "version": version, "top": top}
    return {name: value for name, value in wanted.items() if value is not None}


def predictions_of(response: httpx.Response, parts: Sequence[Part]) -> list[Prediction]:
    """The answer of /v1/classify, also where its one picture cannot be read or is too large.

    Raises:
        ServerError: it is another error.
    """
    names = [name for name, _ in parts]
    if len(parts) == 1 and response.status_code in (400, 413):
        reason = error_text(response)
        if response.status_code == 413 or reason.startswith("1: "):  # its name in the form
            return [Prediction(path=names[0], error=reason.removeprefix("1: "))]
    return [
        Prediction(path=path, **{name: each[name] for name in _FIELDS if name in each})
        for path, each in zip(names, checked(response)["results"], strict=True)
    ]


def error_text(response: httpx.Response) -> str:
    """What an answer says is wrong."""
    try:
        answer = response.json()
    except ValueError:
        return f"{response.url} answered {response.status_code} {response.reason_phrase}"
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


def answered(outcome: Outcome, url: str) -> httpx.Response:
    """The answer.

    Raises:
        ServerError: there was none.
    """
    if isinstance(outcome, httpx.TransportError):
        what = f"{type(outcome).__name__}: {outcome}"
        raise ServerError(f"no answer from {url} ({what}); is it running?") from outcome
    return outcome


def headers_of(api_key: str | None) -> dict[str, str]:
    """The headers of every request."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}
