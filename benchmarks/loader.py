"""Pictures per second: taxon's training loader beside torchvision's ImageFolder and DataLoader.

    python benchmarks/loader.py [--data DATA] [--pictures 40] [--rounds 5] [--train]

DATA has train/ with one folder a class. Beside it, 12-megapixel JPEGs are made in a temporary
folder. All take turns in one process, so that whatever else the machine does disturbs all
alike; the table gives the median of pictures per second over the rounds, the CPU time a picture
costs, and the median of the ratios to the rival within each round. The rival is ImageFolder with
0 or 2 workers, whichever has more pictures per second, with the same transforms.

With --train a small network takes a training step on each batch: what remains of the gain then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torchvision import datasets, models, transforms

from taxon.config import AugmentConfig, LoaderConfig
from taxon.core.cache import VARIABLE
from taxon.data import Manifest, load_manifest
from taxon.data.loading import loader as taxon_loader
from taxon.data.loading.decode_cache import DecodeCache, open_decode_cache
from taxon.data.loading.views import ViewMaker
from taxon.preprocessing import Preprocessing

BATCH_SIZE = 8  # of 40 large pictures: two workers can share the batches evenly
SPEC = Preprocessing()
AUGMENT = AugmentConfig()
RIVALS = {"ImageFolder, 0 workers": 0, "ImageFolder, 2 workers": 2}
PLACES = {"none": "no cache", "ram": "cache in memory", "disk": "cache on disk"}
Batches = Iterable[tuple[torch.Tensor, ...]]
Epoch = Callable[[int], Batches]


def rival(folder: Path, workers: int) -> Epoch:
    """The same random views as torchvision makes them."""
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                (SPEC.height, SPEC.width),
                scale=(AUGMENT.crop_scale, 1),
                ratio=(1 / AUGMENT.crop_ratio, AUGMENT.crop_ratio),
                interpolation=transforms.InterpolationMode.BICUBIC,
            ),
            transforms.RandomHorizontalFlip(AUGMENT.horizontal_flip),
            transforms.ColorJitter(*(AUGMENT.colour,) * 3),
            transforms.PILToTensor(),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(folder), view),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    if workers:
        next(iter(loader))  # processes are started before the time counts
    return lambda epoch: loader


def ours(manifest: Manifest, *, cache: str, dct: bool, ahead: int = 1) -> Epoch:
    """Our loader; a cache is filled in an epoch that does not count."""
    spec = SPEC.model_copy(update={"jpeg_dct_scaling": dct})
    kept = open_decode_cache(manifest.records, (), spec, AUGMENT, LoaderConfig(cache=cache))
    epoch = partial(_epoch, manifest, spec, kept, ahead)
    if kept is not None:
        for _ in epoch(0):
            pass
    return epoch


def _epoch(
    manifest: Manifest, spec: Preprocessing, kept: DecodeCache | None, ahead: int, number: int
) -> Batches:
    taxon_loader._BATCHES_AHEAD = ahead
    maker = ViewMaker(manifest.records, spec, AUGMENT, seed=0, cache=kept)
    return taxon_loader.training_batches(manifest, maker, batch_size=BATCH_SIZE, epoch=number)


def network() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A training step of MobileNetV3-Small."""
    model = models.mobilenet_v3_small(num_classes=10).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        inputs = images.to(memory_format=torch.channels_last).float() / 255
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def measure(
    batches: Batches, step: Callable[[torch.Tensor, torch.Tensor], None] | None
) -> tuple[float, float]:
    """Return pictures per second, and CPU milliseconds a picture."""
    start, cpu, count = time.perf_counter(), cpu_seconds(), 0
    for batch in batches:
        count += len(batch[0])
        if step is not None:
            step(batch[0], batch[1])
    seconds = time.perf_counter() - start
    return count / seconds, 1000 * (cpu_seconds() - cpu) / count


def cpu_seconds() -> float:
    """CPU time of this process and of its children so far."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(used.user + used.system for used in times)


def compare(title: str, arms: dict[str, Epoch], rounds: int, *, train: bool) -> None:
    """Print the table of one data set."""
    step = network() if train else None
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for number in range(1, rounds + 1):
        for name, epoch in arms.items():
            found[name].append(measure(epoch(number), step))
    speeds = {name: [speed for speed, _ in rows] for name, rows in found.items()}
    best = max(RIVALS, key=lambda name: statistics.median(speeds[name]))
    print(f"\n{title}, median of {rounds}\n")
    print("| | pictures per second | CPU ms a picture | ratio to the rival (range) |")
    print("|---|---|---|---|")
    for name, rows in found.items():
        ratios = [speed / other for speed, other in zip(speeds[name], speeds[best], strict=True)]
        print(
            f"| {name} | {statistics.median(speeds[name]):.0f} "
            f"| {statistics.median(cost for _, cost in rows):.2f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |",
            flush=True,
        )


def arms_for(folder: Path, manifest: Manifest, *, train: bool) -> dict[str, Epoch]:
    """The contestants, caches filled."""
    arms = {name: rival(folder, workers) for name, workers in RIVALS.items()}
    for dct in (False,) if train else (False, True):
        words = "taxon, DCT-scaled" if dct else "taxon, full decoding"
        for cache, where in PLACES.items():
            arms[f"{words}, {where}"] = ours(manifest, cache=cache, dct=dct)
            if train:
                arms[f"{words}, {where}, nothing ahead"] = ours(
                    manifest, cache=cache, dct=dct, ahead=0
                )
    return arms


def make_large_pictures(root: Path, count: int) -> None:
    """Write 12-megapixel JPEGs of quality 90: soft shapes of many sizes, a gradient, and grain."""
    rng = np.random.default_rng(0)
    size = (4000, 3000)
    gradient = np.linspace(-40, 40, size[0], dtype=np.float32)[None, :, None]
    for number in range(count):
        pixels = np.full((size[1], size[0], 3), 110, dtype=np.float32) + gradient
        for cells in (4, 16, 64, 256):
            noise = rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8)
            shapes = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
            pixels += (np.asarray(shapes, dtype=np.float32) - 128) * (0.9 / cells**0.3)
        pixels += rng.normal(0, 4, pixels.shape[:2]).astype(np.float32)[..., None]
        path = root / f"class{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=int, default=40, help="of 12 megapixels; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ[VARIABLE] = str(Path(name) / "cache")
        folders = {}
        if options.data is not None:
            folders[options.data.name] = options.data / "train"
        if options.pictures:
            folders["12-megapixel JPEGs"] = Path(name) / "large"
            make_large_pictures(folders["12-megapixel JPEGs"], options.pictures)
        for title, folder in folders.items():
            arms = arms_for(folder, load_manifest(folder), train=options.train)
            compare(title, arms, options.rounds, train=options.train)


if __name__ == "__main__":
    main()
