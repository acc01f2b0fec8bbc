"""The tables of `benchmarks/serving.py`, from the cells that it kept."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from taxon.core.machine import machine_sentence

OURS, WORKERS, BOUND, MIDDLE = "taxon", "taxon-workers", "bound", "32"
WORDS = {
    "taxon": "taxon",
    "taxon-auto": "taxon, runtime chosen by itself",
    "taxon-workers": "taxon, a computing process a core (`--workers`)",
    "litserve": "LitServe",
    "naive": "FastAPI, thread pool, taxon's preprocessing and graph",
    "naive-float": "FastAPI as people write it",
    "torchserve": "TorchServe",
}
NAIVE = ("naive", "naive-float")
Cell = dict[str, Any]
Rounds = dict[int, Cell]  # of one server and model


def report(work: Path) -> str:
    """All tables in Markdown."""
    cells: dict[str, dict[str, Rounds]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted((work / "cells").glob("*.json")):
        model, name, number = file.stem.split("--")
        cells[model][name][int(number)] = json.loads(file.read_text())
    parts = [_conditions(work)]
    for model, servers in cells.items():
        parts += [f"### {model}", *_of_model(servers)]
    parts += _overload(work)
    return "\n\n".join(parts)


def _conditions(work: Path) -> str:
    file = work / "machine.json"
    if not file.exists():
        return "Nothing was measured yet."
    found = json.loads(file.read_text())
    names = ("taxon", "onnxruntime", "torch", "pillow", "numpy")
    versions = ", ".join(f"{name} {found['versions'].get(name)}" for name in names)
    return f"Measured on {machine_sentence(found['machine'])}; {versions}. Medians of the rounds."


def _of_model(servers: dict[str, Rounds]) -> list[str]:
    good = {
        name: {at: cell for at, cell in rounds.items() if "failed" not in cell}
        for name, rounds in servers.items()
    }
    failed = [
        f"{name}, round {at}: failed: {cell['failed'][:300]}"
        for name, rounds in servers.items()
        for at, cell in rounds.items()
        if "failed" in cell
    ]
    bounds = good.pop(BOUND, {})
    good = {name: rounds for name, rounds in good.items() if rounds}
    if not good:
        return failed
    parts = [
        _throughput(good, bounds),
        _latencies(good),
        _costs(good),
        "\n".join(f"- {line}" for line in (*_bound_words(good, bounds), *_targets(good, bounds))),
    ]
    return parts + failed


def _levels(good: dict[str, Rounds]) -> list[str]:
    found = {level for rounds in good.values() for cell in rounds.values() for level in cell["at"]}
    return sorted(found, key=int)


def _at(level: str, figure: str) -> Callable[[Cell], float]:
    return lambda cell: float(cell["at"][level][figure] or 0)


def _middle(rounds: Rounds, figure: Callable[[Cell], float]) -> float:
    return median(figure(cell) for cell in rounds.values())


def _ratio(
    ours: Rounds, theirs: Rounds, figure: Callable[[Cell], float], theirs_figure: Any = None
) -> float | None:
    """The median over rounds of ours by theirs, each round by itself."""
    other = theirs_figure or figure
    pairs = [(figure(ours[at]), other(theirs[at])) for at in ours if at in theirs]
    found = [mine / their for mine, their in pairs if their]
    return median(found) if found else None


def _limit(cell: Cell) -> float:
    return float(max(cell["limit"].values()))


def _throughput(good: dict[str, Rounds], bounds: Rounds) -> str:
    levels = _levels(good)
    head = ["requests/s at concurrency", *levels, "taxon's multiple at 32", "of the limit at 32"]
    rows = [head]
    for name, rounds in _ordered(good):
        figures = [f"{_middle(rounds, _at(level, 'per_second')):.0f}" for level in levels]
        speed = _at(MIDDLE, "per_second")
        multiple = _ratio(good.get(OURS, {}), rounds, speed)
        share = _ratio(rounds, bounds, speed, _limit)
        rows.append([_name(name, rounds), *figures, _times(multiple), _percent(share)])
    if bounds:
        limit = f"{_middle(bounds, _limit):.0f}"
        rows.append(
            ["the limit: preparing and the session alone", *([limit] * len(levels)), "", ""]
        )
    return _markdown(rows)


def _latencies(good: dict[str, Rounds]) -> str:
    levels = _levels(good)
    rows = [["p50 / p95 / p99, ms, at concurrency", *levels]]
    for name, rounds in _ordered(good):
        cells = [
            " / ".join(f"{_middle(rounds, _at(level, f'p{q}_ms')):.1f}" for q in (50, 95, 99))
            for level in levels
        ]
        rows.append([_name(name), *cells])
    return _markdown(rows)


def _costs(good: dict[str, Rounds]) -> str:
    levels = _levels(good)
    rows = [
        [
            "",
            "ready, s (first answer)",
            "MiB at the start",
            "MiB at most (shared pages once)",
            f"CPU ms a request at {', '.join(levels)}",
            "load generator's, at 32",
            "answers that are not 200",
        ]
    ]
    for name, rounds in _ordered(good):
        ready = _middle(rounds, lambda cell: cell["ready_seconds"])
        first = _middle(rounds, lambda cell: cell["answer_seconds"])
        peaks = [
            max(
                cell["at"][level]["memory"][kind]
                for cell in rounds.values()
                for level in cell["at"]
            )
            for kind in ("rss", "pss")
        ]
        cpu = ", ".join(f"{_middle(rounds, _at(level, 'cpu_ms')):.1f}" for level in levels)
        rows.append(
            [
                _name(name),
                f"{ready:.1f} ({first:.1f})",
                f"{_middle(rounds, lambda cell: cell['memory_started']['rss']):.0f}",
                f"{peaks[0]:.0f} ({peaks[1]:.0f})",
                cpu,
                f"{_middle(rounds, _at(MIDDLE, 'load_cpu_ms')):.2f}",
                _errors(rounds.values()),
            ]
        )
    return _markdown(rows)


def _errors(cells: Iterable[Cell]) -> str:
    """How many answers were of which status, at which concurrency."""
    found: Counter[tuple[str, str]] = Counter()
    asked: Counter[str] = Counter()
    for cell in cells:
        for level, each in cell["at"].items():
            asked[level] += sum(each["statuses"].values())
            for status, count in each["statuses"].items():
                if status != "200":
                    found[level, status] += count
    words = [
        f"at {level}: {count} of {asked[level]} are {status}"
        for (level, status), count in sorted(found.items(), key=lambda item: int(item[0][0]))
    ]
    return "; ".join(words) or "none"


def _bound_words(good: dict[str, Rounds], bounds: Rounds) -> list[str]:
    if not bounds:
        return []

    def of(figure: Callable[[Cell], float]) -> float:
        return _middle(bounds, figure)

    last = next(iter(bounds.values()))
    by_batch = ", ".join(
        f"{size}: {of(lambda cell, s=size: cell['batches_ms'][s]):.2f}"
        for size in last["batches_ms"]
    )
    limits = ", ".join(
        f"{size}: {of(lambda cell, s=size: cell['limit'][s]):.0f}" for size in last["limit"]
    )
    session = ", ".join(
        f"{size}: {of(lambda cell, s=size: cell['session_limit'][s]):.0f}"
        for size in last["session_limit"]
    )
    return [
        f"one picture after the other, no server: prepare "
        f"{of(lambda cell: cell['alone']['prepare_ms']):.2f} ms on one core, session "
        f"{of(lambda cell: cell['alone']['session_ms']):.2f} ms on all, together "
        f"{of(lambda cell: cell['alone']['together_ms']):.2f} ms",
        f"session on all cores, ms a picture by batch size: {by_batch}",
        f"the limit: one single-threaded process a core that prepares and computes in a closed "
        f"loop, pictures/s of all by batch size: {limits}; the session alone: {session}",
    ]


def _targets(good: dict[str, Rounds], bounds: Rounds) -> list[str]:
    ours = good.get(OURS, {})
    if not ours:
        return []
    speed = _at(MIDDLE, "per_second")
    lines = []

    def line(words: str, value: float | None, limit: float, *, at_least: bool) -> None:
        if value is not None:
            met = value >= limit if at_least else value <= limit
            sign = "at least" if at_least else "at most"
            lines.append(f"{words}: {value:.2f} ({sign} {limit:g}: {'met' if met else 'NOT met'})")

    naive = {name: good[name] for name in NAIVE if name in good}
    strongest = max(naive, key=lambda name: _middle(naive[name], speed), default=None)
    for mine in (OURS, WORKERS):
        for name, limit in (("litserve", 2.0), (strongest, 1.6), ("torchserve", 3.0)):
            if name in good and mine in good:
                ratio = _ratio(good[mine], good[name], speed)
                words = f"throughput at 32 of {WORDS[mine]} by that of {WORDS[name]}"
                line(words, ratio, limit, at_least=True)
    together = _ratio(ours, bounds, _at("1", "p50_ms"), lambda cell: cell["alone"]["together_ms"])
    line("p50 at 1 by prepare and session", together, 1.25, at_least=False)
    ready = _middle(ours, lambda cell: cell["ready_seconds"])
    line("ready, seconds", ready, 2.0, at_least=False)
    peak = max(each["memory"]["rss"] for cell in ours.values() for each in cell["at"].values())
    line("MiB at most", peak, 350.0, at_least=False)
    return lines


def _overload(work: Path) -> list[str]:
    files = sorted((work / "overload").glob("*.json"))
    if not files:
        return []
    rows = [
        [
            "model, server, round",
            "bears, requests/s",
            "offered",
            "200 / 503 / other, %",
            "of 503 with Retry-After",
            "p99 at a fifth, ms",
            "p99 of the accepted at twice (ratio)",
            "p99 of a refusal",
            "last refusal, fast again: s after",
            "MiB before, 1st half, 2nd half, after",
        ]
    ]
    for file in files:
        words = file.stem.replace("--", ", ")
        cell = json.loads(file.read_text())
        if "failed" in cell:
            rows.append([words, f"failed: {cell['failed'][:200]}", *[""] * 8])
            continue
        rows.append([words, *_overloaded(cell)])
    return ["### Overload", _markdown(rows)]


def _overloaded(cell: Cell) -> list[str]:
    over, calm, memory = cell["over"], cell["calm"], cell["memory"]
    statuses = Counter(over["statuses"])
    total = statuses.total()
    shares = [statuses["200"], statuses["503"], total - statuses["200"] - statuses["503"]]
    refused = statuses["503"]
    after = cell["recovery"]["fast_again_seconds"]
    return [
        f"{cell['bears_per_second']:.0f}",
        f"{total / over['seconds']:.0f}",
        " / ".join(f"{100 * share / total:.1f}" for share in shares),
        f"{over['retry_after']} of {refused}",
        f"{calm['p99_ms']:.1f}",
        f"{over['p99_ms']:.0f} ({over['p99_ms'] / calm['p99_ms']:.1f})",
        "-" if over["refused_p99_ms"] is None else f"{over['refused_p99_ms']:.1f}",
        f"{cell['recovery']['last_refusal_seconds']:.2f}, "
        + ("never" if after is None else f"{after:.2f}"),
        ", ".join(f"{memory[key]:.0f}" for key in ("before", "first_half", "second_half", "after")),
    ]


def _ordered(good: dict[str, Rounds]) -> list[tuple[str, Rounds]]:
    return [(name, good[name]) for name in WORDS if name in good]


def _name(name: str, rounds: Rounds | None = None) -> str:
    settings = next(iter(rounds.values()))["settings"] if rounds else {}
    words = ", ".join(f"{key} {value}" for key, value in settings.items())
    return WORDS[name] + (f" ({words})" if words else "")


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
