"""Time contenders side by side: within a setting of threads and batch they take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from taxon.benchmarking.contenders import ONNX, Contender, open_contender
from taxon.benchmarking.memory import FirstRun
from taxon.benchmarking.pictures import noise
from taxon.benchmarking.result import Measurement
from taxon.bundle import read_bundle
from taxon.core.text import counted
from taxon.inference.timing import take_turns


def measure(
    contenders: Sequence[Contender],
    first_runs: Mapping[Contender, FirstRun],
    batches: Sequence[int],
    threads: Sequence[int],
    seconds: float,
    tell: Callable[[str], None],
) -> list[Measurement]:
    """Time all contenders in every setting.

    Args:
        first_runs: what each could compute in a process of its own; the rest is left out.
        seconds: of each contender in each setting, about; three rounds at least.
        tell: is told what is measured now.
    """
    able = [contender for contender in contenders if first_runs[contender].peaks]
    shapes = {each: read_bundle(each.bundle).spec.preprocessing for each in able}
    found: list[Measurement] = []
    for count in threads if able else ():
        backends = {contender: open_contender(contender, count) for contender in able}
        if any(contender.artefact is None for contender in able):
            import torch

            torch.set_num_threads(count)  # an artefact's runtime may have changed it
        for batch in batches:
            calls = {
                each: partial(backends[each].run, noise(batch, shapes[each]))
                for each in able
                if batch in first_runs[each].peaks
            }
            if not calls:
                continue
            tell(f"{_setting(count, batch)}: {counted(len(calls), 'contender', 'contenders')}")
            times = take_turns(
                {each.label: call for each, call in calls.items()},
                seconds=seconds * len(calls),
            )
            found += [_summary(each, count, batch, times) for each in calls]
    return found


def _setting(threads: int, batch: int) -> str:
    return f"{counted(threads, 'thread', 'threads')}, batch {batch}"


def _summary(
    contender: Contender,
    threads: int,
    batch: int,
    times: Mapping[str, npt.NDArray[np.float64]],
) -> Measurement:
    """What the calls of one contender say; its model's ONNX took turns with it."""
    own = times[contender.label]
    rival = times.get(f"{contender.model} {ONNX}")
    median = float(np.median(own))
    return Measurement(
        model=contender.model,
        format=contender.format,
        threads=threads,
        batch=batch,
        calls=len(own),
        p50_ms=round(median, 3),
        p95_ms=round(float(np.percentile(own, 95)), 3),
        pictures_per_second=round(1000 * batch / median, 2),
        ratio=None if rival is None else round(median / float(np.median(rival)), 3),
    )
