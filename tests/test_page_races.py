"""The page in a browser where answers come late, or the model is exchanged in the meantime."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import (
    DESKTOP,
    RED,
    needs_browser,
    running_server,
    upload,
    watched_page,
)
from test_page import SERVER, explained, open_page, send, tiles, wait

pytestmark = needs_browser
NEW = "0" * 64  # the fingerprint of a model that was exchanged
# The camera starts when `start()` is called, and what it gave is kept.
SLOW_CAMERA = """
() => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const asked = new Promise((resolve) => (window.start = resolve));
  window.streams = [];
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    await asked;
    const stream = await ask(wanted);
    streams.push(stream);
    return stream;
  };
}
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(SERVER) as url:
        yield url


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with watched_page(browser, url, DESKTOP, reduced_motion="reduce") as page:
        page.clock.install()
        open_page(page, url, "colours")
        yield page


class Held:
    """Requests to an address that are not yet answered."""

    def __init__(self, page: Any, address: str) -> None:
        self._page, self._address = page, address
        self.routes: list[Any] = []
        page.route(address, self._hold)

    def _hold(self, route: Any) -> None:
        self.routes.append(route)

    def wait_for(self, count: int) -> None:
        """Wait until so many came."""
        until(self._page, lambda: len(self.routes) >= count)

    def release(self) -> None:
        """Answer them, and hold no more."""
        self._page.unroute(self._address, self._hold)
        for route in self.routes:
            route.fallback()


def next_frame(page: Any) -> None:
    page.evaluate("new Promise(requestAnimationFrame)")


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Look in each frame; what Playwright has for it is not allowed by the page's policy."""
    for _ in range(1000):
        if holds():
            return
        next_frame(page)
    raise AssertionError("it does not come")


