"""Near-duplicate search: time, memory and recall on generated hashes, precision on a table.

    python benchmarks/near_duplicates.py --count 100000 --count 1000000
    python benchmarks/near_duplicates.py --data SET/labels.csv --group-column tile_group \
        --model tf_mobilenetv3_small_100 --weights model.safetensors
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taxon.data.duplicates.hamming import count_bits, similar_pairs
from taxon.data.duplicates.near_duplicates import (
    Matching,
    NearDuplicates,
    hashes_of_thumbnails,
    near_duplicate_groups,
    thumbnail,
)
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture

PLANTED_SHARE = 0.05
QUERIES = 500
HASH_ALONE = Matching(max_distance=8, correlation=-1)  # no thumbnail says no

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, action="append", default=[])
    parser.add_argument("--distance", type=int, default=Matching().max_distance)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--group-column", default="tile_group")
    parser.add_argument("--model")
    parser.add_argument("--weights", default="hub")
    options = parser.parse_args()
    if options.count:
        print("| generated | hashes | distance | seconds | peak MB | pairs | recall |")
        print("|---|---|---|---|---|---|---|")
    for count in options.count:
        measure_search("even hashes", even_hashes(count), options.distance)
        thumbnails = generated_thumbnails(count)
        measure_search("of thumbnails", hashes_of_thumbnails(thumbnails), options.distance)
        measure_groups(thumbnails)
    if options.data:
        measure_table(options)


def even_hashes(count: int) -> Hashes:
    """Random hashes; 1 in 20 is another one with up to 10 bits flipped."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)
    copies = rng.permutation(count)[: int(count * PLANTED_SHARE)]
    hashes[copies] = hashes[rng.integers(0, count, len(copies))]
    flips = rng.integers(0, 11, len(copies))
    for flip in range(10):
        bits = np.uint64(1) << rng.integers(0, 64, len(copies)).astype(np.uint64)
        hashes[copies] ^= np.where(flip < flips, bits, np.uint64(0))
    return hashes


def generated_thumbnails(count: int) -> Thumbnails:
    """Thumbnails of soft shapes around a common bright middle, as of objects on a table, so
    that their hashes are crowded; the last 1 in 20 are copies under another exposure."""
    rng = np.random.default_rng(1)
    distance = np.linspace(-1, 1, 16)
    middle = 60 * np.exp(-(distance[:, None] ** 2 + distance**2))
    steps = np.arange(16)
    waves = np.cos(np.pi / 16 * (steps[:, None] + 0.5) * steps) / (1 + steps)
    thumbnails = np.empty((count, 256), np.uint8)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        shapes = waves @ rng.normal(0, 60, (size, 16, 16)) @ waves.T + middle + 90
        thumbnails[start : start + size] = np.clip(shapes, 0, 255).reshape(size, 256)
    planted = int(count * PLANTED_SHARE)
    copies = thumbnails[:planted] * rng.uniform(0.6, 1.1, (planted, 1)) + rng.normal(
        0, 3, (planted, 256)
    )
    thumbnails[count - planted :] = np.clip(copies, 0, 255)
    return thumbnails


def measure_search(name: str, hashes: Hashes, distance: int) -> None:
    start = time.perf_counter()
    found = similar_pairs(hashes, distance)
    seconds = time.perf_counter() - start
    recall = search_recall(hashes, distance, found.pairs)
    left_out = int(found.incomplete.sum())
    note = f", {left_out:,} incomplete" if left_out else ""
    print(
        f"| search, {name} | {len(hashes):,} | {distance} | {seconds:.1f} | {peak_megabytes():.0f} "
        f"| {len(found.pairs):,}{note} | {recall} |",
        flush=True,
    )


