"""Data: sources, manifest, splits, augmentation and the training data set."""

from taxon.data.build import build_manifest, load_manifest, with_looks
from taxon.data.manifest import Manifest, Record, Skipped, read_manifest, write_manifest
from taxon.data.sources import Columns, data_path, read_source

__all__ = [
    "Columns",
    "Manifest",
    "Record",
    "Skipped",
    "build_manifest",
    "data_path",
    "load_manifest",
    "read_manifest",
    "read_source",
    "with_looks",
    "write_manifest",
]
