"""Lists of pictures as people and programs read them: a table, CSV, JSON lines, a contact sheet."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from taxon.api.pictures import thumbnail_of
from taxon.api.searching import Search
from taxon.api.suggesting import Suggestions
from taxon.core.errors import ConfigError
from taxon.core.files import require_writable, write_text
from taxon.core.text import counted, one_line
from taxon.evaluation.contact_sheet import Card, Group, write_contact_sheet

TABLES = (".csv", ".jsonl")
SHEETS = (".html", ".htm")
Rows = Sequence[Mapping[str, object]]


def require_outputs(files: Sequence[Path]) -> None:
    """Check files before anything is computed.

    Raises:
        ConfigError: a suffix that says nothing of how to write.
        OutputError: one cannot be written.
    """
    for file in files:
        if file.suffix.lower() not in (*TABLES, *SHEETS):
            raise ConfigError(
                f"--out {file}: the suffix says what is written; allowed: .csv and .jsonl for a "
                "table, .html for a contact sheet"
            )
        require_writable(file)


def search_rows(found: Search) -> Rows:
    """A row a picture: path, similarity."""
    return [{"path": match.path, "similarity": match.similarity} for match in found.matches]


def suggestion_rows(found: Suggestions) -> Rows:
    """A row a picture: path, uncertainty, reason."""
    return [
        {"path": each.path, "uncertainty": each.uncertainty, "reason": each.reason}
        for each in found.pictures
    ]


def print_rows(rows: Rows, format_name: str) -> None:
    """Write rows to standard output, as `table`, `jsonl` or `csv`."""
    writers = {"table": _table_text, "jsonl": _json_lines, "csv": _csv_text}
    sys.stdout.write(writers[format_name](rows))
    sys.stdout.flush()


def write_rows(rows: Rows, file: Path) -> None:
    """Write rows into a .csv or .jsonl file.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(file, (_csv_text if file.suffix.lower() == ".csv" else _json_lines)(rows))


def write_search_sheet(found: Search, file: Path) -> None:
    """Write the contact sheet of a search: the example first.

    Raises:
        OutputError: it cannot be written.
    """
    names = [Path(query).name for query in found.queries]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    write_contact_sheet(
        file,
        kicker="Search by example",
        title=f"Pictures like {names[0]}{more}",
        subtitle=f"{counted(len(found.matches), 'picture', 'pictures')} of {found.searched:,}",
        groups=[
            Group(
                "Example" if len(names) == 1 else "Examples", "", tuple(map(Card, found.queries))
            ),
            Group(
                "Most similar",
                "The figure is the similarity of the model's features, 0 to 1.",
                tuple(Card(match.path, f"{match.similarity:.3f}") for match in found.matches),
            ),
        ],
        thumbnails=thumbnail_of,
    )


def write_suggestion_sheet(found: Suggestions, file: Path) -> None:
    """Write the contact sheet of suggestions.

    Raises:
        OutputError: it cannot be written.
    """
    count = len(found.pictures)
    cards = (Card(each.path, f"{each.uncertainty:.2f}", each.reason) for each in found.pictures)
    write_contact_sheet(
        file,
        kicker="What to label next",
        title=f"{counted(count, 'picture', 'pictures')} to label",
        subtitle=f"chosen from {found.looked_at:,}",
        groups=[
            Group(
                "Suggested",
                "In the order in which they are worth it. The figure is the model's uncertainty, 0 "
                "to 1; then what it is unsure of, with probabilities.",
                tuple(cards),
            )
        ],
        thumbnails=thumbnail_of,
    )


def _table_text(rows: Rows) -> str:
    """Figures first: paths are of any length."""
    lines = []
    for row in rows:
        figure = row["similarity"] if "similarity" in row else row["uncertainty"]
        reason = f"  {row['reason']}" if "reason" in row else ""
        lines.append(f"{figure:.3f}  {one_line(str(row['path']))}{reason}\n")
    return "".join(lines)


def _json_lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv_text(rows: Rows) -> str:
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()
