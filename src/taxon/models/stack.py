"""Check that torch, torchvision and timm import together, and say what is wrong if not."""

from __future__ import annotations

from taxon.core.errors import MissingDependencyError
from taxon.core.versions import installed_version

INSTALL_LINE = "pip install --upgrade torch torchvision timm"
CPU_LINE = f"{INSTALL_LINE} --index-url https://download.pytorch.org/whl/cpu"
PACKAGES = ("torch", "torchvision", "timm")


def require_torch_stack() -> None:
    """Import torch, torchvision and timm, or say what to install.

    A torchvision is built for exactly one torch; with another one its import fails with
    `operator torchvision::nms does not exist`, which tells a user nothing.

    Raises:
        MissingDependencyError: one of the three is absent, or they do not fit together.
    """
    found = {package: installed_version(package) for package in PACKAGES}
    missing = [package for package in PACKAGES if found[package] is None]
    if missing:
        raise MissingDependencyError(
            f"this needs {', '.join(missing)}, which is not installed; type: {INSTALL_LINE}"
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
