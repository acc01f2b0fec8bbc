"""Models of the Hugging Face Hub: `hf:user/name[@revision]` in place of a model folder.

They are downloaded into the cache of huggingface_hub and only read there. Its files are links to
blobs that other revisions share, so nothing is ever written into a snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxon.bundle.hub_client import as_hub_errors, require_reach
from taxon.bundle.layout import (
    ARTEFACTS_FOLDER,
    BUNDLE_FILE,
    CARD_FILE,
    GOLDEN_FOLDER,
    HASHED_FILES,
    OPTIONAL_FILES,
    REFERENCE_FILE,
)
from taxon.core.errors import ConfigError, HubError, MissingDependencyError, OutputError

PREFIX = "hf:"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[\w][\w./+-]*", re.ASCII)
# What answering, serving and comparing need; pictures, reports and other artefacts stay there.
_FILES = (BUNDLE_FILE, CARD_FILE, REFERENCE_FILE, *HASHED_FILES, *OPTIONAL_FILES)


@dataclass(frozen=True)
class HubName:
    """A repository of the hub.

    Attributes:
        repository: `user/name`.
        revision: a branch, tag or commit; None: the default branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{at}"


def is_hub_name(path: str | Path) -> bool:
    """Whether a model is named on the hub."""
    return _text(path).startswith(PREFIX)


def parse_hub_name(path: str | Path) -> HubName:
    """Read `hf:user/name[@revision]`.

    Raises:
        ConfigError: malformed.
    """
    text = _text(path).removeprefix(PREFIX)
    repository, at, revision = text.partition("@")
    require_repository(repository, f"'{PREFIX}{text}'")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ConfigError(
            f"'{PREFIX}{text}' has no revision after its @, or an odd one; name a branch, tag or "
            f"commit, say {PREFIX}{repository}@main"
        )
    return HubName(repository, revision or None)


def require_repository(repository: str, typed: str) -> None:
    """Refuse what the hub would not take for the name of a repository.

    Raises:
        ConfigError: malformed.
    """
    odd = any(part in repository for part in ("--", "..")) or repository.endswith(("-", ".git"))
    if odd or not _NAME.fullmatch(repository):
        raise ConfigError(
            f"{typed} is no name on the hub: that is user/name, each of letters, digits, '-', '_' "
            f"and '.', say {PREFIX}ann/defects"
        )


def local_folder(path: str | Path, artefacts: Sequence[str] = ("onnx",)) -> Path:
    """Return where a model lies: of an `hf:` name its snapshot, of any other the path itself.

    Args:
        artefacts: which of a model of the hub are downloaded.

    Raises:
        ConfigError: a malformed name.
        HubError: not there, out of reach, or no model of taxon.
    """
    if not is_hub_name(path):
        return Path(path)
    name = parse_hub_name(path)
    patterns = [f"{ARTEFACTS_FOLDER}/{artefact}/*" for artefact in artefacts]
    return download(
        name,
        BUNDLE_FILE,
        [*_FILES, f"{GOLDEN_FOLDER}/*", *patterns],
        lacking=f"{name} is no model of taxon: there is no {BUNDLE_FILE} in it; name one that "
        "`taxon push` made",
    )


def download(name: HubName, first: str, patterns: Sequence[str], *, lacking: str) -> Path:
    """Return the snapshot of a repository, with the files of these names.

    Args:
        first: the file that must be there; asked for alone, so that nothing large comes for
            nothing.
        lacking: what is said where it is not.

    Raises:
        HubError: not there, or out of reach.
        MissingDependencyError: huggingface_hub is not installed.
    """
    # Imported here: it takes half a second, and most models lie in folders.
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:  # a server may be installed without it
        raise MissingDependencyError(
            f"{name} is a model of the hub, and its client does not import ({error}); type: pip "
            "install huggingface_hub"
        ) from error

    with as_hub_errors(str(name)):
        cached = hub.try_to_load_from_cache(name.repository, first, revision=name.revision)
        if not isinstance(cached, str) and not hub.constants.HF_HUB_OFFLINE:
            require_reach()
        try:
            file = Path(hub.hf_hub_download(name.repository, first, revision=name.revision))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            raise HubError(lacking) from error
        commit = file.parents[first.count("/")].name
        # By the commit, so that all files are of one state, whatever is pushed meanwhile.
        snapshot = hub.snapshot_download(
            name.repository, revision=commit, allow_patterns=list(patterns)
        )
    return Path(snapshot)


def in_cache(path: Path) -> bool:
    """Whether a folder is a snapshot in the hub's cache."""
    folder = path.absolute()
    return folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--")


def own_name(path: Path) -> str:
    """The last part of a model's path; of a snapshot the name of its repository."""
    folder = path.resolve()
    if in_cache(folder):
        return folder.parents[1].name.rpartition("--")[2]
    return folder.name


def typed_name(path: Path) -> str:
    """What a user may type for a model: of a snapshot its `hf:` name."""
    if not in_cache(path):
        return str(path)
    folder = path.absolute()
    _, user, name = folder.parents[1].name.split("--")
    return str(HubName(f"{user}/{name}"))


def require_out(path: Path, typed: str | Path, option: str = "--out") -> None:
    """Refuse to write into a snapshot.

    Args:
        path: the model folder.
        typed: as the user named it.

    Raises:
        OutputError: it is one.
    """
    if in_cache(path):
        raise OutputError(
            f"{typed} lies in the hub's cache, which is only read; say where to write: {option} "
            "FOLDER"
        )


def require_changeable(path: Path, typed: str | Path) -> None:
    """Refuse to change a snapshot.

    Args:
        path: the model folder.
        typed: as the user named it.

    Raises:
        OutputError: it is one.
    """
    if in_cache(path):
        raise OutputError(
            f"{typed} lies in the hub's cache, which is only read, and its training pictures are "
            "not there: the policy is fitted where the model was trained"
        )


def _text(path: str | Path) -> str:
    """A name as it was typed; pathlib turns slashes round on Windows."""
    return path.as_posix() if isinstance(path, Path) else path
