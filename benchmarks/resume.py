"""SIGKILL at any moment: a resumed run ends with the weights of an uninterrupted one.

    python benchmarks/resume.py [--rounds 20] [--seed 0]

A small run on generated pictures with all that has a state: the head solved for, stages on kept
features, all blocks with mixup, a moving average, a sampler for rare classes, a validation part,
and the export. It is trained without a hindrance. Each round starts it again as a process group,
kills that at a moment of its own share of the run, and resumes until it is finished; in every
third round the resumed run is killed too. Then weights are compared tensor for tensor, and history
and policy value for value. Exit code 1: something differs, or lies beside the model folder.

Each command is forked from a process that has imported the libraries, so that the kills fall into
the work and not into imports. The run is shared out by the lines that it says, which come more
often where more happens: a moment is so many lines after the start, and a part of the seconds that
passed until the next line in the reference.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from taxon.api.workspace import is_unfinished
from taxon.bundle import read_bundle
from taxon.bundle.layout import BUNDLE_FILE, DECISION_FILE, HEAD_FILE, WEIGHTS_FILE
from taxon.cli.main import run as run_cli
from taxon.data.samples import generate_samples
from taxon.training.checkpoint import Checkpoints

STAGES = {"solved": 1, "head": 2, "last block": 3, "all": 4}  # name: epochs
CONFIG = {
    "stages": [
        {"name": "solved", "method": "logistic"},
        {"name": "head", "epochs": STAGES["head"], "unfrozen_blocks": 0, "mixing": False},
        {
            "name": "last block",
            "epochs": STAGES["last block"],
            "unfrozen_blocks": 1,
            "mixing": False,
        },
        {"name": "all", "epochs": STAGES["all"], "unfrozen_blocks": "all", "schedule": "cosine"},
    ],
    "head": "standardised",
    "preprocessing": {"size": 64},
    "batch_size": 16,
    "imbalance": {"strategy": "weighted-sampler"},
    "feature_cache": {"views": 2},
    "optimiser": {"ema": 0.9, "gradient_clip": 1},
    "augment": {"mixup": 0.2},
}
PICTURES = 160
MODEL = "test_convnext"
BEFORE, INSIDE, BORDER = "before the first checkpoint", "inside a stage", "between stages"
WRITING, FINISHED = "after the last epoch", "when it was finished"
KINDS = (BEFORE, INSIDE, BORDER, WRITING)
LOOK_SECONDS = 0.005
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = ["taxon.api.classifier", "taxon.models.restore", "onnx", "onnxruntime", "onnxscript"]
LONGEST_SECONDS = 600


class Training:
    """`taxon train` in a process group of its own; what it says goes to a file."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log, self.start = log, time.perf_counter()
        log.write_text("")
        self.process = _FORKS.Process(target=_command, args=(["train", *arguments], str(log)))
        self.process.start()

    def said(self) -> list[str]:
        """The lines so far."""
        return self.log.read_text("utf-8").splitlines()

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start

    def running(self) -> bool:
        """Look again after a moment."""
        self.process.join(LOOK_SECONDS)
        return self.process.is_alive()

    def kill(self) -> None:
        """End all its processes, as the system does when memory is short."""
        self.process.kill()
        with suppress(ProcessLookupError):  # it ended before, or has no group yet
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()

    def finish(self) -> None:
        """Wait for its end; it must be a good one."""
        self.process.join(LONGEST_SECONDS)
        if self.process.exitcode != 0:
            raise SystemExit(f"the run failed: {' / '.join(self.said()[-3:])}")


def _command(arguments: list[str], log: str) -> None:
    """What the forked process does: `taxon ARGUMENTS`, its words into the file."""
    os.setsid()
    with Path(log).open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.exit(run_cli(arguments))


@dataclass(frozen=True)
class Reference:
    """The run without a hindrance.

    Attributes:
        lines: seconds at which each of its lines came.
        seconds: until the model was in its place.
    """

    run: Path
    lines: list[float]
    seconds: float

    def moment(self, share: float) -> tuple[int, float]:
        """A share of the run, 0 to 1, as lines and seconds after the last of them."""
        times = [0.0, *self.lines, self.seconds]
        place = share * (len(times) - 1)
        lines = int(place)
        return lines, (place - lines) * (times[lines + 1] - times[lines])


@dataclass
class Round:
    """What happened in a round.

    Attributes:
        moments, kinds, doing: of each kill: after so many seconds, what kind of moment it was,
            and what the run was doing.
        resumed: where it went on after the last one.
        differs: from the reference.
    """

    moments: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    doing: list[str] = field(default_factory=list)
    resumed: str = ""
    differs: list[str] = field(default_factory=list)

    def row(self, number: int) -> str:
        """Of the table."""
        killed = " | ".join("; ".join(each) for each in (self.moments, self.doing))
        same = "yes" if not self.differs else f"no: {', '.join(self.differs)}"
        return f"| {number} | {killed} | {self.resumed} | {same} |"


def train_reference(arguments: list[str], run: Path, log: Path) -> Reference:
    """Train to the end, and note when each line came."""
    training = Training([*arguments, "--out", str(run)], log)
    lines: list[float] = []
    while training.running():
        lines += [training.seconds()] * (len(training.said()) - len(lines))
    training.finish()
    end = [line.startswith("model written to") for line in training.said()].index(True)
    return Reference(run, lines[:end], lines[end])


def wait_until(training: Training, lines: int, seconds: float) -> None:
    """Wait for so many lines, and then so long; no longer than the process lives."""
    while len(training.said()) < lines and training.running():
        pass
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and training.running():
        pass


