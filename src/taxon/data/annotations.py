"""Annotations that are missing: tags of which nobody knows whether a picture has them."""

from __future__ import annotations

from dataclasses import replace

from taxon.core.labels import LabelSpace
from taxon.core.text import agree, counted, some
from taxon.data.manifest import Manifest, Skipped
from taxon.data.sources.listing import Listing, Row

_FEW = 0.005  # a share that rounds to nothing


def within(listing: Listing, space: LabelSpace) -> tuple[list[Row], list[Skipped]]:
    """Return the rows with those tags unknown that are classes, and those that know nothing.

    A tag that no picture has is no class, whether it is unknown of some or not. A class of a
    trained model for which the table has no column is unknown of every picture.
    """
    names = set(space.names)
    missing = names.difference(listing.annotated or names)
    kept: list[Row] = []
    skipped: list[Skipped] = []
    for row in listing.rows:
        unknown = tuple(sorted(names.intersection(row.unknown) | missing))
        if len(unknown) == len(names):
            skipped.append(Skipped(row.id, "none of its tags is annotated"))
        else:
            kept.append(row if unknown == row.unknown else replace(row, unknown=unknown))
    return kept, skipped


def annotation_notes(manifest: Manifest) -> list[str]:
    """Return a note on how many annotations are unknown, and one on tags of which no picture is
    known to lack them."""
    found = unknown_in_words(manifest)
    if found is None:
        return []
    counts, known = manifest.counts(), manifest.known_counts()
    always = [name for name, count in counts.items() if 0 < count == known[name] < len(manifest)]
    notes = [f"{found}: they count neither as yes nor as no"]
    if always:
        notes.append(
            f"no picture is known to lack {some(always)}: a model learns to say yes to every "
            f"picture; write 0 where a picture has not the {agree(len(always), 'tag', 'tags')}"
        )
    return notes


def unknown_in_words(manifest: Manifest) -> str | None:
    """`456 of 2,280 annotations (20 %) are unknown`, or None where all is known."""
    unknown = sum(len(record.unknown) for record in manifest.records)
    if not unknown:
        return None
    everything = len(manifest) * len(manifest.label_space.names)
    share = unknown / everything
    percent = f"{100 * share:.0f} %" if share >= _FEW else "less than 1 %"
    what = counted(everything, "annotation", "annotations")
    return f"{unknown:,} of {what} ({percent}) {agree(unknown, 'is', 'are')} unknown"
