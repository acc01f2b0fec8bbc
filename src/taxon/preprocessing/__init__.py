"""The one preprocessing: a spec, decoding (bytes -> RGB) and the transform (RGB -> uint8)."""

from taxon.preprocessing.decode import decode
from taxon.preprocessing.spec import Preprocessing
from taxon.preprocessing.transform import prepare, resize

__all__ = ["Preprocessing", "decode", "prepare", "resize"]
