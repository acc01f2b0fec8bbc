"""Contenders: a model in a format, ready to be opened with a number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxon.bundle import read_bundle
from taxon.bundle.artefact import read_artefact
from taxon.core.errors import ConfigError, nearest
from taxon.exporters.formats import NAMES
from taxon.inference import Backend
from taxon.inference.artefacts import OPENERS, open_artefact

PYTORCH = "pytorch"
COMPILED = "torch.compile"
ONNX = "onnx"  # what all others are compared with
_SERVED = {"torchserve": "torch-export", "triton": "onnx"}
# A shape for each size of batch and number of threads; beyond torch's own limit it gives up.
_COMPILED_SHAPES = 256


@dataclass(frozen=True)
class Contender:
    """One model in one format.

    Attributes:
        model: its name in tables.
        format: `pytorch`, `torch.compile`, or one of `taxon.exporters.FORMATS`.
        bundle: the model folder.
        artefact: the folder of its artefact; None: the weights of the model folder are run.
    """

    model: str
    format: str
    bundle: Path
    artefact: Path | None

    @property
    def label(self) -> str:
        """Its name among all contenders."""
        return f"{self.model} {self.format}"


def find_formats(wanted: Sequence[str]) -> tuple[str, ...]:
    """Check names of formats; each once.

    Raises:
        ConfigError: there is none of a name.
    """
    allowed = (PYTORCH, COMPILED, *NAMES)
    if not wanted:
        raise ConfigError(f"no format; name one or several of: {', '.join(allowed)}")
    for name in wanted:
        if name not in allowed:
            raise ConfigError(
                f"unknown format '{name}'; allowed: {', '.join(allowed)}.{nearest(name, allowed)}"
            )
    return tuple(dict.fromkeys(wanted))


def reason_not_timed(format_name: str) -> str | None:
    """Why a format has no speed of its own here; None: it has one."""
    if format_name in _SERVED:
        return f"a server runs it as {_SERVED[format_name]}; time that, or the server"
    if format_name.startswith("coreml"):
        return (
            "it is for Apple's systems; what taxon runs of it elsewhere is not what is fast there"
        )
    if format_name not in (PYTORCH, COMPILED, *OPENERS):
        return "taxon does not run this format itself"
    return None


def open_contender(contender: Contender, threads: int) -> Backend:
    """Load a contender; PyTorch's number of threads is set for the whole process.

    Raises:
        BundleError: it is altered, or does not load.
        MissingDependencyError: its runtime is not installed.
    """
    if contender.artefact is not None:
        info = read_artefact(contender.artefact)
        return open_artefact(contender.artefact, info, threads)
    import torch
    import torch._dynamo

    from taxon.inference.pytorch import PyTorchBackend

    torch.set_num_threads(threads)
    compiled = contender.format == COMPILED
    if compiled:
        torch._dynamo.config.recompile_limit = _COMPILED_SHAPES
    return PyTorchBackend(read_bundle(contender.bundle), compiled=compiled)
