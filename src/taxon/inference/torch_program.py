"""The backend of a program of torch.export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from taxon.bundle import ModelSpec
from taxon.core.errors import BundleError
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs

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
        extra = {SPEC_FILE: ""}
        try:
            program = torch.export.load(file, extra_files=extra)
        except Exception as error:  # zip, pickle and torch errors of many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
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
        try:
            return ModelSpec.model_validate_json(self._spec)
        except ValidationError as error:
            raise BundleError(f"{self._file} carries no class names or preprocessing") from error
