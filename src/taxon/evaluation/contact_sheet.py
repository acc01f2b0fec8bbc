"""A contact sheet: pictures with a few words under each, one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxon.core.files import write_text
from taxon.evaluation.album import Album
from taxon.evaluation.page import environment

IMAGE_BYTES = 8_000_000


@dataclass(frozen=True)
class Card:
    """One picture.

    Attributes:
        path: the file, and its caption.
        figure: printed in bold, such as `0.93`; or empty.
        words: after it; or empty.
    """

    path: str
    figure: str = ""
    words: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures under a heading and a sentence."""

    title: str
    sentence: str
    cards: tuple[Card, ...]


def write_contact_sheet(
    path: Path,
    *,
    kicker: str,
    title: str,
    subtitle: str,
    groups: Sequence[Group],
    thumbnails: Callable[[str], bytes | None],
) -> None:
    """Write the page, below 10 MB; it has no script, and loads nothing from anywhere.

    Args:
        path: the file to write; it appears whole or not at all.
        kicker: what kind of page this is.
        subtitle: one line below the title.
        thumbnails: a card's path -> bytes of a small JPEG, or None; called from several threads.

    Raises:
        OutputError: the file cannot be written.
    """
    album = Album(thumbnails, IMAGE_BYTES)
    album.add([card.path for group in groups for card in group.cards])
    html = (
        environment()
        .get_template("sheet.html")
        .render(kicker=kicker, title=title, subtitle=subtitle, groups=groups, album=album)
    )
    write_text(path, html)
