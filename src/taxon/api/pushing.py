"""Push: put a model on the Hugging Face Hub, in one commit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.api.publishing import Publication, publication
from taxon.bundle import Bundle, read_bundle
from taxon.bundle.hub import PREFIX, HubName, local_folder, parse_hub_name
from taxon.bundle.hub_client import LOG_IN, as_hub_errors, endpoint
from taxon.bundle.layout import ARTEFACTS_FOLDER, GOLDEN_FOLDER, METRICS_FILE, REFERENCE_FILE
from taxon.bundle.layout import SCOPE_FILE as BANK_FILE
from taxon.core.errors import ConfigError, HubError
from taxon.core.versions import taxon_version
from taxon.models.stack import require_torch_stack

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Pushed:
    """What was pushed, or would be.

    Attributes:
        repository: `user/name`.
        files: bytes of each file, by its name in the repository.
        notes: what its owner must know, in sentences.
        url: where the model can be looked at; None of a dry run.
        commit: its commit; None of a dry run.
    """

    repository: str
    files: dict[str, int]
    notes: tuple[str, ...]
    url: str | None = None
    commit: str | None = None


def push(
    path: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    artefacts: Sequence[str] | None = None,
    with_pictures: bool = False,
    dry_run: bool = False,
    before: Callable[[Pushed], None] | None = None,
) -> Pushed:
    """Upload a model folder to the Hugging Face Hub; the repository is made where there is none.

    Neither pictures nor the manifest go there. See `taxon.api.publishing` for what does.

    Args:
        path: the model folder.
        repository: `user/name`.
        private: make it private; an existing one that is public is refused.
        revision: a branch, made where there is none; None: the default one.
        message: of the commit.
        artefacts: names of artefacts of the folder; None: the ONNX, where there is one.
        with_pictures: push the golden pictures of the owner's data, too, and not generated ones.
        dry_run: upload nothing, and ask nobody.
        before: is given what will be uploaded, before anything is.

    Raises:
        BundleError: the folder, or an artefact, is damaged, altered or stale.
        CheckFailed: an artefact does not give the outputs of the generated golden pictures.
        ConfigError: a malformed name.
        HubError: no token, no permission, or the hub is out of reach.
    """
    name = parse_hub_name(f"{PREFIX}{repository.removeprefix(PREFIX)}")
    if name.revision is not None:
        raise ConfigError(
            f"'{repository}' names a revision; name the branch with --revision {name.revision}"
        )
    if revision is not None:
        name = parse_hub_name(f"{PREFIX}{name.repository}@{revision}")
    bundle = read_bundle(local_folder(path))
    if not dry_run:
        _require_way(name)
    require_torch_stack()
    with tempfile.TemporaryDirectory(prefix="taxon-") as temporary:
        found = publication(
            bundle,
            Path(temporary),
            name.repository,
            revision=revision,
            artefacts=artefacts,
            with_pictures=with_pictures,
        )
        planned = Pushed(name.repository, found.sizes, tuple(found.notes))
        if before is not None:
            before(planned)
        if dry_run:
            return planned
        url, commit = _upload(found, name, private, message or _message(bundle))
    return Pushed(name.repository, planned.files, planned.notes, url, commit)


def _message(bundle: Bundle) -> str:
    return f"{bundle.info.name}, fingerprint {bundle.info.fingerprint[:12]}"


def _require_way(name: HubName) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        HubError: the network is forbidden, or there is no token.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError(f"HF_HUB_OFFLINE is set, so nothing is pushed to {name}; unset it")
    if not get_token():
        raise HubError(f"there is no token for {endpoint()}; {LOG_IN}")


def _upload(
    found: Publication, name: HubName, private: bool, message: str
) -> tuple[str, str | None]:
    """Make one commit of all files; returns the URL and the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="taxon", library_version=taxon_version())
    repository, branch = name.repository, name.revision
    with as_hub_errors(str(name)):
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise HubError(
                f"{repository} is there already and is public; nothing was pushed. Make it private "
                "in its settings, or choose another name"
            )
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        stale = _stale(api, name, found)
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationDelete(path_in_repo=each) for each in stale),
                *(
                    CommitOperationAdd(path_in_repo=each, path_or_fileobj=content)
                    for each, content in found.files.items()
                ),
            ],
            commit_message=message,
            revision=branch,
        )
    return str(url) if branch is None else f"{url}/tree/{branch}", commit.oid


def _stale(api: HfApi, name: HubName, found: Publication) -> list[str]:
    """What an earlier push left that is not of this model."""
    ours = (f"{ARTEFACTS_FOLDER}/", f"{GOLDEN_FOLDER}/", BANK_FILE, METRICS_FILE, REFERENCE_FILE)
    there = api.list_repo_files(name.repository, revision=name.revision)
    return [each for each in there if each.startswith(ours) and each not in found.files]
