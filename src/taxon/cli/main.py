"""The `taxon` command: its sub-commands, and what becomes of errors."""

from __future__ import annotations

import io
import signal
import sys
import time
from typing import Annotated

import typer
from typer.exceptions import TyperException

from taxon.cli import (
    audit,
    benchmark,
    compare,
    completion,
    demo,
    deploy,
    doctor,
    embed,
    evaluate,
    export,
    models,
    predict,
    push,
    sample_data,
    search,
    serve,
    split,
    suggest,
    train,
    verify,
)
from taxon.cli.usage import require_no_empty_word, usage_words
from taxon.core.errors import InputError, Interrupted, OwnError, TaxonError
from taxon.core.processes import follows
from taxon.core.text import one_line

DEBUG = "--debug"
INTERRUPTED = 130

app = typer.Typer(
    name="taxon",
    no_args_is_help=True,
    add_completion=False,  # `taxon completion` names the shell
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a folder of images into a classifier that a team can trust and run.",
    epilog="New here? Type `taxon demo` to see all of it on generated pictures.",
)


def _show_version(value: bool) -> None:
    if value:
        from taxon.core.versions import taxon_version

        typer.echo(f"taxon {taxon_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_show_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show a traceback on errors.")] = False,
) -> None:
    """Turn a folder of images into a classifier that a team can trust and run."""


app.command("demo")(demo.command)
app.command("sample-data")(sample_data.command)
app.command("audit")(audit.command)
app.command("split")(split.command)
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("benchmark")(benchmark.command)
app.command("predict")(predict.command)
app.command("search")(search.command)
app.command("suggest")(suggest.command)
app.command("embed")(embed.command)
app.command("export")(export.command)
app.command("verify")(verify.command)
app.command("push")(push.command)
app.command("serve")(serve.command)
app.add_typer(deploy.app, name="deploy")
app.command("models")(models.command)
app.command("doctor")(doctor.command)
app.command("completion")(completion.command)


def main() -> None:
    """Run the command line and exit: 0 done, 1 a bug, 2 bad input, 3 a check said no, 130
    interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A redirected stream may have an old encoding (cp1252 on Windows); class names are Unicode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                encoding=None if stream.isatty() else "utf-8", errors="backslashreplace"
            )
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run with these arguments and return the exit code."""
    if follows() and not _is_training(arguments):
        return 0  # torchrun started several; the first does it
    debug = DEBUG in arguments
    arguments = [argument for argument in arguments if argument != DEBUG]
    if completion.is_asked():
        app(args=[], prog_name="taxon", standalone_mode=False)
        return 0
    if not arguments:
        app(args=["--help"], prog_name="taxon", standalone_mode=False)
        return InputError.exit_code
    try:
        require_no_empty_word(arguments)
        code = app(args=arguments, prog_name="taxon", standalone_mode=False)
    except SystemExit as end:
        # A pipe that nobody reads any more ends this way.
        return end.code if isinstance(end.code, int) else 0
    except TyperException as error:
        if debug:
            raise
        _say(f"error: {usage_words(error, arguments)}")
        return InputError.exit_code
    except Interrupted as end:
        _say(f"interrupted: {one_line(str(end))}")
        return end.exit_code
    except TaxonError as error:
        if debug:
            raise
        _say(f"error: {one_line(str(error))}", alone=isinstance(error, OwnError))
        return error.exit_code
    except OSError as error:
        if debug:
            raise
        words = f"{error.filename or 'system'}: {error.strerror or error}"
        _say(f"error: {one_line(words)}")
        return InputError.exit_code
    except Exception as error:
        if debug:
            raise
        print(
            f"internal error, please report it: {type(error).__name__}: {error}\n"
            f"(for the traceback: taxon {' '.join(arguments)} {DEBUG})",
            file=sys.stderr,
        )
        return 1
    if code == INTERRUPTED:
        _say("interrupted")
    return code if isinstance(code, int) else 0


def _is_training(arguments: list[str]) -> bool:
    """Whether several processes have a part in it."""
    shows = any(argument.startswith("--show-") for argument in arguments)
    return "train" in arguments[:2] and not shows


def _say(text: str, *, alone: bool = False) -> None:
    """Of several processes the first speaks for all; `alone`: the others know nothing of it."""
    if alone or not follows():
        print(text, file=sys.stderr)
    else:
        # Torchrun terminates all processes once one has ended; the first shall have spoken then.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1)
