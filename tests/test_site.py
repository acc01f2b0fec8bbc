"""The documentation builds as a site: strictly, without anything from elsewhere, and whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
from pydantic import BaseModel

import taxon
from taxon.bundle.layout import ENTRIES
from taxon.cli.main import app
from taxon.config import TrainConfig
from taxon.core import errors

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a page loads, where it leads, and where one can lead to in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.ids: set[str] = set()
        self.text = file.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        for place in ("src", "srcset", "poster", "data"):
            self.loads += [named[place] or ""] if place in named and tag != "a" else []
        if tag in ("a", "link") and named.get("href"):
            leads = tag == "a" or named.get("rel") in ("canonical", "prev", "next")
            (self.leads if leads else self.loads).append(named["href"] or "")
        self.ids |= {value for key, value in attrs if key in ("id", "name") and value}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; a warning of MkDocs ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        # Not --quiet: warnings that are not shown do not end it.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page by its file."""
    return {file: Page(file) for file in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    loaded = [(file, address) for file, page in pages.items() for address in page.loads]
    assert len(loaded) > len(pages)
    for file, address in loaded:
        assert not urlsplit(address).netloc, (file, address)
    for style in [*site.rglob("*.css")]:
        assert "url(http" not in style.read_text() and "@import" not in style.read_text(), style


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    followed = 0
    for file, page in pages.items():
        if file.name == "404.html":  # its links count from where the site lies
            continue
        for address in {*page.leads, *page.loads}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (file, address)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target].ids, (file, address)
            followed += 1
    assert followed > 1000


def test_search_is_the_site_s_own(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = [entry["location"] for entry in index["docs"] if "out of scope" in entry["text"]]
    assert any(location.startswith("guides/") for location in found)


def test_every_exported_name_is_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    page = pages[site / "reference" / "python" / "index.html"]
    for name in taxon.__all__:
        assert name == "__version__" or f"taxon.{name}" in page.ids, name


def test_every_error_is_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    page = pages[site / "reference" / "errors" / "index.html"]
    named = [name for name, value in vars(errors).items() if _is_error(value)]
    assert len(named) > 10
    for name in named:
        assert f"taxon.core.errors.{name}" in page.ids, name


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.TaxonError)


def test_every_command_and_option_is_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    text = pages[site / "reference" / "commands" / "index.html"].text
    for name, command in _commands(typer.main.get_command(app)):
        start = text.index(f'id="taxon-{name.replace(" ", "-")}"')
        end = text.find("<h2", start + 1)
        own = text[start : end if end > 0 else None]
        for parameter in command.params:
            word = parameter.metavar if _is_argument(parameter) else parameter.opts[0]
            assert parameter.hidden or f"<code>{word}</code>" in own, (name, word)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def test_every_key_is_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    text = pages[site / "reference" / "configuration" / "index.html"].text
    keys = _keys(TrainConfig, "")
    assert {"stages.N.epochs", "decision.abstain_risk", "batch_size"} <= set(keys)
    for key in keys:
        start = text.index(f"<code>{key}</code></td>")
        said = text[start:].split("<td>")[1].removesuffix("</td>\n")
        assert said.strip(), f"{key} has no line in its docstring"


def _keys(model: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        held = [
            each
            for each in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        many = "N." if str(field.annotation).startswith("tuple") else ""
        keys += _keys(held[0], f"{prefix}{name}.{many}") if held else [f"{prefix}{name}"]
    return keys


def test_every_file_of_a_model_folder_is_in_the_reference(
    pages: dict[Path, Page], site: Path
) -> None:
    text = pages[site / "reference" / "files" / "index.html"].text
    for entry in ENTRIES:
        assert f"<td><code>{entry}</code>" in text or f"<td><code>{entry}/</code>" in text, entry


def test_a_new_guide_and_a_new_record_need_no_other_line(
    pages: dict[Path, Page], site: Path
) -> None:
    for kind in ("guides", "adr"):
        names = [path.stem for path in (ROOT / "docs" / kind).glob("*.md") if path.stem != "index"]
        start = pages[site / kind / "index.html"]
        for name in names:
            assert f"{name}/" in start.leads, name
