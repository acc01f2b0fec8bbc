"""The page to try the model on: static files of the package, no build step, no network."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a page of an older server must not talk to a newer one
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER = resources.files("taxon.serving") / "static"


def page_router() -> APIRouter:
    """Make `GET /` and `GET /static/{file}`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return static_file("index.html")

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        return static_file(name)

    return router


def static_file(name: str) -> Response:
    """Return one of the package's own files.

    Raises:
        HTTPException: 404, there is none of this name.
    """
    if name not in _names():
        raise HTTPException(404, f"no static file '{name[:60]}'")
    return Response(_content(name), media_type=_TYPES[Path(name).suffix], headers=_HEADERS)


@cache
def _names() -> frozenset[str]:
    """All there are: what is asked for is looked up among them, and never on the disk."""
    return frozenset(file.name for file in _FOLDER.iterdir() if Path(file.name).suffix in _TYPES)


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
