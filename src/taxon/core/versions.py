"""The versions of taxon, Python and the libraries that shape the numbers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "taxon-vision"
_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "ultralytics",
    "accelerate",
    "onnx",
    "onnxruntime",
    "numpy",
    "pillow",
    "scikit-learn",
)


def taxon_version() -> str:
    """Return the installed version of taxon."""
    return installed_version(DISTRIBUTION) or "unknown (not installed)"


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, None where it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return name -> version of everything that is installed of the list."""
    found = {library: installed_version(library) for library in _LIBRARIES}
    return {
        "taxon": taxon_version(),
        "python": platform.python_version(),
        **{library: text for library, text in found.items() if text is not None},
    }


def made_with(*packages: str) -> dict[str, str]:
    """Return name -> version of those packages that are installed, and of taxon."""
    found = {package: installed_version(package) for package in packages}
    known = {package: text for package, text in found.items() if text is not None}
    return {"taxon": taxon_version(), **known}
