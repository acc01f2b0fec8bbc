"""Split checks: what refuses a split, and what is said about one that is not as asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taxon.core.errors import DataError
from taxon.data.manifest import Manifest
from taxon.data.sources.words import some
from taxon.data.splitting.units import Units

# A part's size is worth a word when it is off by more than this share of it, and by 3 pictures.
_NOTABLE = 0.2


def require_enough(manifest: Manifest, units: Units, parts: Sequence[str]) -> None:
    """Refuse a class that has fewer units than there are parts; one of which an old split has
    pictures may stay as it was.

    Args:
        parts: those that need a picture of every class.

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
    has = f"{pictures} picture{'s' if pictures != 1 else ''}"
    if count < pictures:
        has += f" in {count} group{'s' if count != 1 else ''} that must stay together"
    others = some([f"{other} ({small[other]})" for other in sorted(small) if other != name])
    raise DataError(
        f"'{name}' has {has} and cannot be split into {', '.join(parts)}; at least "
        f"{len(parts)} are needed{f' (too few also: {others})' if others else ''}. Add pictures, "
        "merge or remove the class, or ask for fewer parts (--test-share 0, "
        f"--validation-share 0, fewer --folds){_left_out(manifest)}"
    )


def _left_out(manifest: Manifest) -> str:
    """What could not be used, as pictures of the class may be among it."""
    rows = manifest.skipped
    if not rows:
        return ""
    count = "1 picture or row" if len(rows) == 1 else f"{len(rows)} pictures or rows"
    return f". {count} could not be used (say {rows[0].id}: {rows[0].reason})"


def shortcomings(
    manifest: Manifest, result: Sequence[str], wanted: Mapping[str, float]
) -> list[str]:
    """Return what the parts lack that was asked for, in plain sentences.

    Args:
        result: the part of each record.
        wanted: the share of each part.
    """
    notes = []
    present = {name for name, count in manifest.counts().items() if count}
    held: dict[str, set[str]] = {part: set() for part in wanted}
    for record, part in zip(manifest.records, result, strict=True):
        held[part].update(record.labels)
    for part, share in wanted.items():
        size, asked = result.count(part), share * len(manifest) / sum(wanted.values())
        if abs(size - asked) > max(3.0, _NOTABLE * asked):
            notes.append(
                f"{part} has {size} pictures where {asked:.0f} were asked for, since what "
                "belongs together stays together"
            )
        if share > 0 and (missing := sorted(present - held[part])):
            notes.append(f"{part} has no picture of {some(missing)}")
    return notes
