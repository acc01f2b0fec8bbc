"""Benchmark: how fast models answer on this machine, in each format, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from taxon.benchmarking import Absent, Benchmark, Subject
from taxon.benchmarking.contenders import Contender, find_formats
from taxon.benchmarking.measure import measure
from taxon.benchmarking.memory import FirstRun, first_run, interpreter_memory
from taxon.benchmarking.result import BENCHMARK_FILE, CHART_FILE
from taxon.bundle.artefact import read_info
from taxon.bundle.hub import is_hub_name, local_folder
from taxon.core.cores import available_cores
from taxon.core.errors import ConfigError
from taxon.core.files import atomic_folder, require_free, require_writable, write_json, write_text
from taxon.core.machine import machine
from taxon.core.versions import versions
from taxon.models.stack import require_torch_stack

FORMATS = (
    "pytorch",
    "torch.compile",
    "onnx",
    "onnx-fp16",
    "onnx-int8",
    "openvino",
    "openvino-fp16",
    "openvino-int8",
    "tflite",
)
BATCHES = (1, 8, 32)
SECONDS = 2.0
LARGEST_BATCH, MOST_THREADS, LONGEST = 1024, 1024, 3600


def benchmark(
    models: str | Path | Sequence[str | Path],
    formats: Sequence[str] = FORMATS,
    *,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] | None = None,
    seconds: float = SECONDS,
    out: str | Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Benchmark:
    """Measure latency, throughput and peak memory of models on this machine's processor.

    All contenders of a setting take turns, so that a busy moment hits all of them. A format of
    which a model folder has no fresh artefact is exported into a temporary folder first.

    Args:
        models: model folders, `hf:user/name[@revision]`, or names of backbones, which get random
            weights and ten classes.
        formats: `pytorch`, `torch.compile` and those of `taxon.exporters.FORMATS` that run here.
        batches: pictures a call.
        threads: that compute a call; None: one, and one a core.
        seconds: of each contender in each setting, about; at least three calls.
        out: a folder that gets benchmark.json and benchmark.svg; None: nothing is written.
        tell: is told what is done now.

    Returns:
        The figures, and why what is missing is missing.

    Raises:
        ConfigError: an unknown format or backbone, or an impossible number.
        BundleError: a model folder is damaged, or there is none.
        OutputError: `out` cannot be written, or holds something else.
    """
    words = [str(each) for each in ([models] if isinstance(models, str | Path) else models)]
    if not words:
        raise ConfigError("benchmark what? Name model folders or backbones (`taxon models`)")
    wanted = find_formats(formats)
    sizes = _numbers("--batch", batches, LARGEST_BATCH)
    counts = _numbers("--threads", threads or (1, available_cores()), MOST_THREADS)
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"--seconds is more than 0 and at most {LONGEST:,}, not {seconds}")
    target = None if out is None else Path(out)
    if target is not None:
        require_free(target, replace_if=BENCHMARK_FILE, ours=_is_ours)
        require_writable(target)
    require_torch_stack()
    at_hand = [_at_hand(word, wanted) for word in dict.fromkeys(words)]
    found = _measure_all(at_hand, wanted, sizes, counts, seconds, tell or _nothing)
    if target is not None:
        _write(found, target)
    return found


def _at_hand(word: str, formats: tuple[str, ...]) -> str:
    """The path of the snapshot in place of `hf:`, with the artefacts that are there."""
    return str(local_folder(word, formats)) if is_hub_name(word) else word


def _measure_all(
    models: list[str],
    formats: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    seconds: float,
    tell: Callable[[str], None],
) -> Benchmark:
    # Imported here: exporters load torch's.
    from taxon.api.contending import gather

    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        field = gather(models, formats, Path(temporary), tell)
        first: dict[Contender, FirstRun] = {}
        for contender in field.contenders:
            tell(f"{contender.label}: a first run, in a process of its own")
            first[contender] = first_run(contender, batches, max(threads))
        timed = measure(list(field.contenders), first, batches, threads, seconds, tell)
        return Benchmark(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(),
            versions=versions(),
            seconds=seconds,
            batches=batches,
            threads=threads,
            interpreter_memory=interpreter_memory(),
            subjects=tuple(
                _subject(contender, source, first[contender])
                for contender, source in field.contenders.items()
                if first[contender].peaks
            ),
            measurements=tuple(timed),
            absent=(*field.absent, *_failures(first)),
            notes=tuple(field.notes),
        )


def _subject(contender: Contender, source: str, run: FirstRun) -> Subject:
    artefact = contender.artefact
    return Subject(
        model=contender.model,
        format=contender.format,
        source=source,
        size=None if artefact is None else read_info(artefact).size,
        peak_memory={batch: peak for batch, peak in run.peaks.items() if peak is not None},
    )


def _failures(runs: dict[Contender, FirstRun]) -> list[Absent]:
    """What could not be computed, in a line a contender where it is nothing at all."""
    found: list[Absent] = []
    for contender, run in runs.items():
        for batch, reason in run.failures.items():
            size = batch if run.peaks else None
            absent = Absent(
                model=contender.model, format=contender.format, batch=size, reason=reason
            )
            if absent not in found:
                found.append(absent)
    return found


def _numbers(option: str, values: Sequence[int], most: int) -> tuple[int, ...]:
    wrong = next((value for value in values if not 1 <= value <= most), None)
    if wrong is not None or not values:
        raise ConfigError(f"{option} takes whole numbers from 1 to {most:,}, not {wrong}")
    return tuple(sorted(set(values)))


def _is_ours(name: str) -> bool:
    return name in (BENCHMARK_FILE, CHART_FILE)


def _write(found: Benchmark, folder: Path) -> None:
    from taxon.benchmarking.chart import benchmark_chart

    with atomic_folder(folder, replace_if=BENCHMARK_FILE) as temporary:
        write_json(temporary / BENCHMARK_FILE, found.model_dump(mode="json"))
        write_text(temporary / CHART_FILE, benchmark_chart(found))


def _nothing(_: str) -> None:
    """Tell nobody."""
