"""Pictures a second on a GPU: backbones beside a plain PyTorch loop, both in bf16.

    python benchmarks/gpu.py --data clothing10/labels.csv [--model efficientnet_b0 ...] \
        [--batch-size 64] [--epochs 3] [--pictures 2000] [--compile] [--out gpu.jsonl]

All blocks train, at the backbone's own input size and from random weights: speed does not depend
on them. Both figures are of the median epoch after the first, loading, augmentation and the
optimiser included; the loop is `plain_loop.py`'s last stage with autocast and 8 workers.
`--compile` measures ours again with torch.compile. The training part is copied so many times that
an epoch has enough of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from plain_loop import Pictures
from taxon.api.fine_tuning import imbalance_plan
from taxon.api.starting import choose_start
from taxon.config import load_config
from taxon.data import Columns, Manifest, load_manifest
from taxon.models import Classifier
from taxon.models.zoo import resolve
from taxon.training import silent
from taxon.training.device import build_accelerator
from taxon.training.job import TrainingJob
from taxon.training.trainer import fit

CHARTER = (
    "efficientnet_b0",
    "efficientnet_b4",
    "efficientnet_b7",
    "convnext_tiny",
    "vit_base_patch16_224",
    "mobilenetv3_large_100",
    "efficientnet_lite0",
)


def copy(part: Manifest, pictures: int, folder: Path) -> None:
    """Write a folder of classes with enough copies of each picture."""
    for record in part.records:
        target = folder / record.labels[0]
        target.mkdir(parents=True, exist_ok=True)
        for number in range(-(-pictures // len(part))):
            shutil.copy(record.path, target / f"{number}-{record.path.name}")


def ours(
    train: Manifest, model: str, batch_size: int, epochs: int, compiled: bool
) -> tuple[float, int]:
    """Seconds of an epoch of ours, and MiB of the device's memory at the peak."""
    torch.cuda.reset_peak_memory_stats()
    config = load_config(
        "scratch",
        options={"model": model, "weights": "none", "batch_size": batch_size, "epochs": epochs},
        overrides=["device=cuda", f"compile={str(compiled).lower()}"],
    )
    start = choose_start(config, Path(), silent)
    job = TrainingJob(
        classifier=Classifier(
            start.backbone, config.head, len(train.label_space.names), config.chosen_pooling
        ),
        train=train,
        validation=replace(train, records=()),
        preprocessing=start.preprocessing,
        config=config,
        imbalance=imbalance_plan(config, train),
        accelerator=build_accelerator(start.device, config),
        listener=silent,
    )
    history = fit(job).history
    seconds = statistics.median(row["seconds"] for row in history[1:])
    return seconds, torch.cuda.max_memory_allocated() >> 20


def rival(train: Manifest, model: str, batch_size: int, epochs: int) -> float:
    """Seconds of an epoch of the loop: the median of those after the first."""
    network = timm.create_model(resolve(model), num_classes=len(train.label_space.names))
    size = network.default_cfg["input_size"][-1]
    views = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(network.default_cfg["mean"], network.default_cfg["std"]),
        ]
    )
    loader = DataLoader(
        Pictures(train, views), batch_size, shuffle=True, num_workers=8, pin_memory=True
    )
    network = network.to("cuda", memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    criterion = nn.CrossEntropyLoss()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for images, targets in loader:
            moved = images.to("cuda", memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = criterion(network(moved), targets.to("cuda", non_blocking=True))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", dest="models")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--pictures", type=int, default=2000, help="of an epoch, at least")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    options = parser.parse_args()
    part = load_manifest(options.data, Columns()).part("train")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pictures"
        copy(part, options.pictures, data)
        train = load_manifest(data, Columns())
        print(f"{torch.cuda.get_device_name()}, {len(train)} pictures an epoch", flush=True)
        for model in options.models or CHARTER:
            arguments = (train, model, options.batch_size, options.epochs)
            line: dict[str, str | int] = {"model": model}
            line["loop"] = round(len(train) / rival(*arguments))
            seconds, line["MiB"] = ours(*arguments, False)
            line["ours"] = round(len(train) / seconds)
            if options.compile:
                line["compiled"] = round(len(train) / ours(*arguments, True)[0])
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
