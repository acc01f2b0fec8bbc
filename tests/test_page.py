"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"
)

SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_serving import make_predictor
from taxon.serving import ServingSettings, serve
serve(
    make_predictor(),
    port=0,
    settings=ServingSettings(max_body_bytes=200_000),
    on_ready=lambda url: print(url, flush=True),
)
"""
PASTE = """
encoded => {
  const bytes = Uint8Array.from(atob(encoded), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
  dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
}
"""
DROP = PASTE.replace("pasted.png", "dropped.png").replace(
    'new ClipboardEvent("paste", { clipboardData: data })',
    'new DragEvent("drop", { dataTransfer: data, cancelable: true })',
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    yield started.stdout.readline().strip()
    started.terminate()
    started.communicate(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=[*arguments, "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, loaded; at its end, nothing was asked of any other server and no script failed."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    failures: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#about:not([hidden])")
    yield page
    assert not failures
    assert [address for address in asked if not address.startswith((url, "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def cards(page: Any, count: int) -> list[Any]:
    page.wait_for_selector(f".card:nth-child({count})")
    page.wait_for_selector(".card.waiting", state="detached")
    found = page.query_selector_all(".card")
    assert len(found) == count
    return list(found)


def picture(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, "PNG")
    return stream.getvalue()


def test_pictures_and_errors(page: Any) -> None:
    assert page.inner_text("#model-name") == "colours"
    assert page.inner_text("#model-facts").startswith("3 classes")
    page.set_input_files(
        "#files",
        [
            {"name": "r.png", "mimeType": "image/png", "buffer": picture((255, 0, 0))},
            {"name": "g.png", "mimeType": "image/png", "buffer": picture((99, 100, 99))},
            {"name": "<b>.png", "mimeType": "image/png", "buffer": b"meow"},
            {"name": "large.png", "mimeType": "image/png", "buffer": b"x" * 300_000},
        ],
    )
    red, grey, broken, large = cards(page, 4)
    assert red.query_selector(".answer").inner_text() == "red"
    assert red.query_selector(".badge").inner_text() == "99.2 %"
    assert [bar.inner_text() for bar in red.query_selector_all(".bars .name")] == [
        "red",
        "blue",
        "green",
    ]
    assert red.query_selector(".time").inner_text().endswith(" ms")
    assert grey.query_selector(".badge").inner_text() == "unsure"
    assert broken.query_selector(".message").inner_text().startswith("Not a picture")
    assert broken.query_selector(".file").inner_text() == "<b>.png"
    assert "too large; at most 0.2 MiB" in large.query_selector(".message").inner_text()
    assert page.inner_text("#status") == "2 classified, 2 without a prediction"
    assert "r.png: red, 99.2 %" in page.text_content("#announcements")
    page.click("#clear")
    assert page.query_selector(".card") is None
    assert page.is_hidden("#results-section")


@pytest.mark.parametrize(("script", "name"), [(PASTE, "pasted.png"), (DROP, "dropped.png")])
def test_paste_and_drop(page: Any, script: str, name: str) -> None:
    page.evaluate(script, base64.b64encode(picture((0, 0, 255))).decode())
    (card,) = cards(page, 1)
    assert card.query_selector(".answer").inner_text() == "blue"
    assert card.query_selector(".file").inner_text() == name


def test_keyboard(page: Any) -> None:
    # Chromium lets a listener have the dialogue only a moment after it was registered.
    page.on("filechooser", lambda chooser: None)
    page.keyboard.press("Tab")  # the details about the model
    page.keyboard.press("Enter")
    assert page.is_visible("#about-list")
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(
        [{"name": "g.png", "mimeType": "image/png", "buffer": picture((0, 255, 0))}]
    )
    (card,) = cards(page, 1)
    assert card.query_selector(".answer").inner_text() == "green"
