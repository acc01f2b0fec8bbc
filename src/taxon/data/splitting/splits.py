"""Splits: train, validation, calibration and test, stratified, with groups kept together.

One algorithm serves one class a picture and several (see `stratify`). It hands out units, not
pictures: what is of one group, of the same content, or looks the same stays in one part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from taxon.core.errors import ConfigError, DataError
from taxon.core.text import some
from taxon.data.manifest import SPLITS, Manifest, Split
from taxon.data.splitting.assign import Rules, assign
from taxon.data.splitting.look_alikes import kept_together, look_alikes, loosen
from taxon.data.splitting.previous import old_parts, on_known
from taxon.data.splitting.split_checks import Part, on_torn, torn_links
from taxon.data.splitting.units import ALIKE, PICTURE, Link, make_units

MINIMUM_CALIBRATION_PER_CLASS = 20
LARGEST_HELD_OUT = 0.9


@dataclass(frozen=True)
class SplitPlan:
    """The manifest with a part for every record, and what was decided on the way."""

    manifest: Manifest
    notes: tuple[str, ...]


def ensure_split(
    manifest: Manifest,
    *,
    validation: float,
    test: float,
    seed: int,
    near_duplicates: bool = True,
    previous: Manifest | None = None,
) -> SplitPlan:
    """Give every record a part.

    Data that bring their own split keep it, whatever straddles it (the audit tells); where they
    have no validation part, one is taken from the training part. A calibration part is taken
    out of validation once that leaves each class enough pictures; else validation serves for
    both.

    Args:
        validation, test: shares of the data, 0 to 1.
        seed: the same seed and pictures give the same split, whatever their order and names.
        near_duplicates: keep pictures that look the same in one part. Never a reason to refuse:
            where so many look the same that a class could not be split any more (a fixed camera
            before an empty belt), the largest groups of it are let go, and a note says so.
        previous: an older manifest with a split. Its pictures, known by their content, keep
            their part; a new picture goes to the part of its group, else of its copies, else of
            its near-duplicates; the rest is handed out so that the shares are approached.

    Raises:
        DataError: a class is too small to be in every part, there is no training part, or both
            the data and `previous` have a split, or `previous` has none of the pictures.
    """
    given = any(record.split is not None for record in manifest.records)
    if given and previous is not None:
        raise DataError(
            "the data bring a split of their own, and the old manifest has another; leave the "
            "old one out (--previous), or ignore the data's (--resplit)"
        )
    pool = manifest.part("validation") if given else manifest
    pool = pool if len(pool) else manifest.part("train")
    rules = _rules(pool, seed, near_duplicates)
    if given:
        return _finish(_complete(manifest, validation, rules), {}, rules)
    old = old_parts(manifest, previous) if previous is not None else {}
    if previous is not None:
        rules.notes.append(on_known(manifest, previous, old))
    divided, decided = _split(manifest, validation, test, old, rules)
    return _finish(divided, decided, rules)


def k_folds(
    manifest: Manifest,
    folds: int,
    *,
    seed: int,
    validation: float,
    near_duplicates: bool = True,
) -> tuple[SplitPlan, ...]:
    """Make one split a fold; every picture is in the test part of exactly one of them.

    Parts that the records have are ignored. Validation and calibration are taken out of what
    is not the fold's test part, and everything else holds as for `ensure_split`.

    Args:
        folds: how many, at least 2; the test part is 1/folds of the data.
        validation: share of the data, 0 to 1.

    Raises:
        ConfigError: fewer than 2 folds, or too little left to train on.
        DataError: a class is too small to be in every fold and part.
    """
    if folds < 2:
        raise ConfigError(f"folds must be 2 or more, received {folds}")
    rest = 1 - 1 / folds
    if validation + 1 / folds > LARGEST_HELD_OUT:
        raise ConfigError(
            f"{folds} folds and a validation share of {validation:g} leave less than a tenth to "
            "train on; ask for more folds (--folds 5) or less validation (--validation-share 0.1)"
        )
    rules = _rules(manifest, seed, near_duplicates)
    rules.notes.append(f"{folds} folds by seed {seed}, groups and equal files kept together")
    # The other one of two folds must hold enough of each class for train and validation.
    halves = ("half of ", "other half of ") if folds == 2 and validation else ("",)
    fold_of = {f"{half}fold {row + 1}": row for row in range(folds) for half in halves}
    equal = dict.fromkeys(fold_of, 1 / len(fold_of))
    rules.notes.extend(_loosen(manifest, equal, {}, rules))
    held_in = [fold_of[place] for place in assign(manifest, equal, {}, rules, folds)]
    plans = []
    for row in range(folds):
        mine = replace(rules, notes=list(rules.notes))
        fold = manifest.with_splits("test" if held == row else "train" for held in held_in)
        if validation:
            shares: dict[Split, float] = {"train": rest - validation, "validation": validation}
            mine.notes.extend(_loosen(fold.part("train"), shares, {}, mine))
            fold = _divide(fold, "train", shares, {}, mine)
        mine.notes.extend(kept_together(manifest, mine.alike))
        plans.append(_finish(fold, {}, mine))
    return tuple(plans)


def _rules(manifest: Manifest, seed: int, near_duplicates: bool) -> Rules:
    notes: list[str] = []
    return Rules(look_alikes(manifest, notes) if near_duplicates else (), seed, notes)


def _loosen(
    manifest: Manifest, shares: Mapping[Part, float], old: Mapping[Link, str], rules: Rules
) -> list[str]:
    """Keep as many look-alikes together as the classes allow; return a note on the others."""
    open_shares = [share for share in shares.values() if share > 0]
    rules.alike, notes = loosen(manifest, rules.alike, open_shares, old)
    return notes


def _complete(manifest: Manifest, validation: float, rules: Rules) -> Manifest:
    rules.notes.append("split as the data give it")
    if not len(manifest.part("train")):
        found = ", ".join(manifest.split_counts())
        raise DataError(f"the data have no part 'train' (only: {found}); training needs one")
    if len(manifest.part("validation")) or not validation:
        return manifest
    shares: dict[Split, float] = {"train": 1 - validation, "validation": validation}
    rules.notes.append(f"no validation part in the data: {validation:.0%} of train taken for it")
    train = manifest.part("train")
    rules.notes.extend(_loosen(train, shares, {}, rules))
    rules.notes.extend(kept_together(train, rules.alike))
    return _divide(manifest, "train", shares, {}, rules)


def _split(
    manifest: Manifest, validation: float, test: float, old: Mapping[Link, Split], rules: Rules
) -> tuple[Manifest, dict[Link, Split]]:
    """Give every picture a part; return also those that the old split decides."""
    shares: dict[Split, float] = {"train": 1 - validation - test}
    if validation and "calibration" in old.values():
        shares |= {"validation": validation / 2, "calibration": validation / 2}
    elif validation:
        shares["validation"] = validation
    if test:
        shares["test"] = test
    # Parts that only the old split has keep their pictures, and get no others.
    shares |= {part: 0.0 for part in SPLITS if part in old.values() and part not in shares}
    let_go = _loosen(manifest, shares, old, rules)
    decided = make_units(manifest, rules.alike, old)[1] if old else {}
    torn = torn_links(manifest, rules.alike, decided) if old else {}
    whole = [
        contents for number, contents in enumerate(rules.alike) if (ALIKE, str(number)) not in torn
    ]
    but = " but for those below" if any(kind != ALIKE for kind, _ in torn) else ""
    rules.notes += [
        f"split by seed {rules.seed}, groups and equal files kept together{but}",
        *let_go,
        *kept_together(manifest, whole),
        *on_torn(torn),
    ]
    return manifest.with_splits(assign(manifest, shares, decided, rules)), decided


def _finish(manifest: Manifest, old: Mapping[Link, Split], rules: Rules) -> SplitPlan:
    manifest = _take_calibration(manifest, old, rules)
    if not manifest.part("validation"):
        rules.notes.append("no validation part: the last epoch is kept and nothing is calibrated")
    empty = [name for name, count in manifest.part("train").counts().items() if not count]
    if empty:
        raise DataError(
            f"no training pictures of {some(empty)}; every class that occurs anywhere needs "
            "some in the training part"
        )
    return SplitPlan(manifest, tuple(dict.fromkeys(rules.notes)))


def _take_calibration(manifest: Manifest, old: Mapping[Link, Split], rules: Rules) -> Manifest:
    pool = manifest.part("validation")
    if len(manifest.part("calibration")) or not len(pool):
        return manifest
    # 40 pictures of a class that are all of one group cannot be divided, and old ones stay.
    units, _ = make_units(pool, rules.alike, old)
    new = pool.where(lambda record: (PICTURE, record.id) not in old)
    if (
        min(pool.counts().values()) < 2 * MINIMUM_CALIBRATION_PER_CLASS
        or min(new.counts().values()) < MINIMUM_CALIBRATION_PER_CLASS
        or units.holding(free=True).min() < 2
    ):
        rules.notes.append("few pictures: validation serves for calibration too")
        return manifest
    rules.notes.append("calibration: half of the validation part taken for it")
    return _divide(manifest, "validation", {"validation": 0.5, "calibration": 0.5}, old, rules)


def _divide(
    manifest: Manifest,
    part: Split,
    shares: Mapping[Split, float],
    old: Mapping[Link, Split],
    rules: Rules,
) -> Manifest:
    """Divide one part; the others stay as they are."""
    pool = manifest.part(part)
    chosen = iter(assign(pool, shares, old, rules))
    return manifest.with_splits(
        next(chosen) if record.split == part else record.split or "train"
        for record in manifest.records
    )
