"""The artefact that gives a model's features: written once, when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taxon.bundle.artefact import artefact_folder
from taxon.bundle.hub import in_cache, local_folder, typed_name
from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.errors import BundleError
from taxon.inference.embedder import FEATURES_FORMAT, features_file


def ensure_features(run: str | Path, *, tell: Callable[[str], None] | None = None) -> None:
    """Write the artefact `onnx-features` of a model folder where it lacks one, or has an old one.

    What is no model folder is left as it is: an artefact alone either gives features or does not.
    Needs torch if there is something to write.

    Args:
        tell: is told what is written, and that it is equal to the model, a sentence each.

    Raises:
        BundleError: no model folder that can be read; or one in the hub's cache lacks it.
        MissingDependencyError: torch is not installed.
        OutputError: the model folder cannot be written.
        CheckFailed: what was written is not equal to the model.
    """
    path, tell = local_folder(run, (FEATURES_FORMAT,)), tell or _nothing
    if not (path / BUNDLE_FILE).is_file():
        return
    folder = artefact_folder(path, FEATURES_FORMAT)
    reason = "has no such artefact yet"
    if folder.is_dir():
        try:
            features_file(path)
        except BundleError as error:
            reason = f"has one that cannot be used: {error}"
        else:
            return
    if in_cache(path):
        raise BundleError(
            f"{typed_name(path)} {reason}, and the hub's cache is only read; push it with its "
            f"features: taxon export RUN --to {FEATURES_FORMAT}, then taxon push RUN NAME "
            f"--artefacts onnx,{FEATURES_FORMAT}"
        )
    from taxon.api.exporting import export_own_features
    from taxon.exporters import artefact_reports

    tell(f"writing {folder}, which gives the model's features; the model folder {reason}")
    for report in artefact_reports(export_own_features(path)):
        tell(report.sentence())


def _nothing(_: str) -> None:
    """Tell nobody."""
