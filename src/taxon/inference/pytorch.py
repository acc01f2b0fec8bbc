"""The PyTorch backend: the bundle itself, as it was trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch

from taxon.bundle import Bundle
from taxon.core.errors import ConfigError
from taxon.core.predictions import ImageBatch
from taxon.inference.backend import Outputs
from taxon.models.restore import restore_inference_module

DEVICES = ("cpu", "cuda", "mps")


class PyTorchBackend:
    """The reference that every artefact is compared with.

    Args:
        device: `cpu`, `cuda` or `mps`.
        half: compute in half precision where PyTorch holds that to be safe (autocast).
        compiled: through `torch.compile`, which compiles anew for each size of batch.
        threads: that compute one batch, set for the whole process; None: as torch has it.
        gives_features: whether the pooled features are among the outputs.
    """

    name = "pytorch"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        half: bool = False,
        compiled: bool = False,
        threads: int | None = None,
        gives_features: bool = False,
    ) -> None:
        if device not in DEVICES:
            raise ConfigError(f"unknown device '{device}'; allowed: {', '.join(DEVICES)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        module = restore_inference_module(bundle, gives_features=gives_features)
        module = module.to(memory_format=torch.channels_last)
        try:
            self._module = module.to(self._device)
        except (RuntimeError, AssertionError) as error:  # what torch raises for an absent device
            reason = str(error).splitlines()[0]
            raise ConfigError(f"the device '{device}' cannot be used: {reason}") from error

        self.gives_features = gives_features
        self._half = half
        self._compute: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = self._module
        if compiled:
            self._compute = torch.compile(self._module, fullgraph=True, dynamic=False)

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        half = torch.autocast(self._device.type, torch.float16) if self._half else nullcontext()
        with torch.inference_mode(), half:
            probabilities, logits, *more = (each.cpu().numpy() for each in self._compute(tensor))
        features = more.pop() if self.gives_features else None
        scope = more.pop() if more else None
        return Outputs(logits, probabilities, scope, features)
