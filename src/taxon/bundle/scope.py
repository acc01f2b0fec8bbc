"""The bank of a bundle: features of training pictures, by which the graph tells what is new."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from taxon.bundle.layout import SCOPE_FILE
from taxon.core.errors import BundleError, OutputError
from taxon.core.files import atomic_file
from taxon.core.predictions import FloatArray

_BANK = "bank"


def write_bank(folder: Path, bank: FloatArray | None) -> None:
    """Write scope.safetensors; without a bank there is none.

    Args:
        bank: float32 [M, F].
    """
    path = folder / SCOPE_FILE
    if bank is None:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        try:
            save_file({_BANK: bank}, temporary)
        except SafetensorError as error:  # a full disk, among others; it is no OSError
            raise OutputError(f"cannot write {path}: {error}") from error


def read_bank(folder: Path) -> FloatArray | None:
    """Read the bank, float32 [M, F]; None where the bundle has none.

    Raises:
        BundleError: damaged.
    """
    path = folder / SCOPE_FILE
    if not path.exists():
        return None
    try:
        return load_file(path)[_BANK]
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
