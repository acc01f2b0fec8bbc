"""What a benchmark finds: the content of benchmark.json."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
BENCHMARK_FILE = "benchmark.json"
CHART_FILE = "benchmark.svg"


class Measurement(BaseModel):
    """How fast one format of one model answered, with one number of threads, in one batch size.

    Attributes:
        model, format: what was timed.
        threads: that computed a batch.
        batch: pictures a call.
        calls: how many were timed.
        p50_ms, p95_ms: milliseconds a call, median and 95th percentile.
        pictures_per_second: by the median.
        ratio: time by that of the same model's `onnx`, in the median of calls in turn; below 1 it
            is faster; None where that was not timed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    format: str
    threads: int
    batch: int
    calls: int
    p50_ms: float
    p95_ms: float
    pictures_per_second: float
    ratio: float | None


class Subject(BaseModel):
    """One model in one format.

    Attributes:
        source: where what was timed came from, in words.
        size: bytes of the artefact; None for what runs from the model folder itself.
        peak_memory: bytes (resident) that a process of its own held at most, once it had answered
            a batch of so many pictures and all smaller ones; empty where the system does not tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    format: str
    source: str
    size: int | None
    peak_memory: dict[int, int]


class Absent(BaseModel):
    """What was asked for and not timed.

    Attributes:
        batch: None: in no batch size.
        reason: in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    format: str
    batch: int | None = None
    reason: str


class Benchmark(BaseModel):
    """The content of benchmark.json.

    Attributes:
        created: ISO 8601 time in UTC.
        machine, versions: where, and with what, it was measured.
        seconds: of each contender in each setting of threads and batch, about.
        batches, threads: what was asked for.
        interpreter_memory: bytes that an empty Python holds, to compare `peak_memory` with.
        notes: what a reader must know, in sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    created: str
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    interpreter_memory: int | None
    subjects: tuple[Subject, ...]
    measurements: tuple[Measurement, ...]
    absent: tuple[Absent, ...]
    notes: tuple[str, ...] = ()

    def measured_with(self, threads: int, batch: int) -> list[Measurement]:
        """Return what was measured in one setting, in the order of the contenders."""
        return [
            each for each in self.measurements if (each.threads, each.batch) == (threads, batch)
        ]
