"""The neighbours of each picture among all, as the audit's look-alikes need them: exact and FAISS.

    python benchmarks/look_alikes.py --count 20000 --count 100000 --features 512

Random features: half of the rows around a thousand centres, as of classes; 1 in 20 is another row
with a little noise. Each kind runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from taxon.core.predictions import FloatArray
from taxon.similarity import neighbours_within

PLANTED_SHARE = 0.05
NEIGHBOURS = 24
KINDS = ("exact", "ivf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, action="append")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--kind", choices=KINDS, help="measure this one, and print its row alone")
    options = parser.parse_args()
    if options.kind is not None:
        measure(options.count[0], options.features, options.kind)
        return
    print("| pictures | index | seconds | of processors | peak MB | planted pairs found |")
    print("|---|---|---|---|---|---|", flush=True)
    for count in options.count or [20_000]:
        for kind in KINDS:
            own = ["--count", str(count), "--features", str(options.features), "--kind", kind]
            subprocess.run([sys.executable, __file__, *own], check=True)


def measure(count: int, size: int, kind: str) -> None:
    """Search, and print a row."""
    features, copies, originals = generated(count, size)
    start, computed = time.perf_counter(), time.process_time()
    found = neighbours_within(
        features, NEIGHBOURS, kind="exact" if kind == "exact" else "ivf", centred=True
    )
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    hits = int((found.rows[copies] == originals[:, None]).any(axis=1).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cells = (f"{count:,}", kind, f"{seconds:.0f}", f"{computed:.0f}", f"{peak:.0f}")
    print(f"| {' | '.join(cells)} | {hits:,} of {len(copies):,} |", flush=True)


def generated(count: int, size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features [N, F], the rows that are copies, and of each the row that it copies."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (count, size)).astype(np.float32)
    centres = rng.normal(0, 1, (1000, size)).astype(np.float32)
    features[: count // 2] += centres[rng.integers(0, len(centres), count // 2)]
    order = rng.permutation(count)
    copies, originals = np.split(order[: 2 * int(count * PLANTED_SHARE)], 2)
    noise = rng.normal(0, 0.5, (len(copies), size)).astype(np.float32)
    features[copies] = features[originals] + noise
    return features, copies, originals


if __name__ == "__main__":
    main()