def killed_when(run: Path, said: list[str]) -> tuple[str, str]:
    """The kind of moment at which a run was killed, and what it was doing, in words."""
    if (run / BUNDLE_FILE).exists():
        return FINISHED, FINISHED
    last = said[-1].strip().split(":")[0][:40] if said else "it said anything"
    kept = Checkpoints(run / "checkpoints").load()
    if kept is None:
        return BEFORE, f"start, after '{last}'"
    progress = kept[0]
    name, epochs = list(STAGES.items())[progress.stage]
    if progress.epochs < epochs:
        return INSIDE, f"'{name}', {progress.epochs} of {epochs} epochs done"
    if progress.stage + 1 < len(STAGES):
        return BORDER, f"border after '{name}'"
    half = sum(len(list(folder.rglob("*"))) for folder in left_behind(run))
    return WRITING, f"end, after '{last}', {half} files of the bundle"


def is_there(run: Path) -> bool:
    """Whether there is a run to resume; whoever is told that there is none starts again."""
    places = [run, *(folder / "old" for folder in left_behind(run))]
    return any(is_unfinished(place) or (place / BUNDLE_FILE).exists() for place in places)


def left_behind(run: Path) -> list[Path]:
    """Unfinished folders beside a run."""
    return list(run.parent.glob(f".{run.name}.*"))


def differences(run: Path, reference: Path) -> list[str]:
    """What is not equal in two model folders, in words."""
    found = []
    for name in (WEIGHTS_FILE, HEAD_FILE):
        ours, expected = load_file(run / name), load_file(reference / name)
        names = ours.keys() | expected.keys()
        found += [
            tensor
            for tensor in sorted(names)
            if tensor not in ours
            or tensor not in expected
            or not torch.equal(ours[tensor], expected[tensor])
        ]
    found = [f"{len(found)} tensors, the first {found[0]}"] if found else []
    if _history(run) != _history(reference):
        found.append("history")
    if (run / DECISION_FILE).read_bytes() != (reference / DECISION_FILE).read_bytes():
        found.append("policy")
    return found + [f"left behind: {path.name}" for path in left_behind(run)]


def _history(run: Path) -> list[dict[str, Any]]:
    rows = read_bundle(run).info.provenance.history
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def play(
    arguments: list[str], run: Path, log: Path, reference: Reference, shares: list[float]
) -> Round:
    """Kill a run at these shares of its way, and resume it to its end."""
    done = Round()
    fresh = command = [*arguments, "--out", str(run)]
    for number, share in enumerate(shares):
        training = Training(command, log)
        # What a resumed run says, and when, has no reference.
        moment = (0, share * reference.seconds) if number else reference.moment(share)
        wait_until(training, *moment)
        training.kill()
        kind, words = killed_when(run, training.said())
        done.moments.append(f"{training.seconds():.1f}")
        done.kinds.append(kind)
        done.doing.append(words)
        command = ["--resume", str(run)] if is_there(run) else fresh
    training = Training(command, log)
    training.finish()
    done.resumed = went_on(training.said()) if command != fresh else "a new start"
    done.differs = differences(run, reference.run)
    return done


def went_on(said: list[str]) -> str:
    """Where a resumed run went on, by what it said."""
    for line in said:
        if "continued after " in line:
            return line.partition("continued after ")[2]
        if "is finished already" in line:
            return "nothing was left to do"
    return "its beginning"


def moments(rounds: int, chance: random.Random) -> list[list[float]]:
    """The kills of each round: one in each equal share of the run, every third round twice."""
    found = [[(number + chance.random()) / rounds] for number in range(rounds)]
    for twice in found[::3]:
        twice.append(chance.uniform(0.1, 0.7))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taxon-resume-") as place:
        folder = Path(place)
        os.environ["TAXON_CACHE"] = str(folder / "cache")
        _FORKS.set_forkserver_preload(_IMPORTED)
        generate_samples("defects", folder / "data", size=64, count=PICTURES)
        (folder / "config.yaml").write_text(json.dumps(CONFIG))  # JSON is YAML
        arguments = [str(folder / "data"), "--config", str(folder / "config.yaml")]
        arguments += ["--model", MODEL, "--weights", "none", "--device", "cpu"]
        for name in ("warm-up", "reference"):  # the first one reads the libraries from the disk
            reference = train_reference(arguments, folder / name, folder / "log")
        print(f"uninterrupted: {reference.seconds:.1f} s, {len(reference.lines)} lines\n")
        print("| round | killed after (s) | killed while | resumed at | identical |")
        print("|---|---|---|---|---|", flush=True)
        rounds: list[Round] = []
        chance = random.Random(options.seed)
        for number, shares in enumerate(moments(options.rounds, chance), 1):
            run = folder / f"run{number}"
            rounds.append(play(arguments, run, folder / "log", reference, shares))
            print(rounds[-1].row(number), flush=True)
    _sum_up(rounds)


def _sum_up(rounds: list[Round]) -> None:
    kinds = Counter(kind for each in rounds for kind in each.kinds)
    same = sum(not each.differs for each in rounds)
    counted = ", ".join(f"{kinds[kind]} {kind}" for kind in (*KINDS, FINISHED) if kinds[kind])
    print(f"\n{same} of {len(rounds)} rounds identical; kills: {counted}")
    missing = [kind for kind in KINDS if not kinds[kind]]
    if missing:
        print(f"no kill fell {' nor '.join(missing)}: take more --rounds")
    sys.exit(same < len(rounds))


if __name__ == "__main__":
    main()