def search_recall(hashes: Hashes, distance: int, pairs: npt.NDArray[np.int64]) -> str:
    """Compare some hashes with all: half of them from pairs, so that there is much to find.

    Equal hashes are left out of the count, as the first one stands for all of them.
    """
    rng = np.random.default_rng(2)
    unique, first = np.unique(hashes, return_index=True)
    hits = pairs[rng.permutation(len(pairs))[: QUERIES // 2], 0]
    queries = np.intersect1d(np.union1d(hits, rng.integers(0, len(hashes), QUERIES // 2)), first)
    keys = set((pairs[:, 0] * len(hashes) + pairs[:, 1]).tolist())
    right = wanted = 0
    for query in queries:
        for other in first[count_bits(unique ^ hashes[query]) <= distance]:
            if other != query:
                wanted += 1
                right += int(min(query, other)) * len(hashes) + int(max(query, other)) in keys
    return f"{right} of {wanted}"


def measure_groups(thumbnails: Thumbnails) -> None:
    start = time.perf_counter()
    hashes = hashes_of_thumbnails(thumbnails)
    found = near_duplicate_groups(hashes, thumbnails)
    seconds = time.perf_counter() - start
    labels = group_labels(found, len(hashes))
    planted = int(len(hashes) * PLANTED_SHARE)
    together = int((labels[:planted] == labels[len(hashes) - planted :]).sum())
    print(
        f"| groups, of thumbnails | {len(hashes):,} | {Matching().max_distance} | {seconds:.1f} "
        f"| {peak_megabytes():.0f} | {len(found.groups):,} groups | {together} of {planted} |",
        flush=True,
    )
    for note in found.notes:
        print(f"  ({note})")


def measure_table(options: argparse.Namespace) -> None:
    """Pairs that the groups join, against the pairs of one value of the column."""
    with options.data.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    given = np.unique([row[options.group_column] for row in rows], return_inverse=True)[1]
    paths = [options.data.parent / row["path"] for row in rows]
    images = (decode(read_picture(path), Preprocessing(), path.name) for path in paths)
    thumbnails = np.stack([np.frombuffer(thumbnail(image), np.uint8) for image in images])
    hashes = hashes_of_thumbnails(thumbnails)
    print(f"| {options.data.parent.name} | precision | recall | F1 | groups | largest | seconds |")
    print("|---|---|---|---|---|---|---|")
    runs = {
        "hash alone, distance 8": (HASH_ALONE, None),
        "hash and thumbnail": (Matching(), None),
    }
    if options.model:
        name = f"hash, thumbnail and {options.model}"
        runs[name] = (Matching(), backbone_features(paths, options.model, options.weights))
    for name, (matching, features) in runs.items():
        start = time.perf_counter()
        found = near_duplicate_groups(hashes, thumbnails, features=features, matching=matching)
        seconds = time.perf_counter() - start
        precision, recall = agreement(group_labels(found, len(rows)), given)
        score = 2 * precision * recall / (precision + recall)
        largest = max(map(len, found.groups), default=0)
        print(
            f"| {name} | {precision:.3f} | {recall:.3f} | {score:.3f} | {len(found.groups)} "
            f"| {largest} | {seconds:.2f} |",
            flush=True,
        )


def backbone_features(paths: list[Path], model: str, weights: str) -> npt.NDArray[np.float32]:
    """Pooled features of the whole pictures, squashed to the backbone's size: [N, F]."""
    import torch

    from taxon.models.backbones import create_backbone, preprocessing_of
    from taxon.models.weights import load_pretrained

    backbone, _ = load_pretrained(create_backbone(model), weights)
    spec = preprocessing_of(backbone.settings).model_copy(update={"resize": "squash"})
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (spec.mean, spec.std))
    module = backbone.module.eval()
    features = []
    with torch.inference_mode():
        for path in paths:
            pixels = torch.from_numpy(prepare(read_picture(path), spec, path.name)).float()
            features.append(module(((pixels - mean) / std)[None])[0].numpy())
    return np.stack(features)


def group_labels(found: NearDuplicates, count: int) -> npt.NDArray[np.int64]:
    """A number for each picture, the same within a group."""
    labels = np.arange(count) + len(found.groups)
    for number, group in enumerate(found.groups):
        labels[list(group)] = number
    return labels


def agreement(found: npt.NDArray[np.int64], given: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Precision and recall of the pairs that are joined."""
    upper = np.triu_indices(len(found), 1)
    joined = (found[:, None] == found)[upper]
    same = (given[:, None] == given)[upper]
    both = int((joined & same).sum())
    return both / max(1, int(joined.sum())), both / max(1, int(same.sum()))


def peak_megabytes() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
