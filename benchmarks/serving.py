"""`taxon serve` beside LitServe, TorchServe and FastAPI as people write it, in one run.

    python benchmarks/serving.py --data FOLDER --work FOLDER [--quick] [--overload]
    python benchmarks/serving.py --work FOLDER --report

FOLDER holds real JPEG pictures in folders of classes. Each server has its turn, round after round,
while no other runs; the load generator is a process of its own, on the same cores. Every cell is
kept in the work folder, so that a run that was stopped goes on, and a cell that failed says why.
LitServe gets an environment of its own there, unless `--litserve-python` names one. Settings of the
rivals are chosen first, by what is fastest at the middle concurrency. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import serving_overload
from serving_models import make_litserve, make_model
from serving_report import report
from serving_servers import (
    Contender,
    Model,
    Running,
    Settings,
    Watch,
    rival,
    running,
    taxon_server,
    torchserve,
)
from taxon.core.cores import available_cores
from taxon.core.files import write_json
from taxon.core.machine import machine
from taxon.core.versions import versions

MODELS = ("mobilenetv3_small_100", "efficientnet_b0")
HERE = Path(__file__).parent
CONCURRENCIES = (1, 8, 32, 128)
MIDDLE = 32
Cell = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: of one measurement.
        warm_up: seconds of load before the first one.
    """

    work: Path
    data: Path
    concurrencies: tuple[int, ...]
    rounds: int
    seconds: float
    warm_up: float


def contenders_of(litserve: Path | None) -> dict[str, Contender]:
    """All servers, by name; ours computes with ONNX Runtime, as the others, unless it says so."""
    found = {
        "taxon": taxon_server("--backend", "onnx"),
        "taxon-auto": taxon_server(),
        "taxon-workers": taxon_server("--backend", "onnx", "--workers", str(available_cores())),
        "naive": rival("naive", "FastAPI, thread pool, the same preprocessing and graph"),
        "naive-float": rival("naive-float", "FastAPI as people write it", form="file"),
        "torchserve": torchserve(
            (
                {"batchSize": 1, "maxBatchDelay": 100},
                {"batchSize": 8, "maxBatchDelay": 5},
                {"batchSize": 8, "maxBatchDelay": 20},
            )
        ),
    }
    if litserve is not None:
        choices = [
            {"batch": batch, "timeout": wait, "workers": workers}
            for workers in (1, 2)
            for batch, wait in ((1, 0.0), (8, 0.002), (8, 0.01), (16, 0.01))
        ]
        found["litserve"] = rival("litserve", "LitServe", litserve, choices=tuple(choices))
    return found


