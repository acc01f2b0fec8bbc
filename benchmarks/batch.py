"""Many pictures: the local and the Ray engine beside a plain loop and a naive Ray Data script.

    python benchmarks/batch.py RUN --work FOLDER --pictures 20000

RUN is a model folder that crops (`preprocessing.resize=crop`). The pictures are made once, of the
sample data, in several sizes. Each contender is a process of its own; they take turns over shares
of the pictures. The memory is that of the process with all that it started, shared pages once
(PSS). Prints Markdown for RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
from PIL import Image

from taxon.core.machine import machine, machine_sentence
from taxon.data.samples import generate_samples

SIDES = (160, 224, 400, 640, 1024)  # pixels, of the pictures
CONTENDERS = ("plain", "local", "naive-ray", "ray")
WORDS = {
    "plain": "a plain ONNX Runtime loop",
    "naive-ray": "a naive Ray Data script",
    "local": "`taxon predict --format parts`",
    "ray": "`taxon predict --engine ray`",
}
SAMPLED = 0.5  # seconds between two looks at the memory
MILLIONS = 50


@dataclass
class Measured:
    """What a contender took, share by share.

    Attributes:
        seconds: of the whole process, its start and end included.
        working: without what it takes to start (as the contender says it).
        memory: bytes, twice a second, of all shares.
        steady: pictures a second from the first part to the last; of our engines.
    """

    seconds: list[float] = field(default_factory=list)
    working: list[float] = field(default_factory=list)
    memory: list[list[int]] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--shares", type=int, default=2, help="turns")
    parser.add_argument("--only", help="one contender on one folder; used by this script itself")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.only:
        from batch_rivals import RIVALS

        print(json.dumps({"working": RIVALS[arguments.only](arguments.run, arguments.work)}))
        return
    shares = make_pictures(arguments.work, arguments.pictures, arguments.shares)
    found = {name: Measured() for name in CONTENDERS}
    for turn, share in enumerate(shares):
        for name in CONTENDERS[turn % 2 :] + CONTENDERS[: turn % 2]:
            measure(name, arguments.run, share, arguments.work / f"out-{name}", found[name])
            print(f"# {name}, share {turn + 1}: {found[name].seconds[-1]:.1f} s", flush=True)
    require_same(arguments.work)
    report(found, arguments.pictures)


def make_pictures(work: Path, count: int, shares: int) -> list[Path]:
    """JPEG files of several sizes, in so many folders; kept for the next time."""
    root = work / f"pictures-{count}-{shares}"
    folders = [root / f"share-{number}" for number in range(shares)]
    if (root / "done").is_file():
        return folders
    shutil.rmtree(root, ignore_errors=True)
    generate_samples("defects", work / "samples", size=320, count=600, overwrite=True)
    bases = sorted((work / "samples").rglob("*.jpg"))
    for number in range(count):
        folder = folders[number % shares]
        folder.mkdir(parents=True, exist_ok=True)
        side = SIDES[number % len(SIDES)]
        base = bases[number % len(bases)]
        made = root / f"{base.stem}-{side}.jpg"
        if not made.is_file():
            with Image.open(base) as image:
                image.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(made, quality=88)
        shutil.copyfile(made, folder / f"{number:06d}.jpg")  # a file of its own on the disk
    (root / "done").touch()
    return folders


def measure(name: str, run: Path, pictures: Path, out: Path, found: Measured) -> None:
    """Run a contender over a folder."""
    shutil.rmtree(out, ignore_errors=True)
    if name in ("local", "ray"):
        command = [sys.executable, "-m", "taxon", "predict", str(run), str(pictures)]
        command += ["--format", "parts", "--engine", name, "--out", str(out)]
    else:
        command = [sys.executable, __file__, str(run), "--work", str(pictures), "--only", name]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory: list[int] = []
    watcher = threading.Thread(target=watch, args=(process.pid, memory))
    watcher.start()
    stdout, stderr = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{name} failed: {stderr[-2000:]}")
    if name in ("local", "ray"):
        found.steady.append(steady_rate(out))
        working = float(json.loads((out / "_summary.json").read_text())["seconds"])
    else:
        working = float(json.loads(stdout.splitlines()[-1])["working"])
    found.seconds.append(seconds)
    found.working.append(working)
    found.memory.append(memory)


def steady_rate(out: Path) -> float:
    """Pictures a second from the first part that was written to the last one."""
    parts = sorted(out.glob("part-*.parquet"))
    rows = sum(pq.read_metadata(part).num_rows for part in parts[1:])
    return rows / (parts[-1].stat().st_mtime - parts[0].stat().st_mtime)


def watch(process_id: int, memory: list[int]) -> None:
    """Note the memory of a process and all that it started, until it ends."""
    root = psutil.Process(process_id)
    while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
        total = 0
        for each in [root, *children(root)]:
            try:
                total += each.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended meanwhile
        memory.append(total)
        time.sleep(SAMPLED)


def children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def require_same(work: Path) -> None:
    """Both engines wrote the same bytes."""
    for part in sorted((work / "out-local").glob("part-*.parquet")):
        if part.read_bytes() != (work / "out-ray" / part.name).read_bytes():
            sys.exit(f"{part.name} differs between the engines")


def report(found: dict[str, Measured], count: int) -> None:
    print(f"\n{machine_sentence(machine())}; {count:,} pictures of {SIDES} pixels\n")
    print("| | pictures/s, all | pictures/s, working | of the loop | MB, median | MB, peak |")
    print("|---|---:|---:|---:|---:|---:|")
    loop = sum(found["plain"].working)
    for name, each in found.items():
        memory = np.array([sample for share in each.memory for sample in share]) / 2**20
        print(
            f"| {WORDS[name]} | {count / sum(each.seconds):.0f} | "
            f"{count / sum(each.working):.0f} | {loop / sum(each.working):.2f} | "
            f"{np.median(memory):.0f} | {memory.max():.0f} |"
        )
    ratios = [
        ray / local for ray, local in zip(found["ray"].working, found["local"].working, strict=True)
    ]
    for name in ("local", "ray"):
        rates = ", ".join(f"{rate:.0f}" for rate in found[name].steady)
        print(f"\nFrom the first part to the last, {WORDS[name]}: {rates} pictures/s")
    print(f"\nRay beside local, working, share by share: {', '.join(f'{r:.2f}' for r in ratios)}")
    print("\nMemory in MB over the first share, a figure a tenth of the time:")
    for name, each in found.items():
        print(f"- {WORDS[name]}: {', '.join(map(str, tenths(each.memory[0])))}")
    plan(float(np.mean(found["local"].steady)), float(np.mean(found["ray"].steady)))


def tenths(memory: Sequence[int]) -> list[int]:
    positions = np.linspace(0, len(memory) - 1, 11)[1:].round().astype(int)
    return [round(memory[position] / 2**20) for position in positions]


def plan(local: float, ray: float) -> None:
    """What so many pictures take, from the measured rate of a core."""
    cores = int(machine()["cores"])
    each = ray / cores
    print(
        f"\n{MILLIONS} million pictures at {each:.0f} a second and core (measured with Ray on "
        f"{cores}; the local engine: {local / cores:.0f}), if disks and network keep up:\n"
    )
    print("| cores | hours |")
    print("|---:|---:|")
    for count in (cores, 16, 64, 256, 1024):
        print(f"| {count} | {MILLIONS * 1e6 / (each * count) / 3600:.1f} |")


if __name__ == "__main__":
    main()
