"""The commands to run after an audit, with the options by which the data were looked at."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from taxon.data import Columns
from taxon.preprocessing import Preprocessing

MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class NextCommands:
    """Commands that somebody can copy; each reads the data as the audit did.

    Attributes:
        audited: a data set or a model folder, or a word that stands for it.
        data: the data set that was looked at: of a model folder its manifest.
        columns, decoding: how the data are read.
        model, weights: the backbone that was asked for; None where none was.
        features: the model or the parts whose features were asked for in its place.
        plan: the file with the plan, written by the audit; None where it wrote none.
        resplit: the split that the data bring leaks, and another is to be made.
    """

    audited: str = "DATA"
    data: str = "DATA"
    columns: Columns = field(default_factory=Columns)
    decoding: Preprocessing = field(default_factory=Preprocessing)
    model: str | None = None
    weights: str | None = None
    features: str | None = None
    plan: Path | None = None
    resplit: bool = False

    def write_plan(self) -> str:
        """Audit again, and write the plan."""
        return self._audit("--fix", "plan.yaml")

    def audit(self) -> str:
        """Audit again, and write the page."""
        return self._audit("--out", "audit", "--overwrite")

    def split(self) -> str:
        """Apply the plan."""
        words = ["split", self.data, "--plan", str(self.plan or "plan.yaml"), "--out", MANIFEST]
        words += ["--resplit"] if self.resplit else []
        return _command(*words, *column_words(self.columns), *self._decoding())

    def train(self) -> str:
        """Train on the data as they are."""
        return _command("train", self.data, *column_words(self.columns), *self._training())

    def train_on_split(self) -> str:
        """Train on what `split` wrote, which needs no columns any more."""
        return _command("train", MANIFEST, *self._training())

    def _audit(self, *outputs: str) -> str:
        backbone = self._backbone()
        if self.weights == "none":
            backbone += ["--weights", "none"]
        if self.features is not None:
            backbone += ["--features", self.features]
        return _command(
            "audit",
            self.audited,
            *outputs,
            *column_words(self.columns),
            *self._decoding(),
            *backbone,
        )

    def _backbone(self) -> list[str]:
        words = ["--model", self.model] if self.model else []
        # An audit without features is no wish to train from random weights.
        return words + (["--weights", self.weights] if self.weights not in (None, "none") else [])

    def _decoding(self) -> list[str]:
        return [
            word
            for name, value in self._changed_decoding()
            for word in ("--" + name.replace("_", "-"), value)
        ]

    def _training(self) -> list[str]:
        words = [
            word
            for name, value in self._changed_decoding()
            for word in ("--set", f"preprocessing.{name}={value}")
        ]
        return self._backbone() + words

    def _changed_decoding(self) -> list[tuple[str, str]]:
        usual = Preprocessing()
        names = ("truncated", "max_pixels")
        values = {name: getattr(self.decoding, name) for name in names}
        return [(name, str(values[name])) for name in names if values[name] != getattr(usual, name)]


def column_words(columns: Columns) -> list[str]:
    """The options of the command line that give these columns."""
    usual = Columns()
    words = [word for name in columns.label for word in ("--label-column", name)]
    words += ["--tag-columns", ",".join(columns.tags)] if columns.tags else []
    for name in ("path", "split", "group", "weight"):
        value = getattr(columns, name)
        words += [f"--{name}-column", value] if value != getattr(usual, name) else []
    words += ["--image-root", str(columns.image_root)] if columns.image_root else []
    words += ["--parents", str(columns.parents)] if columns.parents else []
    return words


def _command(*words: str) -> str:
    return shlex.join(["taxon", *words])
