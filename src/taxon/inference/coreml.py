"""Core ML packages: run by Core ML on Apple's systems, evaluated by taxon elsewhere."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from taxon.bundle import ModelSpec
from taxon.core.errors import BundleError, MissingDependencyError
from taxon.core.predictions import ImageBatch
from taxon.core.versions import DISTRIBUTION
from taxon.inference.backend import Outputs, carried_spec
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT, SPEC_KEY

if TYPE_CHECKING:  # it imports torch
    from taxon.inference.mil import Program

INPUT = "images"
LABEL = "label"
# One picture, uint8 [3, H, W] -> what the model gives out, by name.
Compute = Callable[[ImageBatch], Mapping[str, npt.NDArray[np.float32]]]


def on_apple() -> bool:
    """Whether Core ML itself runs here."""
    return platform.system() == "Darwin"


def import_coremltools() -> Any:
    """Import coremltools; what it says of itself when it is imported is held back.

    Raises:
        MissingDependencyError: it is not installed.
    """
    with quiet():
        try:
            import coremltools
        except ImportError as error:
            raise MissingDependencyError(
                "a Core ML package is written and read with coremltools, not installed here; "
                f"type: pip install '{DISTRIBUTION}[coreml]'"
            ) from error
    return coremltools


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the warnings, log lines and progress bars of coremltools; errors are raised."""
    loggers = [logging.getLogger(name) for name in ("coremltools", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class CoreMLBackend:
    """A Core ML package that `taxon export` wrote; pictures one by one, as Core ML takes them.

    Args:
        package: the .mlpackage.

    Attributes:
        program: the operations and weights that lie in it.

    Raises:
        BundleError: not readable, not written by `taxon export`, of operations that cannot be
            evaluated on this system, or with other inputs, outputs or class labels than the spec
            that it carries says.
        MissingDependencyError: coremltools is not installed.
    """

    def __init__(self, package: Path) -> None:
        from taxon.inference.mil import read_program

        coremltools = import_coremltools()
        model = load_package(package)
        self._spec = carried_spec(model.description.metadata.userDefined.get(SPEC_KEY), package)
        self.program = read_program(model, package)
        _require_interface(model, self.program.classes, self._spec, package)
        names = self._spec.label_space.names
        if on_apple():
            self._compute = _by_core_ml(coremltools, package, names)
        elif self.program.unknown:
            raise BundleError(
                f"{package} runs on Apple's systems only: it has operations that taxon cannot "
                f"evaluate ({', '.join(self.program.unknown)}); verify it on a Mac"
            )
        else:
            self._compute = _by_taxon(self.program)

    @property
    def name(self) -> str:
        """What computes here."""
        return "Core ML" if on_apple() else "the Core ML program (evaluated by taxon)"

    def run(self, images: ImageBatch) -> Outputs:
        """Compute a batch, uint8 [N, 3, H, W]."""
        rows = [self._compute(image) for image in images]
        probabilities, logits = (np.concatenate([row[name] for row in rows]) for name in OUTPUTS)
        if self._spec.policy.scope is None:
            return Outputs(logits, probabilities)
        scope = np.concatenate([row[SCOPE_OUTPUT] for row in rows])
        return Outputs(logits, probabilities, scope)

    def spec(self) -> ModelSpec:
        """Return the class names, preprocessing and policy that the package carries."""
        return self._spec


def load_package(package: Path) -> Any:
    """Return the protocol buffer of a package.

    Raises:
        BundleError: it is none.
    """
    coremltools = import_coremltools()
    if not package.is_dir():
        raise BundleError(f"no such package: {package}")
    try:
        with quiet():
            return coremltools.utils.load_spec(str(package))
    except Exception as error:  # those of protocol buffers, and RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{package} cannot be read as a Core ML package: {reason}") from error


def output_names(spec: ModelSpec) -> list[str]:
    """The outputs of a package, in order; only where one class is named, that is one of them."""
    label = [LABEL] if spec.label_space.task == "multiclass" else []
    return [*label, *OUTPUTS, *([] if spec.policy.scope is None else [SCOPE_OUTPUT])]


def _by_core_ml(coremltools: Any, package: Path, names: Sequence[str]) -> Compute:
    with quiet():
        model = coremltools.models.MLModel(str(package))

    def compute(image: ImageBatch) -> dict[str, npt.NDArray[np.float32]]:
        given = dict(model.predict({INPUT: Image.fromarray(image.transpose(1, 2, 0))}))
        given.pop(LABEL, None)
        probabilities = given[OUTPUTS[0]]
        if isinstance(probabilities, Mapping):  # of a classifier: class -> probability
            given[OUTPUTS[0]] = [[probabilities[name] for name in names]]
        return {name: np.asarray(value, np.float32) for name, value in given.items()}

    return compute


def _by_taxon(program: Program) -> Compute:
    import torch

    def compute(image: ImageBatch) -> dict[str, npt.NDArray[np.float32]]:
        # Core ML gives a picture's levels, 0 to 255, as they are.
        outputs = program.run({INPUT: torch.from_numpy(image).float().unsqueeze(0)})
        return {name: value.numpy() for name, value in outputs.items()}

    return compute


def _require_interface(model: Any, classes: Sequence[str], spec: ModelSpec, package: Path) -> None:
    """Check that a package takes and gives what its spec says."""
    from coremltools.proto import FeatureTypes_pb2

    description = model.description
    size = (spec.preprocessing.width, spec.preprocessing.height)
    rgb = FeatureTypes_pb2.ImageFeatureType.ColorSpace.RGB
    pictures = [
        (each.name, each.type.imageType.width, each.type.imageType.height)
        for each in description.input
        if each.type.imageType.colorSpace == rgb
    ]
    if len(description.input) != 1 or pictures != [(INPUT, *size)]:
        raise BundleError(f"{package} does not take one RGB picture of {size[0]}x{size[1]} pixels")
    given = [each.name for each in description.output]
    if given != output_names(spec):
        raise BundleError(
            f"{package} gives {', '.join(given)}, and not {', '.join(output_names(spec))}"
        )
    if LABEL not in given:
        return
    named = (description.predictedFeatureName, description.predictedProbabilitiesName)
    if named != (LABEL, OUTPUTS[0]) or tuple(classes) != tuple(spec.label_space.names):
        raise BundleError(
            f"{package} has other class labels, or in another order, than the spec that it "
            "carries; export it again"
        )
