"""Write a set of sample pictures: how many of what, which names, which labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from taxon.core.errors import ConfigError, nearest
from taxon.core.files import atomic_folder
from taxon.data.samples.camera import photograph
from taxon.data.samples.canvas import canvas_pixels
from taxon.data.samples.defects import DEFECTS
from taxon.data.samples.surfaces import INSPECTED, SURFACES, SurfaceMaker

SampleKind = Literal["defects", "tags", "taxonomy"]
SAMPLE_KINDS: tuple[str, ...] = get_args(SampleKind)

# Hidden, so that no source takes it for data; by it, --overwrite knows our own folders.
MARKER_FILE = ".taxon-sample-data"
SMALLEST_SIZE = 32
FEWEST_PER_CLASS = 3

# Of 600 pictures. Sound parts are common and dents are rare, as on a real line.
_DEFECT_PICTURES = {"good": 220, "scratch": 130, "stain": 100, "pit": 70, "crack": 50, "dent": 30}
_TAG_PICTURES = {"scratch": 210, "stain": 180, "pit": 150, "crack": 120, "dent": 100}
_OUT_OF = 600
_MOST_TAGS = 4


def generate_samples(
    kind: SampleKind,
    out: Path,
    *,
    seed: int = 0,
    size: int = 160,
    count: int = 600,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write a set of pictures of metal, tile and fabric; the same arguments give the same bytes.

    `defects`: one class a picture, in folders `OUT/<class>/`, of very unequal sizes.
    `tags`: none to four defects a picture, `OUT/images/` and the table `OUT/labels.csv`.
    `taxonomy`: nested folders `OUT/<material>/<finish>/`, of equal sizes.

    Args:
        kind: one of `SAMPLE_KINDS`.
        out: folder to write; it appears only once it is complete.
        seed: 0 or more.
        size: width and height in pixels, 32 or more.
        count: pictures in all.
        overwrite: replace `out` if it holds sample data.

    Returns:
        Pictures per class (`material/finish` for a taxonomy) or, for tags, per tag.

    Raises:
        ConfigError: an unknown kind, a size, seed or count that is too small.
        OutputError: `out` holds something already, or cannot be written.
    """
    if kind not in SAMPLE_KINDS:
        raise ConfigError(
            f"no sample data of kind '{kind}'; choose one of {', '.join(SAMPLE_KINDS)}."
            + nearest(kind, SAMPLE_KINDS)
        )
    if size < SMALLEST_SIZE:
        raise ConfigError(f"size {size} is too small: a side needs {SMALLEST_SIZE} pixels or more")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative; give 0 or more")
    write = {"defects": _write_defects, "tags": _write_tags, "taxonomy": _write_taxonomy}[kind]
    with atomic_folder(out, replace_if=MARKER_FILE if overwrite else None) as folder:
        (folder / MARKER_FILE).write_text(f"taxon sample-data {kind}, seed {seed}\n")
        return write(folder, seed, size, count)


def _write_defects(folder: Path, seed: int, size: int, count: int) -> dict[str, int]:
    counts = _shared_out(count, _DEFECT_PICTURES)
    for position, (name, pictures) in enumerate(counts.items()):
        (folder / name).mkdir()
        defects = [] if name == "good" else [name]
        for number in range(1, pictures + 1):
            rng = np.random.default_rng([seed, 0, position, number])
            maker = INSPECTED[rng.integers(len(INSPECTED))]
            path = folder / name / f"{name}-{number:04}.jpg"
            _write_picture(path, maker, defects, rng, size)
    return counts


def _write_tags(folder: Path, seed: int, size: int, count: int) -> dict[str, int]:
    tags_of_pictures = _draw_tags(count, np.random.default_rng([seed, 1]))
    (folder / "images").mkdir()
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "tags"])
        for number, tags in enumerate(tags_of_pictures, start=1):
            rng = np.random.default_rng([seed, 1, number])
            maker = INSPECTED[rng.integers(len(INSPECTED))]
            path = f"images/{number:04}.jpg"
            _write_picture(folder / path, maker, tags, rng, size)
            table.writerow([path, "|".join(tags)])
    return {tag: sum(tag in tags for tags in tags_of_pictures) for tag in _TAG_PICTURES}


def _write_taxonomy(folder: Path, seed: int, size: int, count: int) -> dict[str, int]:
    makers = {
        f"{material}/{finish}": maker
        for material, finishes in SURFACES.items()
        for finish, maker in finishes.items()
    }
    counts = _shared_out(count, dict.fromkeys(makers, _OUT_OF // len(makers)))
    for position, (name, pictures) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(1, pictures + 1):
            rng = np.random.default_rng([seed, 2, position, number])
            path = folder / name / f"{Path(name).name}-{number:04}.jpg"
            _write_picture(path, makers[name], [], rng, size)
    return counts


def _write_picture(
    path: Path, maker: SurfaceMaker, defects: Sequence[str], rng: np.random.Generator, size: int
) -> None:
    surface = maker(rng, canvas_pixels(size))
    for name in defects:
        DEFECTS[name](surface, rng)
    photograph(surface, rng, size).save(path, quality=int(rng.integers(86, 94)))


def _shared_out(count: int, shares: dict[str, int]) -> dict[str, int]:
    """Divide `count` in proportion to `shares`, but give every name a few."""
    _require_enough(count, len(shares))
    names = list(shares)
    spare = np.array([shares[name] - FEWEST_PER_CLASS for name in names], dtype=float)
    wanted = np.cumsum(spare) / spare.sum() * (count - FEWEST_PER_CLASS * len(names))
    # Differences of the rounded running total: they add up to the whole exactly.
    extra = np.diff(np.round(wanted).astype(int), prepend=0)
    return {name: FEWEST_PER_CLASS + int(more) for name, more in zip(names, extra, strict=True)}


def _require_enough(count: int, classes: int) -> None:
    fewest = FEWEST_PER_CLASS * classes
    if count < fewest:
        raise ConfigError(
            f"count {count} is too small for {classes} classes; "
            f"give {fewest} or more, {FEWEST_PER_CLASS} for each class"
        )


def _draw_tags(count: int, rng: np.random.Generator) -> list[list[str]]:
    """The tags of every picture; how often each occurs is fixed, where it occurs is random."""
    _require_enough(count, len(_TAG_PICTURES) + 1)
    tags_of_pictures: list[list[str]] = [[] for _ in range(count)]
    for tag, of_all in _TAG_PICTURES.items():
        wanted = max(FEWEST_PER_CLASS, round(count * of_all / _OUT_OF))
        open_pictures = [tags for tags in tags_of_pictures if len(tags) < _MOST_TAGS]
        for position in rng.permutation(len(open_pictures))[:wanted]:
            open_pictures[position].append(tag)
    return tags_of_pictures
