"""Completion in the shell: the scripts in real shells, and what is offered where."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from commands import fails, taxon
from test_surface import HEAVY

from taxon.cli import benchmark, completion, export
from taxon.cli.main import app
from taxon.config import ImbalanceStrategy, TrackerName
from taxon.config.load import RECIPES
from taxon.data.samples import SAMPLE_KINDS
from taxon.models.zoo import ZOO

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `taxon` as a program, and with what could be completed by its name."""
    made = tmp_path_factory.mktemp("shell")
    program = made / "bin" / "taxon"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m taxon "$@"\n')
    program.chmod(0o755)
    (made / "photos of cracks").mkdir()
    return made


def _shell(folder: Path, *words: str) -> list[str]:
    """Run a shell; return the lines that it prints."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    done = subprocess.run(
        words,
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
        },
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def _script(shell: str, folder: Path) -> str:
    done = taxon("completion", shell)
    assert done.returncode == 0
    (folder / shell).write_text(done.stdout)
    return f"source {shlex.quote(str(folder / shell))}"


def _in_bash(folder: Path, *words: str) -> list[str]:
    """What bash has for the last of these words; it takes `=` for a word."""
    line = shlex.join(words)
    return _shell(
        *(folder, "bash", "--norc", "-c"),
        f"{_script('bash', folder)}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        '_taxon_completion taxon; printf "%s\\n" "${COMPREPLY[@]}"',
    )


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["taxon", ""], COMMANDS),
        (["taxon", "train", "--resu"], ["--resume"]),
        (
            ["taxon", "train", "--model", "efficientnet_l"],
            [f"efficientnet_lite{n}" for n in range(5)],
        ),
        (["taxon", "train", "--recipe", "=", "f"], ["finetune"]),
        (["taxon", "train", "--recipe", "="], sorted(RECIPES)),
        (["taxon", "export", "run", "--to", "onnx,tor"], ["onnx,torch-export", "onnx,torchserve"]),
        (["taxon", "predict", "photos of"], []),  # a path: bash completes it by itself
    ],
)
def test_bash_offers(words: list[str], offered: list[str], folder: Path) -> None:
    assert sorted(_in_bash(folder, *words)) == offered


def test_bash_completes_paths_where_taxon_offers_nothing(folder: Path) -> None:
    (line,) = _shell(
        folder, "bash", "--norc", "-c", f"{_script('bash', folder)}; complete -p taxon"
    )
    assert line == "complete -o default -F _taxon_completion taxon"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("taxon comp", ["compare", "completion"]),
        ("taxon sample-data t", ["tags", "taxonomy"]),
        ("taxon audit photos", ["photos of cracks/"]),
    ],
)
def test_fish_offers(line: str, offered: list[str], folder: Path) -> None:
    found = _shell(
        *(folder, "fish", "--no-config", "--command"),
        f"{_script('fish', folder)}; complete --do-complete {shlex.quote(line)}",
    )
    assert [each.partition("\t")[0] for each in found] == offered


def test_zsh_understands_its_script(folder: Path) -> None:
    """Zsh completes only where somebody types; what it would evaluate is looked at."""
    source = f"autoload -U compinit; compinit -D; {_script('zsh', folder)}"
    (line,) = _shell(folder, "zsh", "-f", "-c", f"{source}; print -r -- $_comps[taxon]")
    assert line == "_taxon"
    # The function, with what the completion system would give it, and a stand-in for its builtin.
    said = _shell(
        *(folder, "zsh", "-f", "-c"),
        f'{source}; _arguments() {{ print -r -- "$@" }}; words=(taxon sample-data ta); CURRENT=3; '
        "_taxon",
    )
    assert "tags" in " ".join(said) and "taxonomy" in " ".join(said) and "defects" not in said


def test_values_are_those_that_there_are() -> None:
    every = ",".join
    assert completion.recipes("") == list(RECIPES)
    assert completion.backbones("") == [entry.name for entry in ZOO]
    assert completion.strategies("") == list(get_args(ImbalanceStrategy))
    assert completion.strategies("focal,class") == ["focal,class-weights"]
    assert completion.strategies("focal,n") == []  # refused together
    for formats in (export.FORMATS, benchmark.FORMATS):
        names = [each.strip() for each in formats.split(",")]
        assert completion.several_of(formats)("") == names
        assert completion.several_of(formats)(f"{every(names[:-1])},") == [every(names)]
    assert _offered("sample-data", "kind") == list(SAMPLE_KINDS)
    assert _offered("train", "track") == list(get_args(TrackerName))


def _offered(command: str, name: str) -> list[str]:
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    (parameter,) = (each for each in found.params if each.name == name)
    context = found.make_context(command, [], resilient_parsing=True)
    return [item.value for item in parameter.shell_complete(context, "")]


@pytest.mark.parametrize("line", ["taxon train --model ", "taxon train --recipe ", "taxon "])
def test_nothing_heavy_is_imported_to_complete(line: str) -> None:
    program = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
        "from taxon.cli.main import run; sys.exit(run([]))"
    )
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **asked, completion.VARIABLE: "complete_bash"},
    )
    assert done.stdout.split()
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "taxon" in loaded and not loaded & (HEAVY | {"onnxruntime", "fastapi"})


def test_another_shell_is_refused() -> None:
    fails(2, "completion", "tcsh", saying="'tcsh' is not one of 'bash', 'zsh', 'fish'")
