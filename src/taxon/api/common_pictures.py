"""Which pictures two runs can be compared on: those that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from taxon.api.pictures import SEEN, own_manifest
from taxon.bundle import ModelSpec, Provenance, read_bundle
from taxon.bundle.hub import own_name, typed_name
from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.errors import ConfigError, DataError, nearest
from taxon.core.text import agree, counted, some
from taxon.data import Columns, Manifest, Record, load_manifest
from taxon.data.manifest import SPLIT_WORDS
from taxon.inference import load_predictor
from taxon.preprocessing import Preprocessing

ALL = "all"


@dataclass(frozen=True)
class Run:
    """One of the two: a model folder, or an artefact alone.

    Attributes:
        manifest: the pictures that it was trained and tested on; None for an artefact alone, and
            for a model that was published without.
        provenance: None for an artefact alone.
    """

    path: Path
    spec: ModelSpec
    manifest: Manifest | None
    provenance: Provenance | None

    @property
    def name(self) -> str:
        """The folder's name; of an .onnx file the name without its suffix."""
        path = self.path.resolve()
        return path.stem if path.is_file() else own_name(path)

    @property
    def shown(self) -> str:
        """What a user may type for it."""
        return typed_name(self.path)

    @property
    def kind(self) -> str:
        """What has no manifest, in words."""
        return "an artefact alone" if self.provenance is None else "a published model"

    @property
    def seen(self) -> frozenset[str]:
        """The sha256 of what it trained, selected or calibrated on, as far as that is known."""
        records = self.manifest.records if self.manifest is not None else ()
        return frozenset(record.sha256 for record in records if record.split != "test")


def open_run(path: Path) -> Run:
    """Read what a model folder or an artefact says of itself; weights stay on disk.

    Raises:
        BundleError: nothing there that can be loaded, or altered.
    """
    if (path / BUNDLE_FILE).is_file():
        bundle = read_bundle(path)
        return Run(path, bundle.spec, own_manifest(path), bundle.info.provenance)
    return Run(path, load_predictor(path).spec, None, None)


def require_same_classes(a: Run, b: Run) -> None:
    """Refuse runs that answer different questions.

    Raises:
        DataError: another task, or other classes.
    """
    tasks = {"multiclass": "one class a picture", "multilabel": "any number of tags"}
    of_a, of_b = a.spec.label_space, b.spec.label_space
    if of_a.task != of_b.task:
        raise DataError(
            f"{a.shown} names {tasks[of_a.task]}, {b.shown} {tasks[of_b.task]}: only runs of one "
            "task can be compared"
        )
    lacking = [
        f"{run.shown} lacks {some(sorted(missing))}"
        for run, missing in ((a, {*of_b.names} - {*of_a.names}), (b, {*of_a.names} - {*of_b.names}))
        if missing
    ]
    if lacking:
        raise DataError(
            f"the two runs have different classes: {'; '.join(lacking)}. Train both on the same "
            "classes, say on one manifest of `taxon split`"
        )


def choose_pictures(
    a: Run, b: Run, data: Path | None, split: str | None, columns: Columns | None
) -> tuple[Manifest, list[str]]:
    """Return the pictures to compare on, and notes on what was left out.

    Args:
        data: a labelled data set; None takes the test part of both manifests.
        split: a part, of `data` or of both manifests, or `all`. Pictures that a run has seen are
            scored where their part is asked for (`val` without `data`), or `all`.

    Raises:
        ConfigError: no such part.
        DataError: no pictures are left, or an artefact alone without `data`.
    """
    allowed = [*SPLIT_WORDS, ALL]
    if split is not None and split not in allowed:
        raise ConfigError(
            f"unknown part '{split}'; allowed: {', '.join(allowed)}.{nearest(split, allowed)}"
        )
    if data is not None:
        return _unseen(a, b, data, split, columns)
    return _in_part_of_both(a, b, split or "test")


