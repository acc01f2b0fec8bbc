"""The command line, as a process of its own and within this one."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from taxon.cli.main import run as run_cli

Done = subprocess.CompletedProcess[str]
COLUMNS = "100"
# In place of `-m taxon`, for a training of whose artefact nothing is asked.
QUICK_TAXON = str(Path(__file__).with_name("quick_taxon.py"))


def taxon_process(
    *arguments: str | Path, text: str | None = None, largest_file: int | None = None
) -> Done:
    """Run `python -m taxon` with these arguments; it imports torch anew, which takes seconds.

    Args:
        largest_file: bytes; of larger files the end cannot be written, as on a full disk.
    """

    def limit() -> None:
        assert largest_file is not None
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-m", "taxon", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=text,
        timeout=300,
        preexec_fn=None if largest_file is None else limit,
        env={**os.environ, "COLUMNS": COLUMNS},
    )


def taxon(*arguments: str | Path) -> Done:
    """Run the command line in this process, and return what `taxon_process` would."""
    words = [str(argument) for argument in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setenv("COLUMNS", COLUMNS)
        code = run_cli(words)
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Done(["taxon", *words], code, *texts)


def require_failure(done: Done, code: int, saying: str) -> str:
    """Check the exit code and that standard error ends with one clear line; return the line."""
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert lines and saying in lines[-1], done.stderr
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    return lines[-1]


def fails(code: int, *arguments: str | Path, saying: str) -> str:
    """Run in this process, and require this failure."""
    return require_failure(taxon(*arguments), code, saying)
