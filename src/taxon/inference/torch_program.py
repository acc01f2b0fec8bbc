"""The backend of a program of torch.export."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from taxon.bundle import ModelSpec
from taxon.core.errors import BundleError, reason_of
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs, carried_spec

SPEC_FILE = "taxon.spec.json"


class TorchProgramBackend:
    """A .pt2 file that `taxon export` wrote.

    Args:
        file: the .pt2 file.
        threads: that compute one batch, set for the whole process; None: as torch has it.

    Raises:
        BundleError: it does not load.
    """

    name = "torch-export"

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._file = file
        _require_no_code(file)
        extra = {SPEC_FILE: ""}
        try:
            program = torch.export.load(file, extra_files=extra)
        except Exception as error:  # zip, pickle and torch errors of many kinds
            reason = reason_of(error)
            raise BundleError(f"{file} cannot be loaded by torch.export: {reason}") from error
        self._spec = extra[SPEC_FILE]
        self._module = program.module()

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        with torch.no_grad():
            probabilities, logits, *scope = (each.numpy() for each in self._module(tensor))
        return Outputs(logits, probabilities, *scope)

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries.

        Raises:
            BundleError: it carries none.
        """
        return carried_spec(self._spec, self._file)


def _require_no_code(file: Path) -> None:
    """Refuse an archive that torch would read with pickle, which runs what it is told to.

    What `taxon export` writes holds plain tensors; its example input loads as nothing but that.

    Raises:
        BundleError: it holds something else, or is no such archive.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            configs = [name for name in names if name.endswith("_config.json")]
            pickled = [name for name in configs if _names_pickle(json.loads(archive.read(name)))]
            others = [name for name in names if name.endswith(".pt")]
            examples = [name for name in others if "/sample_inputs/" in name]
            pickled += [name for name in others if name not in examples]
            pickled += [name for name in names if "/custom_obj" in name]
            for name in examples:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file} cannot be loaded by torch.export: {reason_of(error)}") from error
    except pickle.UnpicklingError as error:
        raise BundleError(f"{file} refused: its example input is no plain tensor") from error
    if pickled:
        raise BundleError(
            f"{file} refused: {pickled[0]} in it is a pickle, which could run anything; "
            "`taxon export` writes none"
        )


def _names_pickle(config: object) -> bool:
    """Whether a configuration says anywhere that pickle was used."""
    if isinstance(config, dict):
        return bool(config.get("use_pickle")) or any(map(_names_pickle, config.values()))
    return isinstance(config, list) and any(map(_names_pickle, config))
