"""Split checks: what refuses a split, and what is said about one that is not as asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from taxon.core.errors import DataError
from taxon.core.text import agree, counted, some
from taxon.data.manifest import Manifest
from taxon.data.splitting.units import (
    ALIKE,
    CONTENT,
    GROUP,
    PICTURE,
    Contents,
    Link,
    Units,
    links_of,
)

Part = TypeVar("Part", bound=str)
# A part's size is worth a word when it is off by more than this share of it, and by 3 pictures.
_NOTABLE = 0.2


def require_enough(
    manifest: Manifest, units: Units, parts: Sequence[str], folds: int | None = None
) -> None:
    """Refuse a class that has fewer units than there are parts; one of which an old split has
    pictures may stay as it was.

    Args:
        parts: those that need a picture of every class.
        folds: how many, where the parts are folds or halves of folds.

    Raises:
        DataError: a class is too small; the message names all of them.
    """
    holding, free = units.holding(), units.holding(free=True)
    small = {
        name: int(holding[column])
        for column, name in enumerate(manifest.label_space.names)
        if holding[column] == free[column] < len(parts)
    }
    if not small:
        return
    name, count = min(small.items(), key=lambda item: (item[1], item[0]))
    pictures = manifest.counts()[name]
    has = counted(pictures, "picture", "pictures")
    if count < pictures:
        has += f" in {counted(count, 'group', 'groups')} that must stay together"
    others = _with_counts({other: small[other] for other in sorted(small) if other != name})
    raise DataError(
        f"'{name}' has {has} and cannot be split into {_what(parts, folds)}; at least "
        f"{len(parts)} {agree(len(parts), 'is', 'are')} needed"
        f"{f' (too few also: {others})' if others else ''}. "
        f"{_way_out(parts, folds, count)}{_left_out(manifest)}"
    )


def _with_counts(small: Mapping[str, int], limit: int = 5) -> str:
    """`'dent' (1), 'good' (2) and 3 more`."""
    listed = ", ".join(f"'{name}' ({count})" for name, count in list(small.items())[:limit])
    return listed + (f" and {len(small) - limit} more" if len(small) > limit else "")


def _what(parts: Sequence[str], folds: int | None) -> str:
    if folds is None:
        return ", ".join(parts)
    halves = ", each enough for train and validation" if len(parts) > folds else ""
    return f"{folds} folds{halves}"


def _way_out(parts: Sequence[str], folds: int | None, count: int) -> str:
    """What to do about a class of so many units."""
    if folds is None:
        options = [f"--{part}-share 0" for part in ("test", "validation") if part in parts]
        fewer = f"ask for fewer parts ({', '.join(options)})" if options and count else ""
    elif count > 2 and folds > 2:
        fewer = f"ask for fewer folds (--folds {count})"
    elif count >= 2:
        fewer = "ask for 2 folds without validation (--folds 2 --validation-share 0)"
    else:
        fewer = ""
    if not fewer:
        return "Add pictures, or merge or remove the class"
    return f"Add pictures, merge or remove the class, or {fewer}"


def _left_out(manifest: Manifest) -> str:
    """What could not be used and what a plan dropped: pictures of the class may be among both."""
    unusable = [row for row in manifest.skipped if row.kind != "plan"]
    dropped = [row for row in manifest.skipped if row.kind == "plan"]
    said = ""
    if unusable:
        count = counted(len(unusable), "picture or row", "pictures or rows")
        said += f". {count} could not be used (say {unusable[0].id}: {unusable[0].reason})"
    if dropped:
        count = counted(len(dropped), "picture was", "pictures were")
        said += f". {count} dropped by the plan (say {dropped[0].id})"
    return said


def shortcomings(
    manifest: Manifest,
    result: Sequence[Part],
    wanted: Mapping[Part, float],
    causes: Iterable[tuple[str, Callable[[], Mapping[Part, int]]]],
) -> list[str]:
    """Return what the parts lack that was asked for, in plain sentences.

    Args:
        result: the part of each record.
        wanted: the share of each part.
        causes: why a part may have another size, in words, and the sizes that come of it alone.
            What none of them explains comes of what stays together.
    """
    notes = []
    present = {name for name, count in manifest.counts().items() if count}
    held: dict[Part, set[str]] = {part: set() for part in wanted}
    for record, part in zip(manifest.records, result, strict=True):
        held[part].update(record.labels)
    sizes, unit = Counter(result), len(manifest) / sum(wanted.values())
    asked = {part: share * unit for part, share in wanted.items()}
    reasons = _reasons({part: _off(sizes[part], asked[part]) for part in wanted}, asked, causes)
    for part, share in wanted.items():
        if part in reasons:
            number = round(asked[part])
            notes.append(
                f"{part} has {counted(sizes[part], 'picture', 'pictures')} where {number} "
                f"{agree(number, 'was', 'were')} asked for, since {reasons[part]}"
            )
        if share > 0 and (missing := sorted(present - held[part])):
            notes.append(f"{part} has no picture of {some(missing)}")
    return notes


def _off(size: int, asked: float) -> int:
    """1 for a part that is much too large, -1 for one that is much too small, else 0."""
    notable = abs(size - asked) > max(3.0, _NOTABLE * asked)
    return notable * (1 if size > asked else -1)


def _reasons(
    off: Mapping[Part, int],
    asked: Mapping[Part, float],
    causes: Iterable[tuple[str, Callable[[], Mapping[Part, int]]]],
) -> dict[Part, str]:
    """Of each part that is off, the first cause that puts it off by itself."""
    reasons = {part: "what belongs together stays together" for part, sign in off.items() if sign}
    unexplained = dict.fromkeys(reasons)
    for reason, alone in causes:
        sizes = alone() if unexplained else {}
        for part in list(unexplained):
            if _off(sizes.get(part, 0), asked[part]) == off[part]:
                reasons[part] = reason
                del unexplained[part]
    return reasons


def torn_links(
    manifest: Manifest, alike: Sequence[Contents], decided: Mapping[Link, str]
) -> dict[Link, str]:
    """Return the groups, contents and look-alikes that an old split has in several parts, each
    with two pictures as an example.

    Args:
        decided: the part of every picture that the old split decides, as `make_units` says.
    """
    found: dict[Link, dict[str, str]] = defaultdict(dict)
    for record, links in zip(manifest.records, links_of(manifest.records, alike), strict=True):
        part = decided.get((PICTURE, record.id))
        for link in links if part is not None else ():
            found[link].setdefault(str(part), record.id)
    return {
        link: " and ".join(f"{name} in {part}" for part, name in list(parts.items())[:2])
        for link, parts in found.items()
        if len(parts) > 1
    }


def on_torn(torn: Mapping[Link, str]) -> list[str]:
    """Return a note on each kind of thing that is in several parts, and why."""
    examples: dict[str, list[str]] = defaultdict(list)
    for (kind, name), example in torn.items():
        examples[kind].append(f"say '{name}': {example}" if kind == GROUP else f"say {example}")
    groups, contents, alike = (examples[kind] for kind in (GROUP, CONTENT, ALIKE))
    notes = []
    if groups:
        notes.append(
            f"{counted(len(groups), 'group has', 'groups have')} pictures in several parts of the "
            f"old split ({groups[0]}): these stay there, and new ones go where most of their "
            "group is"
        )
    if contents:
        notes.append(
            f"{counted(len(contents), 'picture has', 'pictures have')} equal files in several "
            f"parts ({contents[0]}), since old pictures and groups go first"
        )
    if alike:
        them = counted(len(alike), "group of near-duplicates is", "groups of near-duplicates are")
        notes.append(
            f"{them} in several parts ({alike[0]}), since old pictures, groups and equal files "
            "go first"
        )
    return notes
