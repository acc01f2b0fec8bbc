"""A parents file: the place of each class in a tree, for data whose classes lie side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import yaml

from taxon.core.errors import DataError, nearest
from taxon.core.labels import SEPARATOR
from taxon.core.text import agree, counted, some
from taxon.data.sources.listing import Listing
from taxon.data.sources.table_files import READERS, load_json, read_table_file, read_text
from taxon.data.sources.words import clean, has_control

CLASS, PARENT = "class", "parent"
YAML_SUFFIXES = (".yaml", ".yml")


def with_parents(listing: Listing, path: Path) -> Listing:
    """Return the listing with each class at its place in the tree that a parents file draws.

    A class that the file does not name, or gives no parent, stands at the top.

    Args:
        path: CSV, TSV, JSON, JSON lines, Parquet or YAML with `class` and `parent`, or JSON or
            YAML that maps classes to parents.

    Raises:
        DataError: the file cannot be read or draws no tree; the data have a taxonomy already, or
            several labels a picture; no class is in the file, or one is a parent of others.
    """
    if listing.kind != "flat":
        has = {"taxonomy": "a taxonomy of their own", "tags": "several labels a picture"}
        raise DataError(
            f"--parents places classes that lie side by side, one a picture; these data have "
            f"{has[listing.kind]}: leave --parents {path} out"
        )
    if listing.space is not None:
        raise DataError(
            "the classes of a manifest are fixed; give --parents where it is made (taxon split "
            "DATA --parents FILE), or name the data themselves"
        )
    parents = read_parents(path)
    counts = Counter(label for row in listing.rows for label in row.labels)
    _require_classes(counts, parents, path)
    places = {name: SEPARATOR.join(_path_to(name, parents)) for name in counts}
    rows = tuple(
        replace(row, labels=tuple(places[label] for label in row.labels)) for row in listing.rows
    )
    notes = (*listing.notes, *_notes(counts, parents, path))
    return replace(listing, rows=rows, kind="taxonomy", notes=notes)


def read_parents(path: Path) -> dict[str, str]:
    """Read which node lies below which: child -> parent; an empty parent is the top.

    Raises:
        DataError: unreadable, a name that cannot be used, two parents of one class, a circle.
    """
    parents: dict[str, str] = {}
    for place, child, parent in _entries(path):
        for name in (child, parent):
            if SEPARATOR in name or has_control(name):
                raise DataError(
                    f"{path}, {place}: {name!r} may hold no '{SEPARATOR}', which stands between "
                    "the levels, and no control character"
                )
        if not child:
            raise DataError(f"{path}, {place}: the class is empty")
        if parents.setdefault(child, parent) != parent:
            both = " and ".join(f"'{one}'" if one else "none" for one in (parents[child], parent))
            raise DataError(
                f"{path}, {place}: '{child}' has two parents, {both}; a tree has one: keep one of "
                "the rows, or give the two meanings names of their own"
            )
    _require_no_circle(parents, path)
    return parents


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """The file's (place, class, parent), names cleaned."""
    suffix = path.suffix.lower()
    if suffix in READERS and suffix != ".json":
        table = read_table_file(path, {CLASS, PARENT})
        header, rows = table.header, list(table.rows)
    elif suffix in (".json", *YAML_SUFFIXES):
        value = _load_yaml(path) if suffix in YAML_SUFFIXES else _load_json(path)
        if isinstance(value, _Pairs):
            for child, parent in value.pairs:
                yield f"'{child}'", _name(child, path), _name(parent, path)
            return
        if not isinstance(value, list) or not all(isinstance(item, _Pairs) for item in value):
            raise DataError(
                f"{path} must map classes to parents (mango: fruit), or list objects with "
                f"'{CLASS}' and '{PARENT}'"
            )
        rows = [(number, dict(item.pairs)) for number, item in enumerate(value, start=1)]
        header = tuple(dict.fromkeys(key for _, cells in rows for key in cells))
    else:
        allowed = ", ".join((*READERS, *YAML_SUFFIXES))
        raise DataError(f"--parents {path}: a parents file is one of {allowed}")
    for column in (CLASS, PARENT):
        if column not in header:
            raise DataError(
                f"{path} has no column '{column}'; a parents file has the columns {CLASS} and "
                f"{PARENT}, received: {', '.join(map(str, header)) or 'none'}"
            )
    for number, cells in rows:
        yield f"row {number}", _name(cells.get(CLASS), path), _name(cells.get(PARENT), path)


