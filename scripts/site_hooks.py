"""What MkDocs is told when the site is built (`hooks` in mkdocs.yml).

Three things that a page in the repository cannot have by itself: reference that is made from the
code, files that lie beside `docs/`, and links that lead the right way in both places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from site_reference import commands, configuration, other_names, recipes

ROOT = Path(__file__).parents[1]
# Files beside docs/ that have a page of their own on the site.
PAGES = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/changelog.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "SECURITY.md": "docs/security.md",
    "benchmarks/RESULTS.md": "docs/results.md",
    "docs/adr": "docs/adr/index.md",
    "docs": "docs/index.md",
}
# What a page has between `<!-- site: NAME -->` and `<!-- /site -->`: on the site the reference or
# the file of that name, elsewhere a line that says where to find it.
MADE: dict[str, Callable[[], str]] = {
    "commands": commands,
    "configuration": configuration,
    "recipes": recipes,
    "other names": other_names,
}
PLACE = re.compile(r"<!-- site: (?P<name>[^>]+?) -->\n.*?<!-- /site -->", re.DOTALL)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Put every decision record in place of `adr/*`, and guides that the navigation does not name
    in place of `guides/*`, so that a new one needs no other line."""
    docs = ROOT / "docs"
    named = set(_named(config.nav))
    records = sorted(path.name for path in (docs / "adr").glob("[0-9]*.md"))
    guides = sorted(path.name for path in (docs / "guides").glob("*.md"))
    found = {
        "adr/*": [f"adr/{name}" for name in records],
        "guides/*": [f"guides/{name}" for name in guides if f"guides/{name}" not in named],
    }
    config.nav = _expanded(config.nav, found)
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill a page's places and have its links lead to the site's pages."""
    here = PurePosixPath("docs") / page.file.src_uri

    def filled(place: re.Match[str]) -> str:
        name = place["name"]
        if name in MADE:
            return MADE[name]()
        text = (ROOT / name).read_text(encoding="utf-8")
        return _relinked(text.split("\n", 1)[1], PurePosixPath(name), here)

    return _with_lists(PLACE.sub(filled, _relinked(markdown, here, here)))


def _named(entries: Any) -> Iterator[str]:
    """Every page in a navigation."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict | list):
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from _named(entry)


def _expanded(entries: Any, found: dict[str, list[str]]) -> Any:
    """The navigation with pages in place of patterns; a section without a page is left out."""
    if isinstance(entries, dict):
        return {title: _expanded(entry, found) for title, entry in entries.items()}
    if not isinstance(entries, list):
        return entries
    pages: list[Any] = []
    for entry in entries:
        if isinstance(entry, str) and entry in found:
            pages += found[entry]
        elif isinstance(entry, str) and not (ROOT / "docs" / entry).exists():
            continue  # a page that is still to come; a misspelt one is missed as not included
        elif not (isinstance(entry, dict) and list(entry.values()) == [["guides/*"]]):
            pages.append(_expanded(entry, found))
        elif found["guides/*"]:
            pages.append(dict.fromkeys(entry, found["guides/*"]))
    return pages


def _with_lists(text: str) -> str:
    """Put an empty line before lists and tables that follow a paragraph, as MkDocs wants it."""
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        begins = re.match(r"([-*]|\d+\.) |\|", line)
        after = lines[-1] if lines else ""
        if begins and not fenced and after and not re.match(r"([-*]|\d+\.) |\||\s", after):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _relinked(text: str, source: PurePosixPath, here: PurePosixPath) -> str:
    """Return a text of the file `source` with links that count from the page `here`.

    A link to a file that the site does not have (code, a script) becomes its words.
    """

    def link(match: re.Match[str]) -> str:
        words, target = match["text"], match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        named = os.path.normpath(source.parent / path)
        page = PAGES.get(named, named)
        if not page.startswith("docs/"):
            if not (ROOT / named).exists():
                raise FileNotFoundError(f"{source} links to {target}, which does not exist")
            return words
        relative = os.path.relpath(page, here.parent)
        return f"[{words}]({relative}{'#' + anchor if anchor else ''})"

    return LINK.sub(link, text)
