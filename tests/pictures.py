"""Make small pictures, data sets and manifests for tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.core.fingerprint import sha256_bytes
from taxon.core.labels import LabelSpace, Task
from taxon.data import Manifest, Record
from taxon.data.manifest import Split

Pixels = npt.NDArray[np.uint8]


def pattern(width: int, height: int, seed: int = 0) -> Pixels:
    """Return uint8 [H, W, 3] without any symmetry, from integer arithmetic alone."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    red = (rows * 7 + columns * 13 + seed * 31) % 256
    green = (rows * columns + seed * 17) % 256
    blue = (rows * rows * 3 + columns * 5 + seed * 101) % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def plain(width: int, height: int, colour: tuple[int, int, int]) -> Image.Image:
    """Return an RGB picture of one colour."""
    return Image.new("RGB", (width, height), colour)


def encode(
    picture: Image.Image | npt.NDArray[Any], format_name: str = "PNG", **options: Any
) -> bytes:
    """Return the bytes of a picture file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def write_picture(path: Path, seed: int = 0, *, width: int = 12, height: int = 10) -> Path:
    """Write a PNG, whatever the suffix says; another seed makes another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pattern(width, height, seed)))
    return path


def write_folders(root: Path, counts: Mapping[str, int], *, first_seed: int = 0) -> Path:
    """Write `counts[folder]` different pictures into each folder (slashes nest); return root."""
    seed = first_seed
    for folder, count in counts.items():
        for position in range(count):
            write_picture(root / folder / f"{position:02d}.png", seed)
            seed += 1
    return root


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    encoding: str = "utf-8",
    pictures: bool = True,
) -> Path:
    """Write a .csv or .tsv table and, below its folder, a picture for each row's first cell."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(header)
        writer.writerows(rows)
    if pictures:
        for seed, name in enumerate(dict.fromkeys(row[0] for row in rows)):
            write_picture(path.parent / name, seed)
    return path


def make_record(
    position: int,
    labels: Sequence[str] | str,
    *,
    group: str | None = None,
    split: Split | None = None,
    content: str | None = None,
    unknown: Sequence[str] = (),
) -> Record:
    """Return a record without a file; equal `content` gives an equal sha256."""
    name = f"{position:05d}.png"
    return Record(
        id=name,
        path=Path(name),
        sha256=sha256_bytes((content or name).encode()),
        labels=(labels,) if isinstance(labels, str) else tuple(labels),
        unknown=tuple(unknown),
        group=group,
        split=split,
    )


def make_manifest(records: Iterable[Record], task: Task = "multiclass") -> Manifest:
    """Return a manifest over the labels that occur."""
    records = tuple(records)
    names = {label for record in records for label in record.labels}
    return Manifest(records, LabelSpace.flat(task, names), Path("data"))


def make_classes(counts: Mapping[str, int], split: Split | None = None) -> Manifest:
    """Return a manifest of single pictures with `counts[name]` of each class."""
    labels = [name for name, count in counts.items() for _ in range(count)]
    return make_manifest(
        make_record(position, label, split=split) for position, label in enumerate(labels)
    )