@dataclass(frozen=True)
class _Pairs:
    """An object of JSON or YAML whose keys may be written twice."""

    pairs: Sequence[tuple[str, object]]


def _load_json(path: Path) -> object:
    text = read_text(path)
    load_json(text, str(path))  # its errors are in words
    return json.loads(text, object_pairs_hook=_Pairs)


def _load_yaml(path: Path) -> object:
    try:
        return _plain(yaml.compose(read_text(path), Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise DataError(f"{path} nests too deeply; a parents file is flat") from None


def _plain(node: yaml.Node | None) -> object:
    """What was typed: a class may be called `no` or `1.0`, which YAML would take for values."""
    if isinstance(node, yaml.MappingNode):
        return _Pairs([(str(key.value), _plain(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if node is None or node.tag.endswith(":null"):
        return None
    return str(node.value)


def _name(value: object, path: Path) -> str:
    """A name as tables give it; nothing is empty."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = {_Pairs: "an object", list: "a list"}.get(type(value), repr(value))
        raise DataError(
            f"{path}: a class and a parent are names in quotes, received {kind}; a file maps each "
            "class to its one parent"
        )
    return clean(str(value))


def _require_no_circle(parents: Mapping[str, str], path: Path) -> None:
    safe: set[str] = set()
    for start in parents:
        chain: dict[str, None] = {}
        node = start
        while node and node not in safe:
            if node in chain:
                circle = [*chain][[*chain].index(node) :]
                raise DataError(
                    f"{path} runs in a circle: {' below '.join(repr(n) for n in [*circle, node])}; "
                    "take one of these rows out"
                )
            chain[node] = None
            node = parents.get(node, "")
        safe.update(chain)


def _path_to(name: str, parents: Mapping[str, str]) -> list[str]:
    """The names from the top down to a class."""
    path = [name]
    while parent := parents.get(path[-1], ""):
        path.append(parent)
    return path[::-1]


def _require_classes(counts: Mapping[str, int], parents: Mapping[str, str], path: Path) -> None:
    """Refuse a file of other classes, and classes that a taxonomy cannot hold."""
    slashed = [name for name in counts if SEPARATOR in name]
    if slashed:
        raise DataError(
            f"the class '{slashed[0]}' holds a '{SEPARATOR}', which stands between the levels of a "
            "taxonomy; rename it, or leave --parents out"
        )
    known = parents.keys() | set(parents.values()) - {""}
    if not known & counts.keys():
        raise DataError(
            f"{path} names none of the {counted(len(counts), 'class', 'classes')}; it has "
            f"{some(sorted(known)) or 'no name'}, the data have {some(sorted(counts))}"
        )
    for name in counts:
        for parent, child in pairwise(_path_to(name, parents)):
            if parent in counts:
                number = counted(counts[parent], "picture", "pictures")
                raise DataError(
                    f"'{parent}' is a class of {number} and, in {path}, the parent of '{child}'; "
                    "a picture belongs to the lowest level: give these pictures a class of their "
                    f"own (say '{parent}-other') with the parent '{parent}'"
                )


def _notes(counts: Mapping[str, int], parents: Mapping[str, str], path: Path) -> list[str]:
    """Names without pictures, and classes without a parent: both may be misspelt."""
    used = {node for name in counts for node in _path_to(name, parents)}
    unused = sorted(parents.keys() - used)
    top = sorted(name for name in counts if not parents.get(name))
    notes = []
    if unused:
        unnamed = [name for name in top if name not in parents]
        hint = next(filter(None, (nearest(name, unnamed) for name in unused)), "")
        of_it = agree(len(unused), "it", "them")
        note = f"no picture has {some(unused)} of {path.name}: no class is made of {of_it}"
        notes.append(f"{note}.{hint}" if hint else note)
    if top:
        stands = agree(len(top), "stands", "stand")
        notes.append(f"{some(top)} {stands} at the top: {path.name} names no parent")
    return notes
