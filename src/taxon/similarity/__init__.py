"""Plain functions on features: nearest neighbours, and which pictures to label next."""

from taxon.similarity.index import Index, build_index
from taxon.similarity.neighbours import Nearest, Neighbours, nearest, unit_rows
from taxon.similarity.selection import METHODS, Method, select
from taxon.similarity.uncertainty import margin_uncertainty, tag_uncertainty
from taxon.similarity.within import neighbours_within

__all__ = [
    "METHODS",
    "Index",
    "Method",
    "Nearest",
    "Neighbours",
    "build_index",
    "margin_uncertainty",
    "nearest",
    "neighbours_within",
    "select",
    "tag_uncertainty",
    "unit_rows",
]