def load(server: Running, contender: Contender, plan: Plan, *options: str) -> list[Cell]:
    """Run the load generator; one object a phase."""
    form = [] if contender.form is None else ["--form", contender.form]
    command = [sys.executable, HERE / "load.py", server.url, "--pictures", plan.data]
    finished = subprocess.run(
        [*command, *form, *options], stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    phases: list[Cell] = json.loads(finished.stdout)
    return phases


def measured(server: Running, contender: Contender, plan: Plan, concurrency: int) -> Cell:
    """One measurement in a closed loop."""
    before = server.cpu_seconds()
    with Watch(server) as watch:
        options = ["--concurrency", str(concurrency), "--seconds", str(plan.seconds)]
        (found,) = load(server, contender, plan, *options)
    used = server.cpu_seconds() - before
    requests = sum(found["statuses"].values())
    answered = found["statuses"].get("200", 0)
    return {
        **found,
        "cpu_ms": round(1000 * used / answered, 3) if answered else None,
        "load_cpu_ms": round(1000 * found["own_cpu_seconds"] / max(1, requests), 3),
        "memory": watch.peak,
    }


def turn(contender: Contender, model: Model, settings: Settings, plan: Plan) -> Cell:
    """Start a server, warm it, and measure it at every concurrency."""
    with running(contender, model, settings, _picture(plan)) as server:
        started = server.memory()
        load(server, contender, plan, "--concurrency", "8", "--seconds", str(plan.warm_up))
        return {
            "settings": dict(settings),
            "ready_seconds": round(server.ready_seconds, 3),
            "answer_seconds": round(server.answer_seconds, 3),
            "memory_started": started,
            "load_average": os.getloadavg()[0],
            "at": {
                str(each): measured(server, contender, plan, each) for each in plan.concurrencies
            },
        }


def choose(name: str, contender: Contender, model: Model, plan: Plan) -> Settings:
    """The settings with which a server answers most at the middle concurrency."""
    if len(contender.choices) == 1:
        return contender.choices[0]

    def tried(settings: Settings) -> Cell:
        with running(contender, model, settings, _picture(plan)) as server:
            for seconds in (plan.warm_up, plan.seconds):
                options = ["--concurrency", str(MIDDLE), "--seconds", str(seconds)]
                (found,) = load(server, contender, plan, *options)
        return {"settings": dict(settings), "per_second": found["per_second"]}

    found = [
        kept(plan.work / "choices" / f"{model.name}--{name}--{at}.json", lambda s=each: tried(s))
        for at, each in enumerate(contender.choices)
    ]
    good = [cell for cell in found if "per_second" in cell]
    if not good:
        raise RuntimeError(f"{name} ran with no settings: {found[0]['failed']}")
    best: Settings = max(good, key=lambda cell: float(cell["per_second"]))["settings"]
    return best


def bound(model: Model, plan: Plan) -> Cell:
    """What the model costs without a server."""
    command = [sys.executable, HERE / "serving_bound.py", model.run, "--pictures", plan.data]
    left_out = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    finished = subprocess.run(
        [*command, "--seconds", str(plan.seconds / 2)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
        env={name: value for name, value in os.environ.items() if name not in left_out},
    )
    cell: Cell = json.loads(finished.stdout)
    return cell


def kept(file: Path, measure: Callable[[], Cell]) -> Cell:
    """What the file holds; else measure and keep it. A failure is kept too, with its reason."""
    if file.exists():
        cell: Cell = json.loads(file.read_text())
        if "failed" not in cell:
            return cell
    print(f"{time.strftime('%H:%M:%S')} {file.stem}", file=sys.stderr, flush=True)
    try:
        cell = measure()
    except (RuntimeError, OSError, subprocess.SubprocessError, ValueError) as error:
        traceback.print_exc()
        cell = {"failed": str(error)[-2000:]}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, cell)
    return cell


def measure_all(models: Sequence[Model], contenders: dict[str, Contender], plan: Plan) -> None:
    """Round after round, every server in its turn; each round begins with another one."""
    names = list(contenders)
    for number in range(plan.rounds):
        for model in models:
            cells = plan.work / "cells"
            kept(cells / f"{model.name}--bound--{number}.json", lambda m=model: bound(m, plan))
            for at in range(len(names)):
                name = names[(at + number) % len(names)]
                each = contenders[name]

                def measure(name: str = name, each: Contender = each, m: Model = model) -> Cell:
                    return turn(each, m, choose(name, each, m, plan), plan)

                kept(cells / f"{model.name}--{name}--{number}.json", measure)


def measure_overload(models: Sequence[Model], ours: dict[str, Contender], plan: Plan) -> None:
    """Ours under twice what it can bear, with its defaults."""

    def measure(model: Model, contender: Contender) -> Cell:
        with running(contender, model, {}, _picture(plan)) as server:
            ask = partial(load, server, contender, plan)
            return serving_overload.measure(server, ask, plan.work, plan.seconds)

    for number in range(plan.rounds):
        for model in models:
            for name, each in ours.items():
                file = plan.work / "overload" / f"{model.name}--{name}--{number}.json"
                kept(file, partial(measure, model, each))


def _picture(plan: Plan) -> bytes:
    return next(plan.data.rglob("*.jp*g")).read_bytes()


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="models, environment and cells")
    parser.add_argument("--data", type=Path, help="real pictures in folders of classes")
    parser.add_argument("--litserve-python", type=Path, help="of an environment with LitServe")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--contenders", help="names, comma-separated; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true", help="one short round, to try it")
    parser.add_argument("--overload", action="store_true", help="only twice what it can bear")
    parser.add_argument("--report", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    work: Path = given.work.resolve()
    if not given.report:
        if given.data is None:
            parser.error("--data is needed to measure")
        rounds, seconds = (1, 2.0) if given.quick else (given.rounds, given.seconds)
        data = given.data.resolve()
        plan = Plan(work, data, CONCURRENCIES, rounds, seconds, min(3.0, seconds))
        models = [make_model(name, data, work) for name in given.models.split(",")]
        contenders = contenders_of(make_litserve(work, given.litserve_python))
        write_json(work / "machine.json", {"machine": machine(), "versions": versions()})
        if given.contenders:
            contenders = {name: contenders[name] for name in given.contenders.split(",")}
        if given.overload:
            ours = {name: contenders[name] for name in ("taxon", "taxon-workers")}
            measure_overload(models, ours, plan)
        else:
            measure_all(models, contenders, plan)
    print(report(work))


if __name__ == "__main__":
    main()
