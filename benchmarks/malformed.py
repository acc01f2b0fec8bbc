"""Requests that are nearly right: valid bodies of every kind, changed by a seeded generator."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

INFERENCE_HEADER = "inference-header-content-length"
_BOUNDARY = "xXx"
_NUMBERS = (b"-1", b"1e400", b"99999999999999999999", b"9" * 5000, b"0.5", b"null", b"NaN", b"{}")
_WORDS = (
    *(b"[" * 300, b"{", b"}", b"]", b'"', b"\\ud800", b"\0", b"\xff\xfe", b"\r\n\r\n"),
    *(b"--xXx", b"--xXx--\r\n", b'"data":', b"null", b"true", b"=", b";", b"%00", b"\r"),
)
_TYPES = ("", "application/json", "image/png", "multipart/form-data; boundary=y", "a/b", ";;;")


@dataclass(frozen=True)
class Sent:
    """A request to POST."""

    path: str
    headers: dict[str, str]
    body: bytes


def valid_requests(model: str, size: int) -> list[Sent]:
    """One request of each kind to a model that takes pictures of `size` x `size`."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    png = stream.getvalue()
    text = base64.b64encode(png).decode()
    classify, infer = "/v1/classify?top=1", f"/v2/models/{model}/infer"
    form = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n'
        "content-type: image/png\r\n\r\n"
    ).encode()
    tensor = {"name": "images", "shape": [1, 3, size, size], "datatype": "UINT8"}
    encoded = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [text]}
    flat = {**tensor, "data": noise.transpose(2, 0, 1).ravel().tolist()}
    following = {**tensor, "parameters": {"binary_data_size": noise.size}}
    header = json.dumps(
        {"inputs": [following], "parameters": {"binary_data_output": True}}
    ).encode()
    element = {**encoded, "parameters": {"binary_data_size": 4 + len(png)}}
    del element["data"]
    files = json.dumps({"inputs": [element]}).encode()
    as_json = {"content-type": "application/json"}
    return [
        Sent(classify, {"content-type": "image/png"}, png),
        Sent(
            classify,
            {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
            form + png + f"\r\n--{_BOUNDARY}--\r\n".encode(),
        ),
        Sent(classify, as_json, json.dumps({"pictures": [{"name": "a", "data": text}]}).encode()),
        Sent(infer, as_json, json.dumps({"id": "1", "inputs": [encoded]}).encode()),
        Sent(infer, as_json, json.dumps({"inputs": [flat]}).encode()),
        Sent(infer, {INFERENCE_HEADER: str(len(header))}, header + noise.tobytes()),
        Sent(
            infer,
            {INFERENCE_HEADER: str(len(files))},
            files + len(png).to_bytes(4, "little") + png,
        ),
    ]


def malformed_requests(valid: list[Sent], count: int, seed: int = 0) -> Iterator[Sent]:
    """Change valid requests at random, each in one to three ways; some stay right."""
    chance = random.Random(seed)
    for _ in range(count):
        sent = chance.choice(valid)
        for _ in range(chance.randint(1, 3)):
            sent = chance.choice(_CHANGES)(sent, chance)
        yield sent


def _place(body: bytes, chance: random.Random) -> int:
    """Most of them near the start, where the structure is."""
    return chance.randrange(min(len(body), chance.choice((40, 400, 1 << 30))) + 1)


def _flip(sent: Sent, chance: random.Random) -> Sent:
    body = bytearray(sent.body or b"x")
    for _ in range(chance.randint(1, 8)):
        body[min(_place(sent.body, chance), len(body) - 1)] = chance.randrange(256)
    return replace(sent, body=bytes(body))


def _cut(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, body=sent.body[: _place(sent.body, chance)])


def _remove(sent: Sent, chance: random.Random) -> Sent:
    start = _place(sent.body, chance)
    return replace(sent, body=sent.body[:start] + sent.body[start + chance.randint(1, 200) :])


def _repeat(sent: Sent, chance: random.Random) -> Sent:
    start, length = _place(sent.body, chance), chance.randint(1, 400)
    piece = sent.body[start : start + length] * chance.choice((1, 2, 100))
    return replace(sent, body=sent.body[:start] + piece + sent.body[start:])


def _insert(sent: Sent, chance: random.Random) -> Sent:
    at = _place(sent.body, chance)
    return replace(sent, body=sent.body[:at] + chance.choice(_WORDS) + sent.body[at:])


def _number(sent: Sent, chance: random.Random) -> Sent:
    """Put another number where one stands."""
    places = [at for at, byte in enumerate(sent.body[:600]) if 48 <= byte <= 57]
    if not places:
        return _insert(sent, chance)
    start = end = chance.choice(places)
    while end < len(sent.body) and 48 <= sent.body[end] <= 57:
        end += 1
    return replace(sent, body=sent.body[:start] + chance.choice(_NUMBERS) + sent.body[end:])


def _type(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, headers={**sent.headers, "content-type": chance.choice(_TYPES)})


def _header(sent: Sent, chance: random.Random) -> Sent:
    value = chance.choice(("-1", "0", "5", "9" * 5000, "x", str(len(sent.body) + 1)))
    name = chance.choice((INFERENCE_HEADER, "x-timeout-ms"))
    return replace(sent, headers={**sent.headers, name: value})


def _query(sent: Sent, chance: random.Random) -> Sent:
    word = chance.choice(("top=-1", "top=" + "9" * 5000, "label=%00", "model=%ff", "top=x&top=1"))
    return replace(sent, path=f"{sent.path.partition('?')[0]}?{word}")


_CHANGES: tuple[Callable[[Sent, random.Random], Sent], ...] = (
    *(_flip, _cut, _remove, _repeat, _insert, _number, _number, _type, _header, _query),
)
