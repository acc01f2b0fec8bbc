"""`taxon completion`, and what the shell is told of values; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, get_args

import typer

from taxon.cli.shells import SCRIPTS

VARIABLE = "_TAXON_COMPLETE"


class Shell(StrEnum):
    """Shells that can complete taxon's words."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def command(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="Yours.", show_default=False)],
) -> None:
    """Print the script by which a shell completes commands, options and their values.

    For good, one of:

    taxon completion bash > ~/.local/share/bash-completion/completions/taxon

    taxon completion zsh > ~/.zfunc/_taxon   (with fpath+=~/.zfunc before compinit in .zshrc)

    taxon completion fish > ~/.config/fish/completions/taxon.fish
    """
    typer.echo(SCRIPTS[shell.value])


def is_asked() -> bool:
    """Whether it is the shell that asks, for what may follow; then Typer learns of the shells."""
    if VARIABLE not in os.environ:
        return False
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    return True


# Typer tells parameters by their names: what was typed is called `incomplete`.
Values = Callable[[str], list[str]]


def one_of(*values: str) -> Values:
    """Complete one of these."""

    def complete(incomplete: str) -> list[str]:
        return _matching(values, incomplete)

    return complete


def backbones(incomplete: str) -> list[str]:
    """Complete the name of a recommended backbone."""
    from taxon.models.zoo import ZOO

    return _matching((entry.name for entry in ZOO), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Complete the name of a recipe."""
    from taxon.config.load import RECIPES

    return _matching(RECIPES, incomplete)


def strategies(incomplete: str) -> list[str]:
    """Complete what may be done about rare classes."""
    from taxon.config import ImbalanceStrategy

    alone = ("auto", "none") if "," in incomplete else ()
    known = (each for each in get_args(ImbalanceStrategy) if each not in alone)
    return several_of(",".join(known))(incomplete)


def several_of(values: str) -> Values:
    """Complete the last of several, separated by commas; each is offered once.

    Args:
        values: all of them, separated likewise.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        left = (each.strip() for each in values.split(",") if each.strip() not in given)
        return [f"{before}{comma}{each}" for each in _matching(left, last)]

    return complete


def _matching(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]
