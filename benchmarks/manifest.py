"""How long taxon takes to look into 10,000 pictures, the first time and the second.

    python benchmarks/manifest.py [--pictures 10000]

It makes the pictures (400x533 JPEG) in a temporary folder, with a cache of its own. A second
look reads the cache: nothing changed, so nothing is decoded. For comparison, the plain work that
nobody gets around: reading every file and hashing it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from taxon.core.cores import available_cores
from taxon.data import load_manifest, read_manifest, write_manifest


def make_pictures(folder: Path, count: int) -> None:
    """Smooth random pictures with some noise, in ten classes."""
    rng = np.random.default_rng(0)
    for position in range(count):
        coarse = rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((400, 533), Image.Resampling.BICUBIC)
        noisy = np.asarray(image, np.int16) + rng.integers(-8, 9, (533, 400, 1))
        path = folder / f"class-{position % 10}" / f"{position:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)


def seconds(work: Callable[[], object]) -> float:
    """Run once and return how long it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=10_000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["TAXON_CACHE"] = str(root / "cache")
        photos = root / "photos"
        make_pictures(photos, count)
        files = sorted(photos.rglob("*.jpg"))
        hashing = seconds(lambda: [hashlib.sha256(file.read_bytes()).digest() for file in files])
        first = seconds(lambda: load_manifest(photos))
        again = [seconds(lambda: load_manifest(photos)) for _ in range(3)]
        manifest = load_manifest(photos)
        writing = seconds(lambda: write_manifest(manifest, root / "manifest.parquet"))
        reading = seconds(lambda: read_manifest(root / "manifest.parquet"))
        size = (root / "manifest.parquet").stat().st_size / 2**20
    print(f"{count} pictures on {available_cores()} cores")
    print(f"  reading and hashing the files alone  {hashing:6.2f} s")
    print(f"  first look                           {first:6.2f} s ({count / first:.0f} a second)")
    print(f"  second look                          {min(again):6.2f} s")
    print(
        f"  writing / reading the manifest       {writing:6.2f} s / {reading:.2f} s, {size:.1f} MiB"
    )


if __name__ == "__main__":
    main()
