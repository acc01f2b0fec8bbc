"""The model folder: read, write and check it and its artefacts; imports no torch."""

from taxon.bundle.artefact import ArtefactInfo
from taxon.bundle.layout import BundleInfo, ModelSpec, Provenance
from taxon.bundle.read import Bundle, read_bundle

__all__ = ["ArtefactInfo", "Bundle", "BundleInfo", "ModelSpec", "Provenance", "read_bundle"]
