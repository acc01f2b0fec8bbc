"""The one exception tree of taxon.

    TaxonError
    ├── InputError                 exit code 2: what the user gave is wrong
    │   ├── DataError              a data set, a table, labels, a split
    │   │   └── ImageError         one picture that cannot be read
    │   ├── ConfigError            an option, a recipe, a YAML file
    │   ├── DivergedError          training went to infinity under this configuration
    │   ├── WeightsError           pretrained weights: absent, unreachable, of another shape
    │   ├── BundleError            a model folder or artefact: absent, altered, of a newer format
    │   ├── HubError               the Hugging Face Hub: out of reach, no such model, no permission
    │   ├── OutputError            an output path: exists, not writable, disk full
    │   └── MissingDependencyError an optional package, with the line that installs it
    ├── Interrupted                exit code 130: asked to stop; the state is saved
    ├── OwnError                   exit code 2: one of several processes cannot go on
    ├── LostProcessError           exit code 1: another one of several processes died
    └── CheckFailed                exit code 3: a check said no (verify, unreadable pictures)

A message says what was wrong, what was received, what is allowed and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal


class TaxonError(Exception):
    """Base of every error that taxon raises on purpose."""

    exit_code = 1


class InputError(TaxonError):
    """What the user gave cannot be used as it is."""

    exit_code = 2


class DataError(InputError):
    """A data set, table, label or split cannot be used."""


ImageProblem = Literal[
    "missing", "empty", "format", "truncated", "damaged", "too-large", "changed", "name"
]


class ImageError(DataError):
    """One picture cannot be read; `reason` says why, without the path, and `kind` in a word."""

    def __init__(self, source: str, reason: str, kind: ImageProblem = "damaged") -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason
        self.kind: ImageProblem = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, ImageProblem]]:
        """Errors travel from loading processes."""
        return ImageError, (self.source, self.reason, self.kind)


class ConfigError(InputError):
    """An option, recipe or configuration value is not allowed."""


class DivergedError(InputError):
    """Training went to infinity under this configuration."""


class WeightsError(InputError):
    """Pretrained weights are absent, unreachable or of another shape."""


class BundleError(InputError):
    """A model folder or artefact is absent, altered or of an unknown format."""


class HubError(InputError):
    """The Hugging Face Hub is out of reach, has no such model, or refuses."""


class OutputError(InputError):
    """An output path exists already, cannot be written, or the disk is full."""


class MissingDependencyError(InputError):
    """An optional package is not installed (or does not import)."""


class Interrupted(TaxonError):
    """The user, or the system, asked a command to stop; what it had done is saved."""

    exit_code = 130


class OwnError(TaxonError):
    """One of several processes cannot go on; the others do not know why, so it says so itself."""

    exit_code = 2


class LostProcessError(TaxonError):
    """Another one of several processes died, or hangs."""


class CheckFailed(TaxonError):
    """A check that the user asked for said no."""

    exit_code = 3


def nearest(received: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest allowed name, or an empty string."""
    matches = difflib.get_close_matches(received, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def reason_of(error: Exception) -> str:
    """Return an error in a line, to stand in a table; its kind too where it is none of ours."""
    first = next(iter(str(error).strip().splitlines()), "")
    return first if isinstance(error, TaxonError) else f"{type(error).__name__}: {first}"[:300]
