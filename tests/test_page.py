"""The page to try a model on, in a real browser; skipped where there is none."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    BLUE,
    DESKTOP,
    GREEN,
    GREY,
    PHONE,
    RED,
    needs_browser,
    picture,
    running_server,
    upload,
    watched_page,
)
from PIL import Image
from test_report_page import CONTRAST

pytestmark = needs_browser
SERVER = str(Path(__file__).with_name("page_server.py"))
KEY = "a key of more than sixteen letters"
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
# Of the overlay: its size, and where its strongest colour is, as shares of width and height.
HOTTEST = """
() => {
  const canvas = document.getElementById("overlay");
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let most = 0, sumX = 0, sumY = 0, count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const heat = data[at] > 60 ? data[at + 3] : 0; // what is darkened has no red
    if (heat > most) { most = heat; sumX = sumY = count = 0; }
    if (!most || heat < most) continue;
    sumX += (at / 4) % width;
    sumY += Math.floor(at / 4 / width);
    count += 1;
  }
  return { width, height, x: sumX / count / width, y: sumY / count / height, most };
}
"""
# Counts the requests that are under way together, and all of them.
COUNT = """
() => {
  const send = window.fetch;
  let active = 0;
  window.counts = { most: 0, all: 0 };
  window.fetch = async (...given) => {
    active += 1;
    counts.all += 1;
    counts.most = Math.max(counts.most, active);
    try { return await send(...given); } finally { active -= 1; }
  };
}
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(SERVER) as url:
        yield url


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page of the model `colours`, on a desktop."""
    with watched_page(browser, url, DESKTOP) as page:
        open_page(page, url, "colours")
        yield page


def open_page(page: Any, url: str, model: str) -> None:
    page.goto(f"{url}/?model={model}")
    page.wait_for_selector("#panel:not([hidden])")


def send(page: Any, *files: dict[str, Any] | str) -> None:
    """Choose files, and wait for their answers."""
    before = page.locator("#tiles li").count()
    page.set_input_files("#files", list(files))
    wait(page, before + len(files))


def wait(page: Any, count: int) -> None:
    page.wait_for_selector(f"#tiles:not(:has([data-kind=waiting])) li:nth-child({count})")
    assert page.locator("#tiles li").count() == count


def tiles(page: Any, part: str = ".caption") -> list[str]:
    shown = page.locator("#tiles li:not([hidden])")
    return [str(text) for text in shown.locator(part).all_text_contents()]


def explained(page: Any) -> None:
    page.wait_for_selector("#overlay:not([hidden])")


def square(orientation: int | None = None) -> bytes:
    """A wide grey JPEG with a red square at its left, low; it may be stored turned."""
    image = Image.new("RGB", (160, 120), (120, 120, 120))
    image.paste((255, 0, 0), (30, 70, 60, 100))
    exif = Image.Exif()
    if orientation == 6:  # to be turned by 90 degrees clockwise when it is shown
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


def test_answers_and_errors(page: Any) -> None:
    send(
        page,
        upload("r.png", RED),
        upload("g.png", GREY),
        upload("<b>.png", b"meow"),
        upload("large.png", b"x" * 300_000),
    )
    assert tiles(page) == ["red", "green", "No answer", "No answer"]
    assert page.inner_text("#answer") == "red"
    assert page.inner_text("#badge") == "99.2 %"
    assert page.locator("#bars .name").all_text_contents() == ["red", "blue", "green"]
    assert page.inner_text("#latency").count(" ms") == 2
    assert page.inner_text("#set li") == "red"
    assert page.text_content("#said") == "4 pictures, 1 unsure, 2 failed"
    page.locator(".tile").nth(1).click()
    assert page.inner_text("#badge") == "unsure"
    assert "this model wants 50.0 %" in page.inner_text("#verdict")
    page.locator(".tile").nth(2).click()
    assert page.inner_text("#verdict").startswith("Not a picture")
    assert page.inner_text("#file-name") == "<b>.png"
    page.wait_for_selector("#no-preview:not([hidden])")
    assert page.is_disabled("#why")
    page.locator(".tile").nth(3).click()
    assert "too large; at most 0.2 MiB" in page.inner_text("#verdict")
    page.click(".filter[data-kind=unsure]")
    assert tiles(page) == ["green"]
    page.select_option("#label-filter", "red")
    assert tiles(page) == [] and page.is_visible("#none-shown")
    page.click("#clear")
    assert page.is_hidden("#gallery") and page.is_hidden("#stage")


def test_what_is_said_to_a_screen_reader(page: Any) -> None:
    send(page, upload("r.png", RED), upload("g.png", GREY))
    assert page.text_content("#said") == "r.png: red, 99.2 %. g.png: green, 33.6 %, unsure"


@pytest.mark.parametrize(("script", "name"), [(PASTE, "pasted.png"), (DROP, "dropped.png")])
def test_paste_and_drop(page: Any, script: str, name: str) -> None:
    page.evaluate(script, base64.b64encode(BLUE).decode())
    wait(page, 1)
    assert tiles(page) == ["blue"]
    assert page.inner_text("#file-name") == name


def test_a_link_is_no_picture(page: Any) -> None:
    page.evaluate(
        "() => { const data = new DataTransfer(); data.setData('text/uri-list', 'http://a/b.png');"
        "dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true })); }"
    )
    page.wait_for_selector("#failure:not([hidden])")
    assert "Save the picture first" in page.inner_text("#failure")


def test_camera(page: Any) -> None:
    page.click("#open-camera")
    page.wait_for_selector("#camera-bars li:nth-child(3)")  # it answers while it is looked at
    page.click("#camera-take")
    wait(page, 1)
    assert page.inner_text("#file-name") == "camera 1.jpg"
    assert page.evaluate("document.getElementById('camera-video').srcObject") is None


def test_keyboard(page: Any) -> None:
    # Chromium lets a listener have the dialogue only a moment after it was registered.
    page.on("filechooser", lambda chooser: None)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that leads past the head
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([upload("r.png", RED), upload("g.png", GREEN), upload("b.png", BLUE)])
    wait(page, 3)

    def tab_to(selector: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not lead to {selector}")

    tab_to("#why")
    page.keyboard.press("Enter")
    explained(page)
    tab_to("#opacity")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#opacity-value") == "75 %"
    tab_to(".tile")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#answer") == "green"
    page.keyboard.press("End")
    assert page.inner_text("#answer") == "blue"
    page.keyboard.press("Delete")
    assert tiles(page) == ["red", "green"] and page.inner_text("#answer") == "green"
    page.keyboard.press("Home")
    assert page.inner_text("#answer") == "red"


@pytest.mark.parametrize("orientation", [None, 6])
def test_explanation_lies_over_the_picture(page: Any, orientation: int | None) -> None:
    send(page, upload("square.jpg", square(orientation), "image/jpeg"))
    before = page.locator("#frame").screenshot()
    page.locator("[data-label=red] button").click()
    explained(page)
    page.wait_for_selector("[data-label=red] button[aria-pressed=true]")
    found = page.evaluate(HOTTEST)
    # Upright, however it is stored; the square's middle is at 45 and 85 of 160 x 120 pixels. The
    # map has 7 x 7 parts of the middle 105 pixels.
    assert (found["width"], found["height"]) == (160, 120)
    assert found["x"] == pytest.approx(45 / 160, abs=0.06)
    assert found["y"] == pytest.approx(85 / 120, abs=0.08)
    assert "in place of" in page.inner_text("#why-words")
    strong = page.locator("#frame").screenshot()
    assert strong != before
    page.fill("#opacity", "20")
    assert page.evaluate("getComputedStyle(document.getElementById('overlay')).opacity") == "0.2"
    assert page.locator("#frame").screenshot() not in (before, strong)
    page.locator("[data-label=blue] button").click()
    page.wait_for_selector("[data-label=blue] button[aria-pressed=true]")
    page.click("#why")
    assert page.is_hidden("#overlay")
    assert page.locator("#frame").screenshot() == before


def test_tags_taxonomy_and_the_choice_of_models(page: Any, url: str) -> None:
    open_page(page, url, "tags")
    send(page, upload("y.png", RED), upload("g.png", GREEN))
    assert page.locator("#tags li").all_text_contents() == ["red"]
    assert page.inner_text("#answer") == "1 tag"
    left = page.evaluate("document.querySelector('[data-label=blue] .threshold').style.left")
    assert left == "25%"
    page.select_option("#model-picker", label="tree")
    page.wait_for_selector("#path:not([hidden])")
    wait(page, 2)
    assert page.locator("#path li").all_text_contents() == ["warm", "red"]
    assert page.inner_text("#panel-name") == "tree" and page.url.endswith("?model=tree")
    assert tiles(page) == ["red", "green"]
    assert page.inner_text("#no-card") == "It has no model card, and no figures."


def test_stops_where_the_taxonomy_is_not_sure(page: Any, url: str) -> None:
    open_page(page, url, "tree")
    send(page, upload("teal.png", picture((60, 110, 130))))
    assert page.locator("#path li").all_text_contents() == ["cold", "perhaps blue"]


def test_csv(page: Any) -> None:
    send(
        page,
        upload('=HYPERLINK("x").png', RED),
        upload('a, "b".png', GREY),
        upload("@cat.txt", b"meow", "text/plain"),
    )
    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == "colours.csv"
    raw = Path(download.value.path()).read_bytes()
    text = raw.decode("utf-8-sig")
    assert raw.startswith(b"\xef\xbb\xbf") and text.count("\r\n") == 4
    red, grey, failed = csv.DictReader(io.StringIO(text))
    assert red["file"] == '\'=HYPERLINK("x").png' and grey["file"] == 'a, "b".png'
    assert (red["label"], red["unsure"], grey["unsure"]) == ("red", "false", "true")
    assert float(red["probability red"]) == float(red["confidence"]) > 0.99
    assert float(red["server_ms"]) < float(red["total_ms"])
    assert failed["file"] == "'@cat.txt" and failed["error"].startswith("Not a picture")
    assert failed["label"] == "" and failed["probability red"] == ""


def test_few_requests_at_a_time_and_again_when_busy(page: Any) -> None:
    page.evaluate(COUNT)
    page.route(
        "**/v1/classify**",
        lambda route: route.fulfill(
            status=503, headers={"retry-after": "1"}, body=json.dumps({"error": "busy"})
        ),
        times=1,
    )
    page.set_input_files("#files", [upload(f"{n}.png", RED) for n in range(12)])
    page.wait_for_selector("#busy:not([hidden])")
    assert page.inner_text("#busy").startswith("The server is busy; trying again in")
    wait(page, 12)
    assert tiles(page) == ["red"] * 12
    assert page.evaluate("[counts.most, counts.all]") == [4, 13]
    page.wait_for_selector("#busy", state="hidden")


def test_what_stands_beside_it(page: Any) -> None:
    panel = page.inner_text("#panel")
    assert "Names one of 3 classes" in panel and "An answer less than 50.0 % sure" in panel
    assert page.inner_text("#figures .figure-value") == "80.0 %"
    assert page.inner_text("#figures .figure-interval") == "70.0 to 90.0"
    page.click("#classes-title")
    assert "as <i>blood</i>" in page.inner_text("#class-list")
    assert "F1 25.0 % · n 4" in page.inner_text("#class-list")
    page.click("#open-card")
    card = page.inner_text("#card-text")
    assert card.startswith('Colours <script>document.title = "run"</script>')
    assert "none of this" not in card and "nor this" not in card
    assert page.locator("#card-text td").all_text_contents() == ["red", "4"]
    assert page.locator("#card-text li em").text_content() == "second"
    links = page.locator("#card-text a")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.org"]
    assert page.title() == "colours · taxon"


def test_asks_for_the_key(browser: Any) -> None:
    with running_server(SERVER, KEY) as url, watched_page(browser, url, PHONE) as page:
        page.goto(url)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key-input", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-refused:not([hidden])")
        page.fill("#key-input", KEY)
        page.click("#key-form .primary")
        page.wait_for_selector("#panel:not([hidden])")
        assert page.is_visible("#model-name") and page.is_hidden("#picker")
        send(page, upload("r.png", RED))
        assert tiles(page) == ["red"]
        page.reload()  # it is kept in this tab
        page.wait_for_selector("#panel:not([hidden])")
        page.click("#forget-key")
        page.set_input_files("#files", [upload("r.png", RED)])
        page.wait_for_selector("#key-dialog[open]")
        page.click("#key-cancel")
        page.wait_for_selector("#stage[data-state=failed]")
        assert "wants a key" in page.inner_text("#verdict")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_with_enough_contrast(browser: Any, url: str, scheme: str) -> None:
    options = {"color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with watched_page(browser, url, PHONE, **options) as page:
        open_page(page, url, "colours")
        assert page.is_visible("#take-photo") and page.is_hidden("#open-camera")
        send(page, upload("a very long name " * 9, RED), upload("g.png", GREY), upload("x", b"x"))
        for at in range(3):
            page.locator(".tile").nth(at).click()
            worst = page.evaluate(CONTRAST)
            assert worst["ratio"] >= 4.5, worst


def test_a_real_model_and_real_pictures(browser: Any, run: Path, defects: Path) -> None:
    program = (
        "import sys, taxon; from taxon.api import serve; "
        "serve(sys.argv[1], port=0, on_ready=lambda url: print(url, flush=True))"
    )
    pictures = [str(file) for file in sorted(defects.rglob("*.jpg"))[::20]]
    with (
        running_server("-c", program, str(run)) as url,
        watched_page(browser, url, DESKTOP) as page,
    ):
        page.goto(url)
        page.wait_for_selector("#figures-section:not([hidden])")
        assert page.locator("#figures li").count() == 3
        send(page, *pictures)
        page.click("#why")
        explained(page)
        assert "hottest part" in page.inner_text("#why-words")
        page.click("#open-card")
        assert "Intended use" in page.inner_text("#card-text")
