"""The README's commands and its Python run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import taxon, taxon_process
from conftest import TINY_BACKBONE

from taxon.api import sampling

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# What makes them short; the commands themselves are the README's.
SHORT = {
    "train": ["--model", TINY_BACKBONE, "--epochs", "1", "--set", "preprocessing.size=64"],
    "evaluate": ["--no-explain"],
}
# Processes of their own; the others, which import torch as these do, run in this one.
PROCESSES = ("train", "predict")


def _block(language: str) -> str:
    found = re.search(rf"<!-- tested[^>]*-->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Of fewer and smaller pictures, and else the command as it is.
    made = partial(sampling.generate_samples, size=64, count=180)
    monkeypatch.setattr(sampling, "generate_samples", made)
    commands = [shlex.split(line, comments=True) for line in _block("sh").splitlines()]
    assert [command[1] for command in commands] == [
        *("sample-data", "train", "evaluate", "predict", "export", "verify", "serve"),
    ]
    for _, *command in commands[:-1]:
        run = taxon_process if command[0] in PROCESSES else taxon
        done = run(*command, *SHORT.get(command[0], []))
        assert done.returncode == 0, (command, done.stderr)
        if command[0] == "sample-data":
            assert "taxon train" in done.stdout
    for file in ("model/metrics.json", "model/report/report.html", "answers.csv"):
        assert (tmp_path / file).is_file()
    serve = [sys.executable, "-u", "-m", *commands[-1][:-1], "0"]  # a free port
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "serving model at http://" in process.stdout.readline()
        process.terminate()
        assert process.wait(30) == 0


def test_python(
    defects: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").symlink_to(defects)
    code = (
        _block("python")
        .replace('weights="none"', 'weights="none", epochs=1, overrides=["preprocessing.size=64"]')
        .replace(".evaluate()", ".evaluate(explain=False)")
    )
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})
    out, err = capfd.readouterr()
    assert err == ""  # a library says nothing of its own accord
    assert "value=" in out


def test_files_that_the_readme_names_exist() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (root / target).exists(), target


def test_the_site_begins_with_the_same_blocks() -> None:
    home = (Path(__file__).parents[1] / "docs" / "index.md").read_text(encoding="utf-8")
    shown = re.findall(r"```console\n(.*?)```", home, re.DOTALL)
    assert shown == [_block("sh"), _block("python")]
