"""Jobs of many pictures: what they are made of, and what must have come out."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import encode, pattern


def write_many(folder: Path, count: int, *, broken: tuple[int, ...] = ()) -> Path:
    """Write small pictures, some of which cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = encode(pattern(40, 30, number), "JPEG")
        if number in broken:
            data = data[: len(data) // 2]
        (folder / f"{number:05d}.jpg").write_bytes(data)
    return folder


def write_shard(file: Path, pictures: dict[str, bytes]) -> Path:
    """Write a tar in the layout of WebDataset: beside each picture its class."""
    with tarfile.open(file, "w") as archive:
        for name, data in pictures.items():
            for member, content in ((name, data), (f"{Path(name).stem}.cls", b"3")):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return file


def parts_of(out: Path) -> list[Path]:
    """The parts of a job, in order."""
    return sorted(out.glob("part-*.parquet"))


def rows_of(out: Path) -> pa.Table:
    """All rows of a job, in order."""
    return pa.concat_tables(pq.read_table(part) for part in parts_of(out))


def paths_of(out: Path) -> list[str]:
    """The pictures of a job, in order."""
    paths: list[str] = rows_of(out).column("path").to_pylist()
    return paths


def require_same_parts(out: Path, reference: Path) -> None:
    """Byte for byte."""
    names = [part.name for part in parts_of(out)]
    assert names == [part.name for part in parts_of(reference)]
    differing = [
        name for name in names if (out / name).read_bytes() != (reference / name).read_bytes()
    ]
    assert differing == []


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until it holds, looking often; give up after so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to it"
        time.sleep(0.005)
