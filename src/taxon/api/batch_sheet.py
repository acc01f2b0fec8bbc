"""Drawing a sheet of training pictures: sections of tiles with captions, one PNG."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from taxon.core.errors import ConfigError, OutputError
from taxon.core.files import atomic_file, require_writable

COLUMNS = 8
TILE = 168
GAP, MARGIN = 16, 40
_WIDTH = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP
_TITLE, _HEADING, _TEXT, _CAPTION = 34, 23, 18, 17  # font sizes in pixels
_LEADING = 1.35
# An opaque light ground: the sheet looks the same in a dark viewer.
_GROUND, _INK, _QUIET, _LINE, _ACCENT = "#ffffff", "#16202a", "#51606d", "#c3ccd4", "#0f766e"
# By this the sheet is known as our own work, which --overwrite may replace.
_KEY, _MARK = "Software", "taxon show-batch"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Tile:
    """A picture and the lines of its caption."""

    image: Image.Image
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Tiles in rows of eight, under a heading and a sentence (which may be empty)."""

    heading: str
    sentence: str
    tiles: tuple[Tile, ...]


def draw_sheet(title: str, sentences: Sequence[str], sections: Sequence[Section]) -> Image.Image:
    """Draw the sheet: RGB, 1,536 pixels wide, as high as it needs to be."""
    height = MARGIN + _draw(None, title, sentences, sections)
    sheet = Image.new("RGB", (_WIDTH, height), _GROUND)
    _draw(sheet, title, sentences, sections)
    ImageDraw.Draw(sheet).rectangle((0, 0, _WIDTH - 1, height - 1), outline=_LINE)
    return sheet


def _draw(
    sheet: Image.Image | None, title: str, sentences: Sequence[str], sections: Sequence[Section]
) -> int:
    """Draw from top to bottom and return where it ends; without a sheet, only measure."""
    pen = _Pen(sheet)
    y = pen.text(MARGIN, title, _TITLE, _INK) + 6
    for sentence in sentences:
        y = pen.text(y, sentence, _TEXT, _QUIET)
    for section in sections:
        y = pen.text(y + 28, section.heading, _HEADING, _ACCENT)
        if section.sentence:
            y = pen.text(y, section.sentence, _TEXT, _QUIET)
        y += 10
        for first in range(0, len(section.tiles), COLUMNS):
            y = pen.row(y, section.tiles[first : first + COLUMNS])
    return y


class _Pen:
    """Draws at a height, and returns the height below."""

    def __init__(self, sheet: Image.Image | None) -> None:
        self._sheet = sheet
        self._canvas = ImageDraw.Draw(sheet) if sheet is not None else None

    def text(self, y: int, text: str, size: int, colour: str) -> int:
        """Text over the whole width, in as many lines as it needs."""
        for line in _wrapped(drawable(text), size):
            self._line((MARGIN, y), line, size, colour)
            y += round(size * _LEADING)
        return y

    def row(self, y: int, tiles: Sequence[Tile]) -> int:
        """A row of tiles with their captions."""
        for column, tile in enumerate(tiles):
            x = MARGIN + column * (TILE + GAP)
            if self._sheet is not None and self._canvas is not None:
                image = _fitted(tile.image)
                top = y + (TILE - image.height) // 2
                self._sheet.paste(image, (x, top))
                box = (x - 1, top - 1, x + image.width, top + image.height)
                self._canvas.rectangle(box, outline=_LINE)
            for number, line in enumerate(tile.lines):
                place = (x, y + TILE + 7 + round(number * _CAPTION * _LEADING))
                words = shortened(drawable(line), TILE)
                self._line(place, words, _CAPTION, _INK)
        lines = max((len(tile.lines) for tile in tiles), default=0)
        return y + TILE + 7 + round(lines * _CAPTION * _LEADING) + 14

    def _line(self, place: tuple[int, int], text: str, size: int, colour: str) -> None:
        if self._canvas is not None:
            self._canvas.text(place, text, fill=colour, font=_font(size))


