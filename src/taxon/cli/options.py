"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taxon.cli import completion
from taxon.core.errors import ConfigError
from taxon.core.limits import LARGEST_PICTURE

if TYPE_CHECKING:
    from taxon.data import Columns

RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The model folder that `taxon train` wrote, or hf:USER/NAME[@REVISION].",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The model folder that `taxon train` wrote, an exported artefact alone, or "
        "hf:USER/NAME[@REVISION], a model of the Hugging Face Hub.",
        show_default=False,
    ),
]
TABLE = "Columns of a table"
PathColumn = Annotated[
    str, typer.Option(help="Column with the pictures' paths.", rich_help_panel=TABLE)
]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="Column with the label; given twice or more, coarse to fine, it is a taxonomy. "
        "Columns called labels or tags hold several, separated by '|'; '?tag' is one that is "
        "unknown.",
        rich_help_panel=TABLE,
        show_default="label, labels or tags",
    ),
]
TagColumns = Annotated[
    str | None,
    typer.Option(
        help="Columns of 0 and 1, one a tag, separated by commas; an empty cell is unknown.",
        rich_help_panel=TABLE,
        show_default=False,
    ),
]
SplitColumn = Annotated[
    str, typer.Option(help="Column with train, val or test, if any.", rich_help_panel=TABLE)
]
GroupColumn = Annotated[
    str,
    typer.Option(
        help="Column with a group (patient, part) that must not be split, if any.",
        rich_help_panel=TABLE,
    ),
]

WeightColumn = Annotated[
    str,
    typer.Option(
        help="Column with how much a picture counts in training, if any.", rich_help_panel=TABLE
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that the paths of a table count from.",
        rich_help_panel=TABLE,
        show_default="the table's",
    ),
]
Parents = Annotated[
    Path | None,
    typer.Option(
        help="File with the columns class and parent (CSV, TSV, JSON, YAML), or a mapping: makes "
        "flat classes a taxonomy.",
        show_default=False,
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Train against this model's probabilities too (distillation): a larger model folder "
        "with the same classes, or its ONNX artefact.",
        show_default=False,
    ),
]
Truncated = Annotated[
    str,
    typer.Option(
        help="Files that end early: refuse, or fill what is missing with grey (JPEG).",
        autocompletion=completion.one_of("refuse", "fill"),
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        help="Larger pictures are refused, as decompression bombs.",
        min=1,
        max=LARGEST_PICTURE,
        show_default="89478485",
    ),
]


def truncated_policy(word: str) -> Literal["refuse", "fill"]:
    """Check --truncated.

    Raises:
        ConfigError: another word.
    """
    if word not in ("refuse", "fill"):
        raise ConfigError(f"--truncated is refuse or fill, received '{word}'")
    return "fill" if word == "fill" else "refuse"


def columns(
    path: str,
    label: list[str] | None,
    tags: str | None,
    split: str,
    group: str,
    weight: str,
    image_root: Path | None,
    parents: Path | None,
) -> Columns:
    """Put the column options together."""
    from taxon.data import Columns

    names = tuple(name.strip() for name in (tags or "").split(",") if name.strip())
    return Columns(
        path=path,
        label=tuple(label or ()),
        tags=names,
        split=split,
        group=group,
        weight=weight,
        image_root=image_root,
        parents=parents,
    )