def _in_part_of_both(a: Run, b: Run, split: str) -> tuple[Manifest, list[str]]:
    command = f"taxon compare {a.shown} {b.shown} DATA"
    if a.manifest is None or b.manifest is None:
        alone = a if a.manifest is None else b
        raise DataError(
            f"{alone.shown} is {alone.kind} and does not say on which pictures it was trained "
            f"and tested; name a data set: {command}"
        )
    found = [
        {record.sha256: record for record in manifest.records if _is_in(record, split)}
        for manifest in (a.manifest, b.manifest)
    ]
    fair = split != ALL and SPLIT_WORDS[split] == "test"
    seen = a.seen | b.seen if fair else frozenset()
    both = (found[0].keys() & found[1].keys()) - seen
    either = found[0].keys() | found[1].keys()
    notes = _left_out(len(either & seen), "one of the runs trained, selected or calibrated on")
    notes += _left_out(len(either - both - seen), f"only one of the runs has in {_place(split)}")
    if not both:
        raise DataError(
            f"no picture is in {_place(split)} of both runs{' and was seen by neither' * fair} (A "
            f"has {len(found[0])}, B {len(found[1])}); name pictures that neither has seen: "
            f"{command}. Or train both on one manifest of `taxon split`, or compare on the part "
            "that they were selected by, which flatters both: --split val"
        )
    agreed = {sha256 for sha256 in both if _same_labels(found[0][sha256], found[1][sha256])}
    notes += _left_out(len(both - agreed), "the two runs have under different labels")
    if not agreed:
        raise DataError(
            f"the two runs have different labels for all {len(both)} pictures that both test on; "
            f"name the data set whose labels are right: {command}"
        )
    kept = b.manifest.where(lambda record: record.sha256 in agreed and _is_in(record, split))
    records = tuple(
        replace(record, group=record.group or found[0][record.sha256].group)
        for record in kept.records
    )
    if not fair:
        notes.append(SEEN)
    return replace(kept, records=records), notes


def _is_in(record: Record, split: str) -> bool:
    return split == ALL or record.split == SPLIT_WORDS[split]


def _place(split: str) -> str:
    return "the data" if split == ALL else f"the {SPLIT_WORDS[split]} part"


def _same_labels(one: Record, other: Record) -> bool:
    return {*one.labels} == {*other.labels} and {*one.unknown} == {*other.unknown}


def _left_out(count: int, why: str) -> list[str]:
    if not count:
        return []
    pictures = counted(count, "picture", "pictures")
    return [f"{pictures} that {why} {agree(count, 'was', 'were')} left out"]


def _unseen(
    a: Run, b: Run, data: Path, split: str | None, columns: Columns | None
) -> tuple[Manifest, list[str]]:
    manifest = load_manifest(
        data, columns, label_space=b.spec.label_space, spec=_readable_by_both(a, b)
    )
    unusable = sum(row.kind != "plan" for row in manifest.skipped)
    notes = [f"{unusable} pictures or rows cannot be used"] if unusable else []
    if split == ALL:
        return manifest, [*notes, SEEN]
    if split is not None:
        if not manifest.split_counts():
            raise DataError(f"{data} names no parts, so there is no '{split}'; leave --split out")
        manifest = manifest.part(SPLIT_WORDS[split])
        if not len(manifest):
            raise DataError(f"{data} has no pictures in the part '{split}'; leave --split out")
    known = a.seen | b.seen
    fresh = manifest.where(lambda record: record.sha256 not in known)
    notes += _left_out(
        len(manifest) - len(fresh), "one of the runs trained, selected or calibrated on"
    )
    if not len(fresh):
        raise DataError(
            f"one of the runs has seen each of the {len(manifest)} pictures of {data}: scoring "
            "them would say nothing. Name other pictures, or add --split all to score them all "
            "the same"
        )
    notes += [
        f"it is not known on which pictures {run.shown} was trained, {run.kind}: it may "
        "have seen those that are scored"
        for run in (a, b)
        if run.manifest is None
    ]
    return fresh, notes


def _readable_by_both(a: Run, b: Run) -> Preprocessing:
    """What decides whether a picture can be read, by the stricter of the two."""
    specs = a.spec.preprocessing, b.spec.preprocessing
    return specs[1].model_copy(
        update={
            "max_pixels": min(spec.max_pixels for spec in specs),
            "truncated": "fill" if all(spec.truncated == "fill" for spec in specs) else "refuse",
        }
    )
