"""Peak memory: each contender runs once in a process of its own, which says what it held.

    python -m taxon.benchmarking.memory REQUEST

The request and the answer are JSON. It also finds out what cannot run at all, before anything is
timed: what crashes there, crashes nothing here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxon.benchmarking.contenders import Contender, open_contender
from taxon.benchmarking.pictures import noise
from taxon.bundle import read_bundle
from taxon.core.errors import reason_of
from taxon.core.memory import peak_memory

_EMPTY = "from taxon.core.memory import peak_memory; print(peak_memory() or '')"


@dataclass(frozen=True)
class FirstRun:
    """How a contender ran in a process of its own.

    Attributes:
        peaks: bytes held at most by batch size; None where the system does not tell. Batch sizes
            that could not be computed are not in it.
        failures: batch size -> why not.
    """

    peaks: dict[int, int | None]
    failures: dict[int, str]


def first_run(contender: Contender, batches: Sequence[int], threads: int) -> FirstRun:
    """Load a contender in a process of its own and run each batch size there, smallest first."""
    request = {
        "model": contender.model,
        "format": contender.format,
        "bundle": str(contender.bundle),
        "artefact": None if contender.artefact is None else str(contender.artefact),
        "batches": sorted(batches),
        "threads": threads,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taxon.benchmarking.memory", json.dumps(request)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or [""]
        reason = f"its process ended with {done.returncode}: {words[0]}".rstrip(": ")
        return FirstRun({}, dict.fromkeys(batches, reason))
    answer = json.loads(done.stdout.splitlines()[-1])  # converters may say something before
    return FirstRun(
        {int(batch): peak for batch, peak in answer["peaks"].items()},
        {int(batch): reason for batch, reason in answer["failures"].items()},
    )


def interpreter_memory() -> int | None:
    """Bytes that an empty Python holds at most; None where the system does not tell."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _EMPTY], capture_output=True, text=True, check=True
    )
    return int(done.stdout) if done.stdout.strip() else None


def _measure(
    contender: Contender, batches: Sequence[int], threads: int
) -> tuple[dict[int, int | None], dict[int, str]]:
    peaks: dict[int, int | None] = {}
    failures: dict[int, str] = {}
    try:
        backend = open_contender(contender, threads)
        preprocessing = read_bundle(contender.bundle).spec.preprocessing
    except Exception as error:  # runtimes raise what they like; it is what was to be found out
        return {}, dict.fromkeys(batches, reason_of(error))
    for batch in batches:
        try:
            backend.run(noise(batch, preprocessing))
        except Exception as error:  # the same
            failures[batch] = reason_of(error)
        else:
            peaks[batch] = peak_memory()
    return peaks, failures


def _answer(request: dict[str, object]) -> None:
    batches, threads, artefact = request["batches"], request["threads"], request["artefact"]
    assert isinstance(batches, list)
    assert isinstance(threads, int)
    contender = Contender(
        str(request["model"]),
        str(request["format"]),
        Path(str(request["bundle"])),
        None if artefact is None else Path(str(artefact)),
    )
    peaks, failures = _measure(contender, batches, threads)
    sys.stdout.write("\n" + json.dumps({"peaks": peaks, "failures": failures}) + "\n")


if __name__ == "__main__":
    _answer(json.loads(sys.argv[1]))
