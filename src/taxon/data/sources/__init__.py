"""Sources: folders, tables, archives, COCO, Hugging Face data sets and manifests -> a listing."""

from taxon.data.sources.folders import list_pictures
from taxon.data.sources.listing import Columns, Listing, Row
from taxon.data.sources.read import data_path, read_source
from taxon.data.sources.words import Kind

__all__ = ["Columns", "Kind", "Listing", "Row", "data_path", "list_pictures", "read_source"]
