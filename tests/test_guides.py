"""The pages of the documentation run as they stand there: their files, every command and every
block of Python. A server that a page starts goes on until the page ends, and is asked by what
follows.

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
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from commands import taxon
from conftest import TINY_BACKBONE
from fake_hub import FakeHub, fake_hub, use_hub

from taxon.api import refitting, training
from taxon.benchmarking.latency import Latency, keep_latency, relevant_versions
from taxon.bundle.layout import ARTEFACTS_FOLDER
from taxon.core.machine import machine
from taxon.models.zoo import ZOO

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = DOCS / "guides"
# Their commands are run by `make test-long`: what they use is tested by itself too.
LONG = (
    *("android", "deploy", "edge", "latency", "phone", "serving", "torchserve", "triton"),
    *("content-filter", "hub", "many-machines", "many-pictures", "production-defects"),
    *("training", "rare-classes", "nested-classes", "small-from-large", "compare", "export"),
    *("decisions", "evaluate", "look-first"),
)
# Pages with commands that no test can run: fences of `console`. Whoever adds one says why.
NOT_RUN = {
    "CONTRIBUTING.md": "the targets of make: CI runs one, the others take hours",
    "docs/index.md": "the README's commands, which test_readme.py runs",
    "docs/install.md": "downloads; test_packaging.py builds and runs the wheel",
    "docs/guides/deploy.md": "needs Docker and a cluster; test_deploy.py reads the manifests",
    "docs/guides/edge.md": "needs a small computer; test_runner.py has a bare Python",
    "docs/guides/find-by-example.md": "downloads FAISS, which test_similarity.py has",
    "docs/guides/many-machines.md": "needs machines and a cluster; test_ray.py has one",
    "docs/guides/many-pictures.md": "needs a cluster; test_batch_ray.py has one",
    "docs/guides/serving.md": "needs other clients; test_serving*.py and test_triton*.py ask so",
    "docs/guides/several-gpus.md": "needs GPUs; test_distributed.py runs two processes on a CPU",
    "docs/guides/torchserve.md": "needs Java; test_torchserve.py runs it where there is one",
    "docs/guides/triton.md": "needs NVIDIA's server: make test-triton",
}
SHORT = ("--weights", "none", "--recipe", "scratch", "--model", TINY_BACKBONE, "--epochs", "1")
SMALL = ("--set", "preprocessing.size=32")
ADDED = {
    "train": (*SHORT, *SMALL),
    "evaluate": ("--no-explain",),
    "benchmark": ("--threads", "1", "--seconds", "0.02"),
}
# What a model of one epoch may not reach: a gate, or a promise. Everything else must succeed.
MAY_MISS = ("--gate", "--abstain", "--target", "--fail-if-worse")
SERVER = "http://127.0.0.1:8000"  # where pages have theirs; in tests it takes a free port
RUN = ("sh", "python")
TYPED = re.compile(r"^(\$ |taxon |curl |pip |docker |kubectl |make |python3? |torchrun )", re.M)
BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.S
)


@pytest.fixture
def samples(defects: Path, tags: Path, surfaces: Path) -> dict[str, Path]:
    """What `taxon sample-data` would write, smaller."""
    return {"defects": defects, "tags": tags, "taxonomy": surfaces}


def _pages() -> list[str]:
    """The pages with something to run."""
    pages = {path.relative_to(DOCS).with_suffix("").as_posix(): path for path in DOCS.rglob("*.md")}
    return sorted(
        name
        for name, path in pages.items()
        if {block["language"] for block in BLOCK.finditer(path.read_text("utf-8"))} & set(RUN)
    )


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """What stands for the Hugging Face Hub."""
    with fake_hub() as server:
        yield server


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.split("/")[-1] in LONG else ())
        for name in _pages()
    ],
)
def test_guide(
    name: str,
    samples: dict[str, Path],
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    if name == "guides/hub":
        use_hub(hub.url, tmp_path / "hub", monkeypatch, "hf_ann")
    if "taxon verify" not in text:
        for module in (training, refitting):
            monkeypatch.setattr(module, "export_own_onnx", _without_artefacts)
            monkeypatch.setattr(module, "write_calibration_reference", lambda run, manifest: None)
    if "--budget-ms" in text:
        monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "cache"))
        _keep_latencies()
    ran = 0
    with Server() as server:
        for block in BLOCK.finditer(text):
            if block["file"] is not None:
                Path(block["file"]).write_text(block["text"])
            elif block["language"] == "sh":
                for command in _commands(block["text"]):
                    _run(command, samples, server)
                    ran += 1
            elif block["language"] == "python":
                exec(server.addressed(block["text"]), {"__name__": "__main__"})
    assert ran >= 2


def test_what_no_test_runs_has_a_reason() -> None:
    """Every other fence is of a language that is run, printed by a command, or another's."""
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    typed = {}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        languages = {block["language"] for block in BLOCK.finditer(text)}
        fences = re.findall(r"^```", text, re.M)
        assert len(fences) == 2 * len(BLOCK.findall(text)), f"{page}: a fence without a language"
        assert languages <= {*RUN, "text", "console", "yaml", "json", "swift", "kotlin"}, page
        printed = [block["text"] for block in BLOCK.finditer(text) if block["language"] == "text"]
        assert not any(TYPED.search(each) for each in printed), f"{page}: a command in `text`"
        if "console" in languages:
            typed[page.relative_to(ROOT).as_posix()] = page
    assert set(typed) == set(NOT_RUN)


