"""The formats of `taxon export --to`: what each is, and what it needs; reads without torch."""

from __future__ import annotations

from dataclasses import dataclass

from taxon.bundle.artefact import Precision
from taxon.core.errors import ConfigError, MissingDependencyError, nearest
from taxon.core.versions import DISTRIBUTION, installed_version


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: what a user types.
        title: what it is, in words.
        precision: of weights and arithmetic.
        packages: distributions that must be installed to convert and to run it here.
        extra: the optional extra of taxon that brings them; None: a plain install does.
        takes_frames: whether the resize may be put into the graph.
        has_runner: whether the runner for small devices goes beside it.
    """

    name: str
    title: str
    precision: Precision = "float32"
    packages: tuple[str, ...] = ()
    extra: str | None = None
    takes_frames: bool = False
    has_runner: bool = False


_OPENVINO = ("openvino",)
_LITERT = ("ai-edge-litert",)

FORMATS: tuple[Format, ...] = (
    Format("onnx", "ONNX for ONNX Runtime", takes_frames=True, has_runner=True),
    Format(
        "onnx-fp16", "ONNX with half-precision weights and arithmetic", "float16", has_runner=True
    ),
    Format("onnx-int8", "ONNX quantised to eight bits", "int8", has_runner=True),
    Format("onnx-features", "ONNX that gives out the pooled features too, for search"),
    Format("torch-export", "a program of torch.export (.pt2)"),
    Format(
        "executorch", "ExecuTorch with XNNPACK (.pte)", "float32", ("executorch",), "executorch"
    ),
    Format("openvino", "OpenVINO IR", "float32", _OPENVINO, "openvino"),
    Format(
        "openvino-fp16", "OpenVINO IR with half-precision weights", "float16", _OPENVINO, "openvino"
    ),
    Format(
        "openvino-int8",
        "OpenVINO IR quantised to eight bits by NNCF",
        "int8",
        ("openvino", "nncf"),
        "openvino",
    ),
    Format(
        "coreml",
        "Core ML program for iOS and macOS (.mlpackage)",
        "float32",
        ("coremltools",),
        "coreml",
    ),
    Format(
        "coreml-fp16", "Core ML program in half precision", "float16", ("coremltools",), "coreml"
    ),
    Format(
        "tflite",
        "LiteRT (TFLite) for Android and small devices",
        "float32",
        _LITERT,
        "tflite",
        takes_frames=True,
        has_runner=True,
    ),
    Format(
        "tflite-fp16",
        "LiteRT with half-precision weights",
        "float16",
        _LITERT,
        "tflite",
        has_runner=True,
    ),
    Format(
        "tflite-int8",
        "LiteRT quantised to eight bits",
        "int8",
        _LITERT,
        "tflite",
        has_runner=True,
    ),
    Format("torchserve", "an archive for TorchServe (.mar)"),
    Format("triton", "a model repository for Triton Inference Server"),
)
NAMES = tuple(each.name for each in FORMATS)


def find_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    for each in FORMATS:
        if each.name == name:
            return each
    raise ConfigError(
        f"unknown format '{name}'; allowed: {', '.join(NAMES)}.{nearest(name, NAMES)}"
    )


def missing_packages(wanted: Format) -> list[str]:
    """Return the packages that a format needs and that are not installed."""
    return [package for package in wanted.packages if installed_version(package) is None]


def require_packages(wanted: Format) -> None:
    """Check that what a format needs is installed.

    Raises:
        MissingDependencyError: it is not; with the line that installs it.
    """
    missing = missing_packages(wanted)
    if missing:
        raise MissingDependencyError(
            f"the format {wanted.name} needs {' and '.join(missing)}, not installed here; "
            f"type: pip install '{DISTRIBUTION}[{wanted.extra}]'"
        )