def exchange(page: Any, classes: tuple[str, ...] = ("blue", "green", "red")) -> None:
    """From now on the server's model `colours` is another one, with a figure of its own."""

    def exchanged(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        for model in body.get("models", [body.get("model")]):
            if model["name"] == "colours":
                model["fingerprint"] = NEW
                if "classes" in model:
                    model["classes"] = classes
        if "card" in body:
            body["card"]["figures"][0]["value"] = 0.9
        route.fulfill(response=answer, json=body)

    page.route("**/v1/models", exchanged)
    page.route("**/v1/*?model=colours**", exchanged)


def choose(page: Any, model: str) -> None:
    page.select_option("#model-picker", label=model)


def test_a_late_answer_is_of_the_model_that_was_asked(page: Any) -> None:
    held = Held(page, "**/v1/classify?model=colours**")
    page.set_input_files("#files", [upload("r.png", RED)])
    held.wait_for(1)
    choose(page, "tags")
    page.wait_for_selector("#stage[data-state=done]")
    with page.expect_response("**/v1/classify?model=colours**"):
        held.release()
    assert page.inner_text("#answer") == "1 tag" and tiles(page) == ["red"]
    choose(page, "colours")
    assert page.inner_text("#answer") == "red"


def test_what_waits_for_another_model_is_not_asked(page: Any) -> None:
    held = Held(page, "**/v1/classify?model=colours**")
    page.set_input_files("#files", [upload(f"{n}.png", RED) for n in range(12)])
    held.wait_for(4)
    choose(page, "tree")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    held.release()
    wait(page, 12)
    assert not [each for each in asked if "classify?model=colours" in each]
    choose(page, "colours")
    wait(page, 12)
    assert len([each for each in asked if "classify?model=colours" in each]) == 8


def test_a_late_card_is_not_that_of_the_model_that_is_shown(page: Any) -> None:
    held = Held(page, "**/v1/card?model=tags")  # which has none
    choose(page, "tags")
    held.wait_for(1)
    choose(page, "colours")
    page.wait_for_selector("#figures-section:not([hidden])")
    with page.expect_response("**/v1/card?model=tags"):
        held.release()
    next_frame(page)
    assert page.is_visible("#figures-section") and page.is_hidden("#no-card")


def test_an_exchanged_model_is_shown_and_asked(page: Any) -> None:
    send(page, upload("old.png", RED))
    assert page.inner_text("#figures .figure-value") == "80.0 %"
    exchange(page)
    send(page, upload("new.png", RED))  # right after the page was opened: it looks a little later
    with page.expect_request("**/v1/classify?model=colours**"):
        page.clock.fast_forward(10_000)
    page.wait_for_selector(f"#facts code[title='{NEW}']")
    page.wait_for_selector("#figures .figure-value:text('90.0 %')")
    wait(page, 2)
    assert tiles(page) == ["red", "red"]


def test_a_model_with_fewer_classes(page: Any) -> None:
    exchange(page, classes=("green", "red"))
    page.route(
        "**/v1/classify?model=colours&top=3",
        lambda route: route.fulfill(status=400, body='{"error": "it has 2 classes"}'),
    )
    send(page, upload("r.png", RED))
    assert page.inner_text("#verdict") == "It has 2 classes"
    page.clock.fast_forward(10_000)
    page.wait_for_selector("#stage[data-state=done]")
    assert page.inner_text("#answer") == "red"


def test_a_card_tells_that_the_model_was_exchanged(page: Any) -> None:
    choose(page, "tree")
    exchange(page)
    choose(page, "colours")
    page.wait_for_selector("#figures .figure-value:text('90.0 %')")
    page.clock.fast_forward(10_000)
    page.wait_for_selector(f"#facts code[title='{NEW}']")


def test_a_choice_made_while_it_looks_again_stands(page: Any) -> None:
    exchange(page)
    held = Held(page, "**/v1/models")
    send(page, upload("r.png", RED))
    page.clock.fast_forward(10_000)
    held.wait_for(1)
    choose(page, "tags")
    with page.expect_response("**/v1/models"):
        held.release()
    next_frame(page)
    assert page.inner_text("#panel-name") == "tags"
    page.wait_for_selector("#stage[data-state=done]")
    assert page.inner_text("#answer") == "1 tag"


def test_an_explanation_by_another_model_is_not_laid_over_the_answer(page: Any) -> None:
    send(page, upload("r.png", RED))
    exchange(page)
    page.click("#why")
    page.wait_for_selector("#why-words:text('exchanged in the meantime')")
    assert page.is_hidden("#overlay")
    page.clock.fast_forward(10_000)
    page.wait_for_selector(f"#facts code[title='{NEW}']")
    page.wait_for_selector("#stage[data-state=done]")
    page.click("#why")
    explained(page)


def test_a_camera_that_was_closed_before_it_started_is_stopped(page: Any) -> None:
    page.evaluate(SLOW_CAMERA)
    page.click("#open-camera")
    page.click("#camera-close")
    page.click("#open-camera")
    page.evaluate("start()")
    page.wait_for_selector("#camera-bars li:nth-child(3)")
    states = "streams.map((stream) => stream.getTracks()[0].readyState)"
    until(page, lambda: page.evaluate(states) == ["ended", "live"])
    page.click("#camera-close")
    until(page, lambda: page.evaluate(states) == ["ended", "ended"])


def test_what_failed_can_be_asked_again(page: Any) -> None:
    address = "**/v1/classify**"
    answer = json.dumps({"error": "internal error"})
    page.route(address, lambda route: route.fulfill(status=500, body=answer))
    send(page, upload("a.png", RED), upload("b.png", RED))
    assert tiles(page) == ["No answer"] * 2 and page.inner_text("#verdict") == "Internal error"
    page.unroute(address)
    page.click("#again")
    wait(page, 2)
    assert tiles(page) == ["red"] * 2 and page.is_hidden("#again")
    name = 'a "quoted" name ' + "that is long " * 60  # the server would cut it
    send(page, upload(name, b"meow"))
    assert page.inner_text("#verdict") == "Not a picture in a format that can be read"
    assert page.is_hidden("#again")


def test_a_tile_far_below_brings_its_picture_into_sight(page: Any) -> None:
    send(page, *(upload(f"{n}.png", RED) for n in range(40)))
    page.locator(".tile").last.scroll_into_view_if_needed()
    in_sight = "document.getElementById('frame').getBoundingClientRect().top >= 0"
    assert not page.evaluate(in_sight)
    page.locator(".tile").last.click()
    assert page.inner_text("#file-name") == "39.png"
    assert page.evaluate(in_sight)