@pytest.mark.parametrize("name", sorted(path.stem for path in GUIDES.glob("*.md")))
def test_guides_are_short_and_their_links_lead_somewhere(name: str) -> None:
    text = (GUIDES / f"{name}.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)h#][^)#]*)[^)]*\)", text):
        assert (GUIDES / target).exists(), target


def _without_artefacts(run: Path) -> SimpleNamespace:
    (run / ARTEFACTS_FOLDER).mkdir(exist_ok=True)
    return SimpleNamespace(parity=())


def _commands(block: str) -> Iterator[list[str]]:
    """The words of each line; a comment is none."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] in ("taxon", "curl"), line
            yield words


def _run(words: list[str], samples: dict[str, Path], server: Server) -> None:
    program, *command = words
    if program == "curl":
        asked = ["curl", "--silent", "--show-error", "--fail", *map(server.addressed, command)]
        subprocess.run(asked, check=True, capture_output=True, timeout=60)
        return
    if command[0] == "sample-data":
        shutil.copytree(samples[command[1]], command[2])
        return
    if command[0] == "serve":
        server.start(command)
        return
    added = [] if "--resume" in command else [*ADDED.get(command[0], ())]
    if command[0] == "train" and "--budget-ms" in command:
        added[added.index("--model") : added.index("--model") + 2] = []
    if command[0] == "train" and any(word.startswith("hf:") for word in command):
        added = ["--epochs", "1", *SMALL]
    done = taxon(*command, *added)
    allowed = (0, 3) if any(option in command for option in MAY_MISS) else (0,)
    assert done.returncode in allowed, (command, done.stdout, done.stderr)


class Server:
    """The server that a page starts; it ends with 0 when the next one starts, or the page ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._url = SERVER

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, command: list[str]) -> None:
        """Run `taxon serve`, and wait until it is ready."""
        self.stop()
        typed = [sys.executable, "-u", "-m", "taxon", *command, "--port", "0"]
        self._process = subprocess.Popen(typed, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        models = takewhile(lambda word: not word.startswith("-"), command[1:])
        assert said.startswith(f"serving {' '.join(models)} at http://"), said
        self._url = said.split(" at ")[1].split()[0]

    def stop(self) -> None:
        """End it, where there is one."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(30) == 0
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def addressed(self, text: str) -> str:
        """A text with the server's own address in it."""
        return text.replace(SERVER, self._url)


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
