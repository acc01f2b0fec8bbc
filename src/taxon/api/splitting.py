"""Split: give every picture its part, and write that down as a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from taxon.api.audit_features import Progress
from taxon.api.inspection import decoding_spec
from taxon.api.split_output import FIRST_FOLD, WRITERS, require_output
from taxon.bundle.layout import BUNDLE_FILE, MANIFEST_FILE
from taxon.config import SplitConfig
from taxon.core.errors import ConfigError, DataError
from taxon.core.files import atomic_folder
from taxon.core.limits import require_seed
from taxon.core.text import some
from taxon.data import Columns, Manifest, Skipped, data_path, load_manifest, write_manifest
from taxon.data.manifest import SPLITS
from taxon.data.plan import Plan, apply_plan
from taxon.data.plan_account import account
from taxon.data.plan_file import read_plan
from taxon.data.splitting.previous import read_previous
from taxon.data.splitting.splits import LARGEST_HELD_OUT, SplitPlan, ensure_split, k_folds
from taxon.data.splitting.units import make_units

_DEFAULT = SplitConfig()


@dataclass(frozen=True)
class Splitting:
    """What was split and where it was written.

    Attributes:
        manifests: one; with folds one a fold.
        paths: the file of each.
        notes: what was decided and what to know, in plain sentences.
    """

    manifests: tuple[Manifest, ...]
    paths: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Pictures and rows that are in no part: unreadable ones, and those a plan dropped."""
        return self.manifests[0].skipped

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures of each class in each part; with folds, in the test part of each fold."""
        if len(self.manifests) > 1:
            return {
                f"fold {number}": manifest.part("test").counts()
                for number, manifest in enumerate(self.manifests, start=1)
            }
        only = self.manifests[0]
        return {part: only.part(part).counts() for part in SPLITS if len(only.part(part))}

    def sizes(self) -> dict[str, int]:
        """Pictures in each part; with folds, in the test part of each fold."""
        if len(self.manifests) > 1:
            return {
                f"fold {number}": len(manifest.part("test"))
                for number, manifest in enumerate(self.manifests, start=1)
            }
        return dict(self.manifests[0].split_counts())


def split(
    data: str | Path,
    *,
    out: str | Path,
    plan: str | Path | None = None,
    previous: str | Path | None = None,
    folds: int | None = None,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
    columns: Columns | None = None,
    near_duplicates: bool = True,
    resplit: bool = False,
    truncated: Literal["refuse", "fill"] = "refuse",
    max_pixels: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Splitting:
    """Divide a data set into train, validation, calibration and test; train on the result.

    Parts are stratified by class (or tag); pictures of one group, equal files and near-duplicates
    stay together. The pictures themselves are never touched.

    Args:
        data: a folder, table, archive or manifest, as for `train`.
        out: the manifest to write, .parquet or .csv; with `folds` a folder of them.
        plan: a plan of `audit`, edited: what to drop, regroup and relabel first.
        previous: an older manifest (.parquet or .csv), or a model folder: its pictures keep
            their parts.
        folds: one split a fold instead, each picture in the test part of exactly one.
        validation, test: shares of the data, 0 to 1; None takes 0.15.
        seed: the same seed and pictures give the same split.
        columns: of a table.
        near_duplicates: keep pictures that look the same together.
        resplit: ignore the parts that the data bring; else these are kept.
        truncated, max_pixels: what counts as readable, as in `train`'s preprocessing.
        overwrite: replace what an earlier split wrote to `out`.

    Raises:
        ConfigError: options that do not fit together, a seed that is out of range.
        DataError: no data, a plan that does not fit, a class that cannot be split, an older
            manifest that cannot be read or has none of the pictures.
        OutputError: `out` exists, or is something that taxon did not write.
    """
    source, target = data_path(data), Path(out)
    require_seed(seed)
    _require_options(folds, previous, validation, test)
    require_output(source, _manifest_file(source), target, folds, overwrite)
    changes = None if plan is None else read_plan(Path(plan))
    spec = decoding_spec(truncated, max_pixels)
    older = None if previous is None else read_previous(_manifest_file(Path(previous)), spec)
    manifest = load_manifest(
        _manifest_file(source),
        columns,
        spec=spec,
        progress=None if progress is None else lambda *done: progress("pictures", *done),
    )
    if changes is not None:
        changed = apply_plan(manifest, changes)
        said = account(manifest, changed, changes)
        manifest = replace(changed, notes=(*changed.notes, said))
    if resplit:
        unsplit = (replace(record, split=None) for record in manifest.records)
        manifest = replace(manifest, records=tuple(unsplit))
    elif changes is not None:
        _require_groups_whole(manifest, changes.accepted())
    notes = _notes_on_given(manifest, asked=(validation, test))
    if folds is not None:
        _require_unsplit(manifest)
        plans = k_folds(
            manifest,
            folds,
            seed=seed,
            validation=_DEFAULT.validation if validation is None else validation,
            near_duplicates=near_duplicates,
        )
    else:
        only = ensure_split(
            manifest,
            validation=_DEFAULT.validation if validation is None else validation,
            test=_DEFAULT.test if test is None else test,
            seed=seed,
            near_duplicates=near_duplicates,
            previous=older,
        )
        plans = (only,)
    if target.suffix.lower() == ".csv" and manifest.label_space.is_taxonomy:
        notes.append("a CSV table holds a taxonomy's classes as flat names; Parquet keeps it")
    return _write(plans, notes, target, folded=folds is not None, overwrite=overwrite)


def _manifest_file(path: Path) -> Path:
    return path / MANIFEST_FILE if (path / BUNDLE_FILE).is_file() else path


def _require_groups_whole(manifest: Manifest, plan: Plan) -> None:
    """Refuse a plan whose groups the data's own split tears apart: nothing would be mended.

    Raises:
        DataError: it names one of them.
    """
    records = {record.id: record for record in manifest.records}
    torn = []
    for step in plan.regroup:
        sides = {record.split: record for name in step.ids if (record := records.get(name))}
        if len(sides) > 1:
            torn.append(list(sides.values()))
    if torn:
        first, second = torn[0][:2]
        groups = "a group" if len(torn) == 1 else f"{len(torn)} groups"
        raise DataError(
            f"the plan keeps {groups} together that the data's own split tears apart (say "
            f"{first.id} in {first.split} and {second.id} in {second.split}); add --resplit for "
            "a new split that keeps them whole, or delete these steps to keep the split as it is"
        )


def _require_options(
    folds: int | None,
    previous: str | Path | None,
    validation: float | None,
    test: float | None,
) -> None:
    for name, share in (("validation", validation), ("test", test)):
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"the {name} share must be from 0 to below 1, received {share:g}")
    held_out = (_DEFAULT.validation if validation is None else validation) + (
        _DEFAULT.test if test is None else test
    )
    if folds is None and held_out > LARGEST_HELD_OUT:
        raise ConfigError(
            f"validation and test together may take at most {LARGEST_HELD_OUT} of the data, "
            f"received {held_out:g}"
        )
    if folds is not None and test is not None:
        raise ConfigError(
            "with folds the test part is 1/folds of the data: give --folds or --test-share"
        )
    if folds is not None and previous is not None:
        raise ConfigError(
            "an old manifest has one split, folds have several: give --folds or --previous"
        )


def _require_unsplit(manifest: Manifest) -> None:
    if manifest.split_counts():
        raise DataError(
            "the data bring a split of their own, and folds would make others; add --resplit to "
            "ignore it, or leave --folds out"
        )


def _notes_on_given(manifest: Manifest, asked: Sequence[float | None]) -> list[str]:
    """What to know where the data's own split is kept."""
    if not manifest.split_counts():
        return []
    notes = []
    if any(share is not None for share in asked):
        notes.append(
            "the data bring a split of their own, so shares matter only for a validation part "
            "that is missing; --resplit ignores it"
        )
    units, _ = make_units(manifest, (), {})
    sides = [{manifest.records[row].split for row in unit} for unit in units.members]
    torn = sum(len(found) > 1 for found in sides)
    if torn:
        groups = "1 group lies" if torn == 1 else f"{torn} groups lie"
        notes.append(
            f"{groups} in several parts of the data's own split (named so, or equal files); "
            "--resplit splits anew and keeps each in one part"
        )
    for part in SPLITS:
        counts = manifest.part(part).counts()
        lacking = [name for name, count in counts.items() if not count]
        if lacking and any(counts.values()):
            notes.append(f"{part} has no picture of {some(lacking)}")
    return notes


def _write(
    plans: Sequence[SplitPlan], notes: Sequence[str], target: Path, *, folded: bool, overwrite: bool
) -> Splitting:
    manifests = tuple(
        replace(each.manifest, notes=(*each.manifest.notes, *notes, *each.notes)) for each in plans
    )
    if folded:
        names = [f"fold-{number}.parquet" for number in range(1, len(plans) + 1)]
        with atomic_folder(target, replace_if=FIRST_FOLD if overwrite else None) as temporary:
            for name, manifest in zip(names, manifests, strict=True):
                write_manifest(manifest, temporary / name)
        paths = tuple(target / name for name in names)
    else:
        WRITERS[target.suffix.lower()](manifests[0], target)
        paths = (target,)
    said = dict.fromkeys(note for manifest in manifests for note in manifest.notes)
    return Splitting(manifests, paths, tuple(said))
