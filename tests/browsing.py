"""What the tests of the server's pages share: a server, a browser, pictures."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
)
needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"
)
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
# Every control needs a name that a screen reader can say, and every id must be one element's.
FAULTS = """
() => {
  const faults = [];
  const kinds = "button, a, input, select, textarea, canvas, img, video, summary";
  for (const control of document.querySelectorAll(kinds)) {
    if (!control.checkVisibility() || control.closest("[aria-hidden=true]")) continue;
    const labels = [...(control.labels ?? [])].map(label => label.textContent).join("");
    const by = (control.getAttribute("aria-labelledby") ?? "").split(" ")
      .map(id => document.getElementById(id)?.textContent ?? "").join("");
    const decorative = control.tagName === "IMG" && control.alt === "";
    const said = control.getAttribute("aria-label");
    const named = [control.textContent, said, control.alt, labels, by].some(text => text?.trim());
    if (!decorative && !named) faults.push(control.outerHTML.slice(0, 120));
  }
  const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
  return faults.concat(ids.filter((id, at) => ids.indexOf(id) !== at).map(id => `twice: ${id}`));
}
"""


@contextmanager
def running_server(*arguments: str) -> Iterator[str]:
    """Run a program that prints its URL when it is ready, and end it; yields the URL."""
    started = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    try:
        yield started.stdout.readline().strip()
    finally:
        started.terminate()
        started.communicate(timeout=20)


@contextmanager
def running_browser() -> Iterator[Any]:
    """Chromium with a camera that shows a pattern."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=[*arguments, "--disable-sync"]
        )
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Any, url: str, viewport: dict[str, int], **options: Any) -> Iterator[Any]:
    """A page; at its end no script failed, no other server was asked, and it is as wide as the
    window, with a name for every control.
    """
    page = browser.new_page(viewport=viewport, **options)
    failures: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))

    def look(route: Any) -> None:
        elsewhere.append(route.request.url)
        route.abort()

    page.route(lambda address: not address.startswith((url, "blob:", "data:")), look)
    yield page
    assert failures == []
    assert elsewhere == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(FAULTS) == []
    page.close()


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture of one colour, PNG."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


RED, GREEN, BLUE = (picture(c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
GREY = picture((99, 100, 99))


def upload(name: str, data: bytes, kind: str = "image/png") -> dict[str, Any]:
    """A file as `set_input_files` takes it."""
    return {"name": name, "mimeType": kind, "buffer": data}
