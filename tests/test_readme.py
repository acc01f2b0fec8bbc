"""The README's commands and its Python run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# What makes them short; the commands themselves are the README's.
SHORT = {
    "train": ["--epochs", "1", "--set", "preprocessing.size=64"],
    "evaluate": ["--no-explain"],
}


def _block(language: str) -> str:
    found = re.search(rf"<!-- tested[^>]*-->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _thin_out(photos: Path) -> None:
    """Keep every third picture of each class, so that what follows takes a third of the time."""
    for folder in (each for each in photos.iterdir() if each.is_dir()):
        for place, picture in enumerate(sorted(folder.iterdir())):
            if place % 3:
                picture.unlink()


def test_commands(tmp_path: Path) -> None:
    commands = [shlex.split(line, comments=True) for line in _block("sh").splitlines()]
    assert [command[1] for command in commands] == [
        *("sample-data", "train", "evaluate", "predict", "export", "verify", "serve"),
    ]
    for command in commands[:-1]:
        done = _run([*command, *SHORT.get(command[1], [])], tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        if command[1] == "sample-data":
            assert "taxon train" in done.stdout
            _thin_out(tmp_path / command[3])
    for file in ("model/metrics.json", "model/report/report.html", "answers.csv"):
        assert (tmp_path / file).is_file()
    serve = [sys.executable, "-u", "-m", *commands[-1][:-1], "0"]  # a free port
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
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
