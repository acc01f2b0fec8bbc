"""The label space: which classes there are, in which order, and how they nest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from taxon.core.errors import DataError, nearest
from taxon.core.taxonomy import Taxonomy

Task = Literal["multiclass", "multilabel"]
SEPARATOR = "/"
UNKNOWN_MARK = "?"  # before a tag, in tables and plans
UNKNOWN = -1  # in multi-label targets: nobody annotated this class for this picture


class LabelSpace(BaseModel):
    """The classes of a classifier, fixed once and carried by every table and artefact.

    Attributes:
        task: `multiclass` (exactly one class a picture) or `multilabel` (any number).
        names: class names in the order of the logits; sorted, without repetition.
        parents: for a taxonomy, each node that has a parent -> that parent. A node's id is
            its full path (`Fruit/Mango/Mango`), since a leaf and its parent often share a
            name. Empty for flat classes.
        descriptions: optional words on a class, for the card and the page.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    names: tuple[str, ...]
    parents: dict[str, str] = {}
    descriptions: dict[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> LabelSpace:
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("class names must be sorted and without repetition")
        for node, parent in self.parents.items():
            if node.rpartition(SEPARATOR)[0] != parent:
                raise ValueError(f"'{parent}' cannot be the parent of '{node}'")
        minimum = 2 if self.task == "multiclass" else 1
        if len(self.names) < minimum:
            raise ValueError(f"a {self.task} label space needs at least {minimum} classes")
        return self

    @classmethod
    def flat(cls, task: Task, names: Iterable[str]) -> LabelSpace:
        """Make a label space without hierarchy; `names` may repeat and come in any order."""
        return cls._checked(task, sorted(set(names)), {})

    @classmethod
    def taxonomy(cls, paths: Iterable[Sequence[str]]) -> LabelSpace:
        """Make a taxonomy from the paths of its leaves, coarse to fine."""
        leaves = {tuple(path) for path in paths}
        parents = {
            SEPARATOR.join(leaf[:depth]): SEPARATOR.join(leaf[: depth - 1])
            for leaf in leaves
            for depth in range(2, len(leaf) + 1)
        }
        names = sorted(SEPARATOR.join(leaf) for leaf in leaves)
        inner = sorted(set(names) & set(parents.values()))
        if inner:
            raise DataError(
                f"'{inner[0]}' is both a class of its own and a parent of other classes; "
                "give its pictures a child of their own (say "
                f"'{inner[0]}{SEPARATOR}other')"
            )
        return cls._checked("multiclass", names, parents)

    @classmethod
    def _checked(cls, task: Task, names: list[str], parents: dict[str, str]) -> LabelSpace:
        if task == "multiclass" and len(names) < 2:
            raise DataError(
                f"a classifier needs at least 2 classes, received {len(names)}: {names}; "
                "put each class's pictures into a folder of its own, or name a label column"
            )
        if not names:
            raise DataError("no tag occurs in the data; at least one is needed")
        return cls(task=task, names=tuple(names), parents=parents)

    @property
    def is_taxonomy(self) -> bool:
        """Whether the classes nest."""
        return bool(self.parents)

    def index(self, name: str) -> int:
        """Return the position of a class in the logits.

        Raises:
            DataError: no class has this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            known = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise DataError(
                f"unknown class '{name}'; the classes are: {known}.{nearest(name, self.names)}"
            ) from None

    def path(self, node: str) -> tuple[str, ...]:
        """Return the node ids from the root's child down to `node`, inclusive."""
        chain = [node]
        while chain[-1] in self.parents:
            chain.append(self.parents[chain[-1]])
        return tuple(reversed(chain))

    @cached_property
    def tree(self) -> Taxonomy:
        """The tree above the classes as arrays; flat classes are a tree of one level."""
        return Taxonomy([self.path(name) for name in self.names])

    @property
    def depth(self) -> int:
        """Return the number of levels: 1 for flat classes."""
        return self.tree.height

    def targets(
        self, labels: Sequence[Sequence[str]], unknown: Sequence[Sequence[str]] = ()
    ) -> npt.NDArray[np.int64]:
        """Return targets for training and metrics.

        Args:
            labels: the class names of each of N pictures (exactly one each for multiclass).
            unknown: for multilabel, the classes of each that nobody annotated; empty where all
                is known.

        Returns:
            int64 [N] class positions (multiclass), or int64 [N, C] of 0, 1 and -1, which is
            unknown (multilabel).

        Raises:
            DataError: an unknown class, or not exactly one class for multiclass.
        """
        known = {name: position for position, name in enumerate(self.names)}
        missing = {name for rows in (labels, unknown) for row in rows for name in row}
        missing -= known.keys()
        if missing:
            self.index(sorted(missing)[0])
        if self.task == "multiclass":
            wrong = next((row for row in labels if len(row) != 1), None)
            if wrong is not None:
                raise DataError(
                    "each picture needs exactly one class, one of them has "
                    f"{', '.join(wrong) or 'none'}; several classes a picture need a "
                    "multi-label classifier"
                )
            return np.array([known[row[0]] for row in labels], np.int64)
        matrix = np.zeros((len(labels), len(self.names)), np.int64)
        for value, rows in ((1, labels), (UNKNOWN, unknown)):
            for position, row in enumerate(rows):
                for name in row:
                    matrix[position, known[name]] = value
        return matrix
