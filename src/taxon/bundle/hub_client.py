"""The client of the Hugging Face Hub: its errors in one line, and its bars only where they help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from taxon.core.errors import HubError, TaxonError, reason_of

REACH_SECONDS = 5.0
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
# In the order in which they are looked for: some are special cases of others.
_OFFLINE = ("OfflineModeIsEnabled",)
_NOT_CACHED = ("IncompleteSnapshotError", "LocalEntryNotFoundError")
_UNREACHABLE = ("ConnectError", "ConnectionError", "TimeoutException", "Timeout", "TransportError")


@contextmanager
def as_hub_errors(what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `HubError`.

    Its errors are told by their names, which have stayed while its HTTP client was exchanged.

    Args:
        what: the model, as the user named it.
    """
    _hide_bars()
    try:
        yield
    except (TaxonError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise HubError(_words(error, what)) from error


def require_reach() -> None:
    """Ask the hub for anything, with a short limit: a download alone would try for half a minute.

    Raises what the client raises; `as_hub_errors` says it in words.
    """
    from huggingface_hub import get_session

    get_session().head(endpoint(), timeout=REACH_SECONDS)


def endpoint() -> str:
    """The address of the hub: `HF_ENDPOINT`, or the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def _hide_bars() -> None:
    """Leave progress bars out of logs and pipes."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def _words(error: Exception, what: str) -> str:
    if _is(error, *_NOT_CACHED):
        return _not_cached(error, what)
    if _is(error, *_OFFLINE):
        return f"HF_HUB_OFFLINE is set: {endpoint()} is not asked for {what}; unset it"
    if _is(error, "GatedRepoError"):
        return (
            f"{what} is gated: its owner must let you in. Ask on {endpoint()}, then {LOG_IN} as "
            "the one who was let in"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 and _is_own_refusal(error):
        return f"{endpoint()} does not know this token; {LOG_IN}"
    if _is(error, "RepositoryNotFoundError") or status == 401:
        return (
            f"{endpoint()} shows no model {what}: there is none, or it is private and your token "
            f"does not open it. Check the name, or {LOG_IN}"
        )
    if _is(error, "RevisionNotFoundError"):
        return f"{what}: there is no such branch, tag or commit on {endpoint()}"
    if status == 403:
        return (
            f"{endpoint()} does not let this token do that with {what}; take one that may write "
            f"there ({LOG_IN}), or another user/name"
        )
    if status is not None:
        return f"{endpoint()} answered {status} about {what}: {_message(error)}"
    if _is(error, *_UNREACHABLE):
        return f"cannot reach {endpoint()} ({reason_of(error)}) for {what}"
    if isinstance(error, OSError) and error.filename:
        return f"{what}: {error.filename}: {error.strerror or error}"
    return f"{what}: {reason_of(error)}"


def _not_cached(error: Exception, what: str) -> str:
    from huggingface_hub import constants

    cause = error.__cause__
    if cause is None or _is(cause, *_OFFLINE):
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = f"{endpoint()} cannot be used ({_message(cause)})"
    return (
        f"{what} is not, or not wholly, in the cache {constants.HF_HUB_CACHE}, and {reason}; "
        "name it once with a connection, or name a model folder"
    )


def _is(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _is_own_refusal(error: Exception) -> bool:
    """Whether the token itself was refused, and not the repository kept from it."""
    return any(word in _message(error).lower() for word in ("credentials", "token"))


def _message(error: BaseException) -> str:
    """What the server said, in one line."""
    said = getattr(error, "server_message", None)
    text = str(said or error).strip() or type(error).__name__
    return " ".join(text.split())[:300]
