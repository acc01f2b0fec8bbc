"""Check that torch, torchvision and timm import together, and say what is wrong if not."""

from __future__ import annotations

from taxon.core.errors import MissingDependencyError
from taxon.core.versions import DISTRIBUTION, installed_version

INSTALL_LINE = "pip install --upgrade torch torchvision timm"
CPU_LINE = f"{INSTALL_LINE} --index-url https://download.pytorch.org/whl/cpu"
# What a serving image leaves out; a plain install brings all of it.
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "safetensors",
    "scikit-learn",
    "onnx",
    "onnxscript",
)


def require_torch_stack() -> None:
    """Import torch, torchvision and timm, or say what to install.

    A torchvision is built for exactly one torch; with another one its import fails with
    `operator torchvision::nms does not exist`, which tells a user nothing.

    Raises:
        MissingDependencyError: a package is absent, or the three do not fit together.
    """
    found = {package: installed_version(package) for package in PACKAGES}
    missing = [package for package, version in found.items() if version is None]
    if missing:
        raise MissingDependencyError(
            f"this needs {', '.join(missing)}, not installed here; "
            f"type: pip install {DISTRIBUTION} (in a checkout: pip install .)"
        )
    try:
        import timm  # noqa: F401
        import torchvision  # noqa: F401
    except Exception as error:  # a mismatched pair raises RuntimeError, ImportError or OSError
        pair = f"torch {found['torch']} and torchvision {found['torchvision']}"
        raise MissingDependencyError(
            f"{pair} do not fit together ({str(error).splitlines()[0]}); install a matching "
            f"pair in one go: {INSTALL_LINE} (without a GPU: {CPU_LINE})"
        ) from error
