"""The page of the interface, in a real browser; skipped where there is none."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    DESKTOP,
    GREEN,
    PHONE,
    RED,
    needs_browser,
    running_server,
    upload,
    watched_page,
)
from test_report_page import CONTRAST

pytestmark = needs_browser
SERVER = str(Path(__file__).with_name("page_server.py"))
KEY = "a key of more than sixteen letters"
CLASSIFY = "#post-v1-classify"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(SERVER, KEY) as url:
        yield url


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with watched_page(browser, url, DESKTOP) as page:
        page.goto(f"{url}/docs")
        page.wait_for_selector(".operation")
        page.evaluate("key => sessionStorage.setItem('taxon-key', key)", KEY)
        yield page


def sent(page: Any, operation: str) -> str:
    """Send the form of an operation; returns what was answered."""
    page.click(f"{operation} .trial .primary")
    page.wait_for_selector(f"{operation} .trial .answer .status")
    return str(page.inner_text(f"{operation} .trial .answer pre"))


def test_every_operation_with_all_that_it_takes(page: Any, url: str) -> None:
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    expected = {
        (method.upper(), path): said
        for path, item in paths.items()
        for method, said in item.items()
    }
    found = page.locator(".operation > summary")
    drawn = [
        (summary.locator(".method").inner_text(), summary.locator(".path").inner_text())
        for summary in found.all()
    ]
    assert sorted(drawn) == sorted(expected)
    assert page.locator("#contents a").count() == len(expected)
    for at, key in enumerate(drawn):
        found.nth(at).click()
        operation = page.locator(".operation").nth(at)
        operation.locator(".trial").wait_for()
        names = [parameter["name"] for parameter in expected[key].get("parameters", [])]
        shown = operation.locator("[aria-label=Parameters] tbody th code").all_text_contents()
        assert shown == names
        statuses = operation.locator(".status").all_text_contents()
        in_order = sorted(expected[key]["responses"], key=lambda s: (s == "default", s))
        assert statuses == [status.replace("default", "other") for status in in_order]


def test_files_are_sent_and_the_command_does_the_same(page: Any, tmp_path: Path) -> None:
    page.click(f"{CLASSIFY} > summary")
    page.fill(f"{CLASSIFY} .field:has-text('top') input", "2")
    page.set_input_files(
        f"{CLASSIFY} input[type=file]", [upload("it's.png", RED), upload("g.png", GREEN)]
    )
    answer = json.loads(sent(page, CLASSIFY))
    assert [result["label"] for result in answer["results"]] == ["red", "green"]
    assert len(answer["results"][0]["top"]) == 2
    assert page.inner_text(f"{CLASSIFY} .answer .status") == "200"
    command = page.inner_text(f"{CLASSIFY} .command")
    assert KEY not in command  # it would stand in the history of the shell
    (tmp_path / "it's.png").write_bytes(RED)
    (tmp_path / "g.png").write_bytes(GREEN)
    environment = {"TAXON_KEY": KEY, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == answer


def test_json_and_errors(page: Any) -> None:
    page.click(f"{CLASSIFY} > summary")
    page.select_option(f"{CLASSIFY} .body select", "application/json")
    assert json.loads(page.input_value(f"{CLASSIFY} textarea"))["pictures"][0]["data"]
    page.fill(f"{CLASSIFY} textarea", '{"pictures": []}')
    assert "no pictures" in sent(page, CLASSIFY)
    assert page.inner_text(f"{CLASSIFY} .answer .status") == "400"


def test_addresses_with_a_name(page: Any, url: str) -> None:
    operation = "#get-v2-models-name"
    page.click(f"{operation} > summary")
    page.fill(f"{operation} .trial input", "colours")
    assert json.loads(sent(page, operation))["name"] == "colours"
    assert f"'{url}/v2/models/colours'" in page.inner_text(f"{operation} .command")


def test_asks_for_the_key(browser: Any, url: str) -> None:
    with watched_page(browser, url, PHONE) as page:
        page.goto(f"{url}/docs#get-v1-models")  # opens what the address names
        page.click("#get-v1-models .trial .primary")
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key-input", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#get-v1-models .answer .status.good")
        assert "Bearer $TAXON_KEY" in page.inner_text("#get-v1-models .command")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_by_keyboard_with_enough_contrast(browser: Any, url: str, scheme: str) -> None:
    with watched_page(browser, url, PHONE, color_scheme=scheme) as page:
        page.goto(f"{url}/docs")
        page.wait_for_selector(".operation")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # past the head
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"{CLASSIFY} .trial")
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst
