"""Looks into pictures by a Ray cluster: hashes, sizes and statistics, for the audit.

The machines must see the files under the same paths. Nothing depends on it but time: what a machine
cannot read is left to this one.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from taxon.batch.items import Item
from taxon.batch.plan import items_table, pieces_of, table_items
from taxon.core.errors import CheckFailed, ImageError
from taxon.data.look import Look, look_into
from taxon.preprocessing import Preprocessing
from taxon.scale.cluster import connected, quieten
from taxon.scale.shipping import packed_table, unpacked_table

_PIECE = 32  # pictures that are looked into as one task; a second or less
# Pieces of one stream: what Ray keeps of each, to do it again, must not grow without end.
_ROUND = 8192


def looks_on_ray(
    paths: Sequence[Path],
    spec: Preprocessing,
    *,
    address: str | None,
    tell: Callable[[str], None],
) -> Iterator[tuple[int, Look | None]]:
    """Look into files on a Ray cluster; yield their positions and looks, as they come.

    Args:
        address: as in `connected`.

    Yields:
        None for a file that could not be read there.

    Raises:
        CheckFailed: a machine decodes pictures differently than this one.
        ConfigError: nothing answers at the address.
        MissingDependencyError: Ray is not installed.
    """
    with connected(address, tell):
        pieces = list(pieces_of(len(paths), _PIECE))
        for start in range(0, len(pieces), _ROUND):
            stream = _stream(paths, pieces[start : start + _ROUND], spec)
            for row in stream.iter_rows():
                # Told and not raised: of what a task raises Ray keeps the text alone.
                if row["looks"] is None:
                    raise CheckFailed(
                        "pictures are decoded differently on a machine of the cluster than here: "
                        "install the same versions of Pillow and its libraries on all machines"
                    )
                yield from enumerate(pickle.loads(row["looks"]), start=int(row["first"]))


def _stream(paths: Sequence[Path], pieces: Sequence[slice], spec: Preprocessing) -> Any:
    """The stream of these pieces, which begins when it is read; a row a piece."""
    import ray.data as ray_data

    quieten()
    ray_data.DataContext.get_current().enable_progress_bars = False
    tables = [
        pa.table(
            {
                "first": [piece.start],
                "content": [packed_table(items_table(Item(str(path)) for path in paths[piece]))],
            }
        )
        for piece in pieces
    ]
    picture = _test_picture()
    look = partial(_look, spec=spec, picture=picture, expected=look_into(picture, spec, "test"))
    return ray_data.from_arrow(tables).map_batches(
        look, batch_size=1, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1
    )


def _look(batch: pa.Table, spec: Preprocessing, picture: bytes, expected: Look) -> pa.Table:
    """Look into the pictures of a piece, in another process; null where it decodes otherwise."""
    found = look_into(picture, spec, "test")
    looks = None
    if (found.hash, found.thumbnail) == (expected.hash, expected.thumbnail):
        items = table_items(unpacked_table(batch.column("content")[0]))
        looks = pickle.dumps([_look_into(item, spec) for item in items])
    return pa.table({"first": batch.column("first"), "looks": pa.array([looks], pa.large_binary())})


def _look_into(item: Item, spec: Preprocessing) -> Look | None:
    try:
        return look_into(item.read(), spec, item.name)
    except ImageError:
        return None


def _test_picture() -> bytes:
    """A small JPEG of soft noise."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()
