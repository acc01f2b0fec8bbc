"""Predict: find the pictures, answer for each, write the answers."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from taxon.core.errors import DataError
from taxon.core.predictions import Prediction
from taxon.data.sources import list_pictures
from taxon.inference import load_predictor
from taxon.inference.load import BackendName


def predict(
    path: str | Path,
    pictures: Iterable[str | Path],
    *,
    top: int = 5,
    backend: BackendName = "auto",
    device: str = "cpu",
) -> Iterator[Prediction]:
    """Predict files and folders, one prediction a picture, in order.

    Args:
        path: a model folder, an artefact's folder or an .onnx file.
        pictures: files, folders (searched below) and glob patterns.

    Raises:
        BundleError: the model cannot be loaded.
        DataError: a folder or a pattern without pictures.
    """
    predictor = load_predictor(Path(path), backend=backend, device=device)
    return predictor.predict(find_pictures([str(name) for name in pictures]), top=top)


def find_pictures(names: Sequence[str]) -> list[Path]:
    """Return the pictures that files, folders and glob patterns stand for.

    A file that does not exist is kept: it becomes a prediction with an error, like any other
    picture that cannot be read.

    Raises:
        DataError: a folder or a pattern without pictures, or no name at all.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside, _ = list_pictures(path)
            if not inside:
                raise DataError(f"no pictures in the folder {path}")
            found.extend(inside)
        elif not path.exists() and glob.has_magic(name):
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            if not matches:
                raise DataError(f"nothing matches the pattern '{name}'")
            found.extend(match for match in matches if match.is_file())
        else:
            found.append(path)
    if not found:
        raise DataError("no pictures were named; give files, folders or patterns")
    return found
