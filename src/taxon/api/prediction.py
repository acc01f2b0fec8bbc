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
    pictures: str | Path | Iterable[str | Path],
    *,
    top: int = 5,
    backend: BackendName = "auto",
    device: str = "cpu",
) -> Iterator[Prediction]:
    """Predict files and folders, one prediction a picture, in order.

    Args:
        path: a model folder, an artefact's folder, an .onnx file, or `hf:user/name[@revision]`.
        pictures: one or several files, folders (searched below) and glob patterns.

    Raises:
        BundleError: the model cannot be loaded.
        DataError: a folder or a pattern without pictures.
        HubError: a model of the hub cannot be had.
    """
    names = [pictures] if isinstance(pictures, str | Path) else pictures
    predictor = load_predictor(path, backend=backend, device=device)
    return predictor.predict(find_pictures([str(name) for name in names]), top=top)


def find_pictures(names: Sequence[str]) -> list[Path]:
    """Return the pictures that files, folders and glob patterns stand for.

    A file that does not exist is kept: it becomes a prediction with an error, like any other
    picture that cannot be read.

    Raises:
        DataError: a folder or a pattern without pictures, or no name at all.
    """
    found: list[Path] = []
    for name in names:
        if not name:
            raise DataError("an empty name was given for a picture; name a file, folder or pattern")
        path = Path(name)
        if not path.exists() and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise DataError(f"nothing matches the pattern '{name}'")
            # `**` matches a folder and all that is in it: each file is taken once.
            found.extend(Path(match) for match in matches if Path(match).is_file())
            if "**" not in name:
                for folder in (Path(match) for match in matches if Path(match).is_dir()):
                    found.extend(list_pictures(folder)[0])
        elif path.is_dir():
            inside, _ = list_pictures(path)
            if not inside:
                raise DataError(f"no pictures in the folder {path}")
            found.extend(inside)
        else:
            found.append(path)
    if not found:
        raise DataError("no pictures were found; name files, folders or patterns")
    return found
