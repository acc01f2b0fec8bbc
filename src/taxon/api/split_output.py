"""Where a split may be written, and how."""

from __future__ import annotations

import re
from pathlib import Path

from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.errors import ConfigError, OutputError
from taxon.core.files import require_free, require_writable
from taxon.data import write_manifest
from taxon.data.manifest import is_manifest
from taxon.data.manifest_table import is_manifest_table, write_manifest_table
from taxon.data.sources.read import TABLES_IN_FOLDER

FIRST_FOLD = "fold-1.parquet"
_FOLD = re.compile(r"fold-\d+\.parquet")
WRITERS = {".parquet": write_manifest, ".csv": write_manifest_table}


def require_output(
    source: Path, manifest: Path, target: Path, folds: int | None, overwrite: bool
) -> None:
    """Refuse an output that is no manifest's name, exists, or would replace anything foreign.

    Args:
        source: the data as they were named.
        manifest: the file that is read of them.
        target: a manifest, or a folder of them with folds.

    Raises:
        ConfigError: a name that does not fit.
        OutputError: `target` exists and may not be replaced, or it is the data.
    """
    is_file_name = target.suffix.lower() in WRITERS
    if folds is not None:
        if is_file_name:
            raise ConfigError(f"with folds --out is a folder, received {target}; leave the suffix")
        require_free(target, replace_if=FIRST_FOLD if overwrite else None, ours=_is_fold)
    elif not is_file_name:
        raise ConfigError(f"--out must end in .parquet or .csv, received {target}")
    elif target.is_dir():
        raise OutputError(f"{target} is a folder; name a file in it, or another one")
    else:
        _require_replaceable(target, overwrite)
    tables = {source / name for name in TABLES_IN_FOLDER}
    sources = {source, manifest, *tables}
    held = {path.resolve() for path in sources if path.exists()}
    if any(path.is_relative_to(target.resolve()) for path in held):
        raise OutputError(f"{target} would replace the data in {source}; choose another --out")
    if target.resolve() in {path.resolve() for path in tables}:
        raise OutputError(
            f"from then on {target} would be read as the table of the pictures in {source}; "
            "choose another --out"
        )
    require_writable(target)


def _require_replaceable(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise OutputError(f"{target} exists; choose another --out, or add --overwrite")
    if (target.parent / BUNDLE_FILE).exists():
        raise OutputError(f"{target} belongs to a model; choose another --out")
    if not (is_manifest(target) or is_manifest_table(target)):
        raise OutputError(
            f"refused to replace {target}: taxon did not write it; choose another --out"
        )


def _is_fold(name: str) -> bool:
    return _FOLD.fullmatch(name) is not None
