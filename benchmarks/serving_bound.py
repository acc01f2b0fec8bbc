"""What a model costs without a server, for `benchmarks/serving.py`: prints one JSON object.

    python benchmarks/serving_bound.py RUN --pictures FOLDER --seconds 3

The session has ONNX Runtime's own settings; its threads may spin while they wait. The physical
limit is measured and not computed: as many processes as there are cores, each with one thread,
decode, resize and compute in a closed loop, with nothing between them and no network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from taxon.bundle import read_bundle
from taxon.core.cores import available_cores
from taxon.preprocessing import Preprocessing, prepare

BATCHES = (1, 2, 4, 8, 16)
Session = Callable[[np.ndarray], object]
PICTURES = 64


def pictures_of(folder: Path) -> list[bytes]:
    """Some real pictures."""
    files = sorted(folder.rglob("*.jp*g"))
    return [file.read_bytes() for file in files[:: max(1, len(files) // PICTURES)]]


def alone(run: Path, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """One picture after the other, the session on all cores: medians in milliseconds."""
    spec, session = _open(run, available_cores())
    prepared, computed = [], []
    end = time.perf_counter() + seconds
    for data in itertools.cycle(pictures):
        begun = time.perf_counter()
        image = prepare(data, spec)
        between = time.perf_counter()
        session(image[None])
        ended = time.perf_counter()
        prepared.append(between - begun)
        computed.append(ended - between)
        if ended > end:
            break
    both = np.array(prepared) + np.array(computed)
    return {
        "prepare_ms": _milliseconds(prepared),
        "session_ms": _milliseconds(computed),
        "together_ms": _milliseconds(list(both)),
    }


def batches(run: Path, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """Milliseconds a picture of the session on all cores, by batch size; the sizes take turns."""
    spec, session = _open(run, available_cores())
    image = prepare(pictures[0], spec)
    found: dict[int, list[float]] = {size: [] for size in BATCHES}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not found[BATCHES[0]]:
        for size in BATCHES:
            batch = np.stack([image] * size)
            begun = time.perf_counter()
            session(batch)
            found[size].append((time.perf_counter() - begun) / size)
    return {str(size): _milliseconds(times) for size, times in found.items()}


def all_cores(run: Path, folder: Path, batch: int, seconds: float, *, decode: bool) -> float:
    """Pictures a second of one single-threaded process a core."""
    options = ["--worker", str(batch), "--pictures", folder, "--seconds", str(seconds)]
    command = [sys.executable, __file__, run, *options, *(["--decode"] if decode else [])]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(available_cores())
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes)


def worker(run: Path, pictures: list[bytes], batch: int, seconds: float, *, decode: bool) -> float:
    """Pictures a second of this process, on one thread."""
    spec, session = _open(run, 1)
    endless = itertools.cycle(pictures)
    ready = np.stack([prepare(pictures[0], spec)] * batch)
    session(ready)
    print("ready", flush=True)
    sys.stdin.readline()
    count, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        images = np.stack(list(_prepared(endless, batch, spec))) if decode else ready
        session(images)
        count += batch
    return count / (now - begun)


def _prepared(
    pictures: Iterator[bytes], count: int, spec: Preprocessing
) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return (prepare(data, spec) for data in itertools.islice(pictures, count))


def _open(run: Path, threads: int) -> tuple[Preprocessing, Session]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    file = run / "artefacts" / "onnx" / "model.onnx"
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return read_bundle(run).spec.preprocessing, lambda images: session.run(None, {"images": images})


def _milliseconds(seconds: list[float]) -> float:
    return round(1000 * float(np.median(seconds)), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each of twelve parts")
    parser.add_argument("--worker", type=int, help="be one of the processes, with this batch")
    parser.add_argument("--decode", action="store_true")
    given = parser.parse_args()
    run, seconds = given.run, given.seconds
    pictures = pictures_of(given.pictures)
    if given.worker is not None:
        print(worker(run, pictures, given.worker, seconds, decode=given.decode))
        return
    found: dict[str, object] = {
        "alone": alone(run, pictures, seconds),
        "batches_ms": batches(run, pictures, seconds),
    }
    for name, decode in (("limit", True), ("session_limit", False)):
        found[name] = {
            str(size): round(all_cores(run, given.pictures, size, seconds, decode=decode), 1)
            for size in BATCHES
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