def _fitted(image: Image.Image) -> Image.Image:
    """As large as a tile takes it; of a small one the pixels show, as the model has no more."""
    scale = min(TILE / image.width, TILE / image.height)
    if scale > 1:
        whole = math.ceil(scale)
        size = (image.width * whole, image.height * whole)
        image, scale = image.resize(size, Image.Resampling.NEAREST), scale / whole
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _has_glyph(character: str) -> bool:
    font = _font(_TEXT)
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def drawable(text: str) -> str:
    """The text in characters that Pillow's own font has: without accents, others as `?`."""
    parts = unicodedata.normalize("NFKD", text)
    kept = (part for part in parts if not unicodedata.combining(part))
    return "".join(part if _has_glyph(part) else "?" for part in kept)


def drawable_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as the sheet can show them: `class 7` where its font cannot, or where two
    would look the same."""
    drawn = [drawable(name) for name in names]
    times = Counter(drawn)
    return tuple(
        f"class {number}" if times[words] > 1 or words.count("?") > name.count("?") else words
        for number, (words, name) in enumerate(zip(drawn, names, strict=True), start=1)
    )


def shortened(text: str, width: int) -> str:
    """The text, without its middle where it is wider than `width` pixels in a caption."""
    font = _font(_CAPTION)
    kept = len(text)
    short = text
    while font.getlength(short) > width and kept > 1:
        kept -= 1
        end = kept // 2
        short = f"{text[: kept - end].rstrip()}…{text[len(text) - end :].lstrip() if end else ''}"
    return short


def listed(words: Sequence[str], most: int) -> tuple[str, ...]:
    """Words with commas in lines under a tile; what `most` lines do not hold is counted."""
    lines: list[str] = []
    for count in range(len(words), 0, -1):
        rest = [f"+{len(words) - count} more"] if count < len(words) else []
        lines = _filled([*words[:count], *rest], TILE)
        if len(lines) <= most:
            break
    return tuple(lines[:most])


def _filled(words: Sequence[str], width: int) -> list[str]:
    font, lines = _font(_CAPTION), [""]
    for position, word in enumerate(words):
        comma = "," if position < len(words) - 1 else ""
        longer = f"{lines[-1]} {word}{comma}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(f"{word}{comma}")
        else:
            lines[-1] = longer
    return lines


def _wrapped(text: str, size: int) -> list[str]:
    font, lines = _font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > _WIDTH - 2 * MARGIN:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def require_sheet_file(target: Path, data: Path, *, overwrite: bool) -> None:
    """Refuse a file for the sheet that is no PNG, exists, or would become one of the pictures.

    Args:
        data: the data set as it was named.

    Raises:
        ConfigError: the name does not end in .png.
        OutputError: the file may not be replaced, or cannot be written.
    """
    if target.suffix.lower() != ".png":
        raise ConfigError(f"the sheet is a PNG; name a file that ends in .png, received {target}")
    if data.is_dir() and target.resolve().is_relative_to(data.resolve()):
        raise OutputError(
            f"{target} would be read as one of the pictures in {data}; name a file elsewhere"
        )
    if target.is_dir():
        raise OutputError(f"{target} is a folder; name a file in it, or another one")
    if target.exists():
        if not overwrite:
            raise OutputError(f"{target} exists; name another file, or add --overwrite")
        if not _is_sheet(target):
            raise OutputError(
                f"refused to replace {target}: taxon did not write it; name another file"
            )
    require_writable(target)


def _is_sheet(file: Path) -> bool:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            return image.info.get(_KEY) == _MARK
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def write_sheet(sheet: Image.Image, target: Path) -> None:
    """Write the sheet as a PNG that `--overwrite` knows again.

    Raises:
        OutputError: the file cannot be written.
    """
    mark = PngImagePlugin.PngInfo()
    mark.add_text(_KEY, _MARK)
    with atomic_file(target) as temporary:
        sheet.save(temporary, pnginfo=mark)
