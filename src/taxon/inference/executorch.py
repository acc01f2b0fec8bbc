"""The ExecuTorch backend: runs .pte files with XNNPACK."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.errors import BundleError, reason_of
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs, carried_spec

LARGEST_BATCH = 8
SPEC_METHOD = "taxon_spec"


class ExecuTorchBackend:
    """A .pte file that `taxon export` wrote.

    Args:
        file: the .pte file.
        threads: that compute one batch, set for the whole process; None: one a core.

    Raises:
        BundleError: it does not load.
    """

    name = "executorch"

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        from executorch.runtime import Runtime

        if threads is not None:
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

            _unsafe_reset_threadpool(threads)  # unsafe while another model computes

        self._file = file
        try:
            self._program = Runtime.get().load_program(file)
            self._method = self._program.load_method("forward")
        except Exception as error:  # RuntimeError with a number
            reason = reason_of(error)
            raise BundleError(f"{file} cannot be loaded by ExecuTorch: {reason}") from error
        self._largest_batch = self._method.metadata.input_tensor_meta(0).sizes()[0]
        self._lock = threading.Lock()  # one method has one plan of its memory

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]; more than it was planned for in several steps."""
        import torch

        parts: list[list[Any]] = []
        step = self._largest_batch
        for start in range(0, len(images), step):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + step]))
            with self._lock:
                # Outputs lie in the method's memory, which the next call writes anew.
                parts.append([each.numpy().copy() for each in self._method.execute([batch])])
        probabilities, logits, *scope = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Outputs(logits, probabilities, *scope)

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the file carries.

        Raises:
            BundleError: it carries none.
        """
        text = None
        if SPEC_METHOD in self._program.method_names:
            (text,) = self._program.load_method(SPEC_METHOD).execute([])
        return carried_spec(text, self._file)
