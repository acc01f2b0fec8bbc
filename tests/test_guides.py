"""The guides run as they stand there: their files, every command and every block of Python.

Only what makes them long is changed: the sample data are smaller, trainings take a tiny backbone,
one epoch and 32 pixels, latencies of backbones are known already, and evaluations do not explain
single answers. Exports, which would take
most of the time, are left out of the guides that verify none: these run the model itself.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import taxon
from conftest import TINY_BACKBONE

from taxon.api import refitting, training
from taxon.benchmarking.latency import Latency, keep_latency, relevant_versions
from taxon.bundle.layout import ARTEFACTS_FOLDER
from taxon.core.machine import machine
from taxon.models.zoo import ZOO

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
# Their commands are run by `make test-long`: what they use is tested by itself too.
LONG = (
    *("android", "deploy", "edge", "latency", "phone", "serving", "torchserve", "triton"),
    *("content-filter", "find-by-example", "production-defects"),
)
SHORT = ("--weights", "none", "--recipe", "scratch", "--model", TINY_BACKBONE, "--epochs", "1")
SMALL = ("--set", "preprocessing.size=32")
ADDED = {
    "train": (*SHORT, *SMALL),
    "evaluate": ("--no-explain",),
    "benchmark": ("--threads", "1", "--seconds", "0.02"),
}
# What a model of one epoch may not reach: a gate, or a promise. Everything else must succeed.
MAY_MISS = ("--gate", "--abstain", "--target", "--fail-if-worse")
BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.S
)


@pytest.fixture
def samples(defects: Path, tags: Path, surfaces: Path) -> dict[str, Path]:
    """What `taxon sample-data` would write, smaller."""
    return {"defects": defects, "tags": tags, "taxonomy": surfaces}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG else ())
        for name in sorted(path.stem for path in GUIDES.glob("*.md"))
    ],
)
def test_guide(
    name: str, samples: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = _text(name)
    if "taxon verify" not in text:
        for module in (training, refitting):
            monkeypatch.setattr(module, "export_own_onnx", _without_artefacts)
            monkeypatch.setattr(module, "write_calibration_reference", lambda run, manifest: None)
    if "--budget-ms" in text:
        monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "cache"))
        _keep_latencies()
    ran = 0
    for block in BLOCK.finditer(text):
        if block["file"] is not None:
            Path(block["file"]).write_text(block["text"])
        elif block["language"] == "sh":
            for command in _commands(block["text"]):
                _run(command, samples)
                ran += 1
        elif block["language"] == "python":
            exec(block["text"], {"__name__": "__main__"})
        else:
            # What a command prints, and what is typed on another machine.
            assert block["language"] in ("text", "console", "swift", "kotlin"), block["language"]
    assert ran >= 5


def test_there_are_guides_and_the_readme_names_them() -> None:
    readme = (GUIDES.parents[1] / "README.md").read_text()
    names = [path.name for path in GUIDES.glob("*.md")]
    assert len(names) == 13
    assert all(f"(docs/guides/{name})" in readme for name in names)


@pytest.mark.parametrize("name", sorted(path.stem for path in GUIDES.glob("*.md")))
def test_guides_are_short_and_their_links_lead_somewhere(name: str) -> None:
    text = _text(name)
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (GUIDES / target).exists(), target


def _without_artefacts(run: Path) -> SimpleNamespace:
    (run / ARTEFACTS_FOLDER).mkdir(exist_ok=True)
    return SimpleNamespace(parity=())


def _text(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


def _commands(block: str) -> Iterator[list[str]]:
    """The words after `taxon` of each line; a comment is none."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "taxon", line
            yield words[1:]


def _run(command: list[str], samples: dict[str, Path]) -> None:
    if command[0] == "sample-data":
        shutil.copytree(samples[command[1]], command[2])
        return
    if command[0] == "serve":
        _serve(command)
        return
    added = [*ADDED.get(command[0], ())]
    if command[0] == "train" and "--budget-ms" in command:
        added[added.index("--model") : added.index("--model") + 2] = []
    done = taxon(*command, *added)
    allowed = (0, 3) if any(option in command for option in MAY_MISS) else (0,)
    assert done.returncode in allowed, (command, done.stdout, done.stderr)


def _serve(command: list[str]) -> None:
    """Have a server start, and stop it."""
    typed = [sys.executable, "-u", "-m", "taxon", *command, "--port", "0"]
    with subprocess.Popen(typed, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"serving {' '.join(command[1:])} at http://" in process.stdout.readline()
        process.terminate()
        assert process.wait(30) == 0


def _keep_latencies() -> None:
    """Of all backbones, so that none is measured: minutes of exports."""
    for entry in ZOO:
        milliseconds = 5.0 if entry.name == "mobilenetv3_small_100" else 99.0
        for size in (None, 32):  # the backbone's own, and that of the trainings here
            latency = Latency(
                backbone=entry.name,
                size=size or entry.input_size,
                device="cpu",
                p50_ms=milliseconds,
                p95_ms=milliseconds,
                calls=10,
                machine=machine(),
                versions=relevant_versions(entry.name, "cpu"),
            )
            keep_latency(entry.name, size, latency)
