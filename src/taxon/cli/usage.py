"""What is said of a command line that cannot be understood, in one line."""

from __future__ import annotations

from itertools import pairwise

from typer.exceptions import TyperException

from taxon.core.errors import ConfigError


def usage_words(error: TyperException, arguments: list[str]) -> str:
    """Say what is wrong, what was received where that is known, and where to look."""
    message = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    received = _value(arguments, getattr(getattr(error, "param", None), "opts", []))
    if received is not None and received not in message:
        message += f", received {received}"
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", None) or "taxon"
    join = " " if message.endswith("?") else "; "
    return f"{message[:1].lower()}{message[1:]}{join}`{command} --help` lists what is allowed"


def require_no_empty_word(arguments: list[str]) -> None:
    """Refuse an empty word: of an unset shell variable, it would mean the current folder.

    Raises:
        ConfigError: there is one.
    """
    for before, word in pairwise(arguments):
        if not word:
            raise ConfigError(
                f"the word after '{before}' is empty (an unset variable?); write it out, '.' for "
                "the current folder, or leave the option out"
            )


def _value(arguments: list[str], names: list[str]) -> str | None:
    """The value that the last option of one of these names was given."""
    names = [name for name in names if name.startswith("-")]  # an argument's name is never typed
    found = None
    for position, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in names:
            following = arguments[position + 1] if position + 1 < len(arguments) else None
            found = value if equals else following
    return found
