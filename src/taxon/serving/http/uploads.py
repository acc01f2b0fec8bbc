"""The pictures in a request: a form, the bytes of one picture, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from taxon.serving.computing.engine import Upload
from taxon.serving.computing.errors import TooMany
from taxon.serving.http.simple_json import require_simple
from taxon.serving.refusals import BadRequest

RAW_NAME = "picture"  # a raw body has no file name
_NO_FILE = "the form has no file; send each picture as a part with a file name"
_PIECE = 1 << 20  # characters of base64, a multiple of four
_OTHER_PARTS = 100  # of a form at most, those without a file name

EXAMPLE_PICTURE = "R0lGODdhAgACAIEAAMgeHgAAAAAAAAAAACwAAAAAAgACAAAIBgABCAQQEAA7"
EXAMPLE_BODY: dict[str, JsonValue] = {"pictures": [{"name": "a.gif", "data": EXAMPLE_PICTURE}]}


class JsonPicture(BaseModel):
    """One picture in a JSON body."""

    model_config = ConfigDict(extra="forbid")

    name: str = RAW_NAME
    data: str


class JsonPictures(BaseModel):
    """The JSON body of `POST /v1/classify`: pictures in base64."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": EXAMPLE_BODY},
    )

    pictures: list[JsonPicture]


def uploads_of(content_type: str, body: bytes, maximum: int) -> list[Upload]:
    """Return the pictures of a request, in order.

    Args:
        content_type: of the body, as the client declared it.
        maximum: pictures at most.

    Raises:
        BadRequest: a picture in JSON is not in base64.
        HTTPException: 400 where the body has none or cannot be read, 415 another type.
        TooMany: more pictures.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        pictures = _form(options.get(b"boundary", b""), body, maximum)
    elif kind == b"application/json":
        pictures = _json(body, maximum)
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        pictures = [Upload(RAW_NAME, body)] if body else []
        if not body:
            raise HTTPException(400, "the body is empty; send a picture")
    else:
        received = f"content type '{content_type}'" if content_type else "no content type"
        raise HTTPException(
            415,
            f"{received} is not supported; send multipart/form-data with files, one picture as "
            "image/* or application/octet-stream, or application/json with base64",
        )
    if len(pictures) > maximum:
        raise _too_many(maximum)
    return pictures


def _too_many(maximum: int) -> TooMany:
    return TooMany(f"more than {maximum} pictures in one request; send them in several")


@dataclass
class _Form:
    """Collects the parts that have a file name; the others are passed over.

    Too many end it at once: parsing is work for each part, and a body has room for a million.
    """

    maximum: int
    parts: int = 0
    pictures: list[Upload] = field(default_factory=list)
    _name: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _file: str | None = None
    _data: list[memoryview] = field(default_factory=list)

    def begin(self) -> None:
        self.parts += 1
        if self.parts > self.maximum + _OTHER_PARTS:
            raise _too_many(self.maximum)
        self._name, self._value = bytearray(), bytearray()
        self._file, self._data = None, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            if b"filename" in options:
                self._file = options[b"filename"].decode("utf-8", "replace")
        self._name, self._value = bytearray(), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._data.append(memoryview(data)[start:end])

    def end(self) -> None:
        if self._file is None:
            return
        if len(self.pictures) == self.maximum:
            raise _too_many(self.maximum)
        name = self._file or f"picture {len(self.pictures) + 1}"
        whole = len(self._data) == 1  # and no copy of it is needed
        self.pictures.append(Upload(name, self._data[0] if whole else b"".join(self._data)))


def _form(boundary: bytes, body: bytes, maximum: int) -> list[Upload]:
    form = _Form(maximum)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_part_data": form.data,
                "on_part_end": form.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from error
    if not form.pictures:
        raise HTTPException(400, _NO_FILE)
    return form.pictures


def _json(body: bytes, maximum: int) -> list[Upload]:
    require_simple(body, objects=maximum + 1, lists=1, strings=4 * maximum + 1, values=2 * maximum)
    try:
        request = JsonPictures.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, first_fault(error)) from error
    if not request.pictures:
        raise HTTPException(400, "the body has no pictures; send at least one")
    return [Upload(each.name, from_base64(each.data, each.name)) for each in request.pictures]


def first_fault(error: ValidationError) -> str:
    """Where a JSON body is wrong, and how."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"{place}: {first['msg'].lower()}"


def from_base64(value: object, name: str) -> bytes:
    """Return the bytes of a picture in base64.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, str):
        raise BadRequest(
            f"{name} is a {type(value).__name__}; allowed is a picture's bytes in base64"
        )
    # In pieces, since the event loop stands still while one is decoded.
    pieces = [value[start : start + _PIECE] for start in range(0, len(value), _PIECE)]
    if any(piece.endswith("=") for piece in pieces[:-1]):
        raise BadRequest(f"{name} is not base64 (it goes on after its end)")
    try:
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{name} is not base64 ({error})") from error
