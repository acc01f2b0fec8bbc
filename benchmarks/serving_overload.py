"""A server under twice the load that it can bear, for `benchmarks/serving.py`.

First what it can bear: its throughput in a closed loop. Then requests at random moments, whether or
not others were answered: at a fifth of that, at twice, at half. Latencies count from when a request
was due.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving_servers import Running, Watch

SATURATED = 16  # requests at once: no wait is too long for them
CALM, OVER, AFTER = 0.2, 2.0, 0.5  # of what it can bear
IN_A_ROW = 10  # answers as before the overload, and it has recovered
Cell = dict[str, Any]
Ask = Callable[..., list[Cell]]


def measure(server: Running, ask: Ask, work: Path, seconds: float) -> Cell:
    """Load it calmly, too much, and half; say what came back."""
    ask("--concurrency", "8", "--seconds", "3")
    (found,) = ask("--concurrency", str(SATURATED), "--seconds", str(seconds))
    bears = float(found["per_second"])
    before = server.memory()
    trace = work / "trace.json"
    lengths = (seconds, 3 * seconds, seconds)
    rates = ",".join(
        f"{share * bears}:{length}"
        for share, length in zip((CALM, OVER, AFTER), lengths, strict=True)
    )
    with Watch(server) as watch:
        calm, over, after = ask("--rates", rates, "--trace", str(trace))
    begun, ended = seconds, 4 * seconds
    rows = json.loads(trace.read_text())
    return {
        "bears_per_second": bears,
        "calm": calm,
        "over": over,
        "after": after,
        "recovery": recovery(rows[2], calm["p99_ms"] / 1000),
        "memory": {
            "before": before["rss"],
            "first_half": watch.peak_between(begun, (begun + ended) / 2),
            "second_half": watch.peak_between((begun + ended) / 2, ended),
            "after": server.memory()["rss"],
        },
    }


def recovery(rows: list[tuple[float, float, str]], calm: float) -> dict[str, float | None]:
    """Seconds after the overload: until the last refusal, and until answers were as fast as before.

    Args:
        rows: due, latency, status of the requests after it.
        calm: the 99th percentile of latencies before it, in seconds.
    """
    ordered = sorted(rows)
    refused = [due for due, _, status in ordered if status != "200"]
    good = [status == "200" and latency <= calm for _, latency, status in ordered]
    fast = next(
        (
            ordered[at][0] + ordered[at][1]
            for at in range(len(good) - IN_A_ROW)
            if all(good[at : at + IN_A_ROW])
        ),
        None,
    )
    return {
        "last_refusal_seconds": round(max(refused), 3) if refused else 0.0,
        "fast_again_seconds": None if fast is None else round(fast, 3),
    }
