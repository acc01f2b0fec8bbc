"""`python3 classify.pyz PICTURE...`: the answers of an artefact that lies beside it."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taxon.core.errors import BundleError, CheckFailed, DataError, ImageError, TaxonError
from taxon.core.fingerprint import sha256_bytes
from taxon.core.predictions import ImageBatch
from taxon.exporters.shipped.host import Host, failure
from taxon.exporters.shipped.runtimes import Arrays, open_graph
from taxon.preprocessing.decode import read_picture

ARTEFACT_FILE = "artefact.json"
ARTEFACT_VERSION = 2  # of `taxon.bundle.artefact`, which needs more than is here
WARM_UP = 3
ROUNDS = 50


class Runner:
    """An artefact that is ready to answer.

    Args:
        folder: where artefact.json lies.

    Raises:
        BundleError: it is absent, damaged or altered.
        MissingDependencyError: the runtime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / ARTEFACT_FILE
        try:
            info = json.loads(file.read_bytes())
            if info["format_version"] != ARTEFACT_VERSION:
                raise ValueError(f"format version {info['format_version']}")
            self.host = Host(info["spec"], info["frame"] and tuple(info["frame"]))
            model, hashes = folder / info["file"], info["files"]
            if info["file"] not in hashes:
                raise ValueError(f"no sha256 of {info['file']}")
            if not all(report["passed"] for report in info["parity"]):
                raise ValueError("it was rejected when it was exported")
            intact = all(
                sha256_bytes((folder / name).read_bytes()) == expected
                for name, expected in hashes.items()
            )
        except OSError as error:
            raise BundleError(
                f"cannot read {error.filename}: {error.strerror}; the runner lies beside an "
                "artefact and its artefact.json: copy the whole folder"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{file} is damaged or of another version: {error}") from error
        if not intact:
            raise BundleError(
                f"{model} does not have the sha256 that {ARTEFACT_FILE} states; copy it again"
            )
        self.graph = open_graph(model)

    def prepare(self, path: Path) -> ImageBatch:
        """Read a picture for the graph, uint8 [3, H, W].

        Raises:
            ImageError: it cannot be read, or is not of the size that the graph takes.
        """
        return self.host.prepare(read_picture(path), str(path))

    def run(self, image: ImageBatch) -> Arrays:
        """Compute one prepared picture."""
        return self.graph.run(image)

    def answer(self, name: str, outputs: Arrays, top: int = 5) -> dict[str, Any]:
        """Decide."""
        scope = float(outputs["scope"].item()) if "scope" in outputs else None
        return self.host.answer(name, outputs["probabilities"][0], scope, top)

    def predict(self, paths: Sequence[Path], top: int) -> Iterator[dict[str, Any]]:
        """Answer for each picture, in order; one that cannot be read has an `error`."""
        for path in paths:
            # A name that is no UTF-8 cannot be printed; its odd bytes are escaped.
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            try:
                image = self.prepare(path)
            except ImageError as error:
                yield failure(name, error.reason)
            else:
                yield self.answer(name, self.run(image), top)

    def measure(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Time what is done for a picture, one after the other, `ROUNDS` times in all at least.

        Raises:
            DataError: none of the pictures can be read.
        """
        readable = [path for path in paths if self._is_readable(path)]
        if not readable:
            raise DataError("none of the pictures can be read: nothing to time")
        times = []
        for number in range(WARM_UP + max(ROUNDS, len(readable))):
            path = readable[number % len(readable)]
            stamps = [time.perf_counter()]
            image = self.prepare(path)
            stamps.append(time.perf_counter())
            outputs = self.run(image)
            stamps.append(time.perf_counter())
            self.answer(str(path), outputs)
            stamps.append(time.perf_counter())
            times.append(np.diff(stamps))
        parts = 1000 * np.array(times[WARM_UP:]).T
        steps = zip(("prepare", "graph", "decide"), parts, strict=True)
        total = ("total", parts.sum(axis=0))
        return {
            "runtime": self.graph.name,
            "pictures": len(readable),
            "rounds": parts.shape[1],
            **{
                f"{name}_ms": {
                    f"p{level}": round(float(np.percentile(values, level)), 3) for level in (50, 95)
                }
                for name, values in (*steps, total)
            },
        }

    def _is_readable(self, path: Path) -> bool:
        try:
            self.prepare(path)
        except ImageError:
            return False
        return True


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Answer for the pictures of a command line.

    Args:
        folder: where the artefact lies.

    Returns:
        0; 2 where it cannot start, 3 where a picture could not be read.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        _run(Runner(folder), options)
    except TaxonError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(runner: Runner, options: argparse.Namespace) -> None:
    if options.benchmark:
        _print(runner.measure(options.pictures))
        return
    failed = 0
    for prediction in runner.predict(options.pictures, options.top):
        _print(prediction)
        failed += prediction["error"] is not None
    if failed:
        raise CheckFailed(f"{failed} of {len(options.pictures)} pictures could not be read")


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="classify.pyz",
        description="Name the class of pictures: one line of JSON each, as `taxon predict --format "
        "jsonl` writes it. One that cannot be read has an error in its line, and the command ends "
        "with 3.",
    )
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    parser.add_argument("--top", type=_count, default=5, help="classes to list (5)")
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="time the pictures; print milliseconds, not answers",
    )
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {value}")
    return value
