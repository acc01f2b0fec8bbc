"""The names of the files in a bundle, and the types written to them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from taxon.config import HeadKind, Pooling
from taxon.core.fingerprint import sha256_json
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.preprocessing import Preprocessing

FORMAT_VERSION = 1

BUNDLE_FILE = "bundle.json"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"
MANIFEST_FILE = "manifest.parquet"
PREPROCESSING_FILE = "preprocessing.json"
LABELS_FILE = "labels.json"
DECISION_FILE = "decision.json"
METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"
SCOPE_FILE = "scope.safetensors"
REFERENCE_FILE = "reference.json"
HISTORY_FILE = "history.csv"
GOLDEN_FOLDER = "golden"
GOLDEN_FILE = "golden/expected.npz"
REPORT_FOLDER = "report"
REPORT_FILE = "report/report.html"
ARTEFACTS_FOLDER = "artefacts"
ARTEFACT_FILE = "artefact.json"
EVALUATIONS_FOLDER = "evaluations"
COMPARISONS_FOLDER = "comparisons"
CHECKPOINTS_FOLDER = "checkpoints"

# What the answers depend on. Metrics, card and report may be rewritten without touching it.
HASHED_FILES = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    HEAD_FILE,
    PREPROCESSING_FILE,
    LABELS_FILE,
    DECISION_FILE,
    GOLDEN_FILE,
)
# Of these, too, where they are there.
OPTIONAL_FILES = (SCOPE_FILE,)

# All that taxon writes into a model folder.
ENTRIES = frozenset(
    {
        BUNDLE_FILE,
        CONFIG_FILE,
        WEIGHTS_FILE,
        HEAD_FILE,
        MANIFEST_FILE,
        PREPROCESSING_FILE,
        LABELS_FILE,
        DECISION_FILE,
        METRICS_FILE,
        CARD_FILE,
        SCOPE_FILE,
        REFERENCE_FILE,
        HISTORY_FILE,
        GOLDEN_FOLDER,
        REPORT_FOLDER,
        ARTEFACTS_FOLDER,
        EVALUATIONS_FOLDER,
        COMPARISONS_FOLDER,
        CHECKPOINTS_FOLDER,
    }
)


def is_golden(name: str) -> bool:
    """Whether a file, named relative to the model folder, is one of the golden examples."""
    return name.startswith(f"{GOLDEN_FOLDER}/")


class Provenance(BaseModel):
    """Where a model comes from: enough to make it again.

    Attributes:
        command: the command line or call that trained it.
        created: ISO 8601 time in UTC.
        seconds: how long training took.
        device: `cpu`, `cuda` or `mps`.
        config: the whole training configuration.
        data_fingerprint: of the manifest.
        weights: where the pretrained weights came from, their licence, their sha256.
        versions: taxon, Python and the libraries that shape the numbers.
        history: one row an epoch: stage, losses, metrics.
        notes: decisions that were made on the way, in plain sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    created: str
    seconds: float
    device: str
    config: dict[str, Any]
    data_fingerprint: str
    weights: dict[str, str]
    versions: dict[str, str]
    history: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


class BundleInfo(BaseModel):
    """The content of bundle.json.

    Attributes:
        format_version: raised when an older taxon could misread the folder.
        name: the model's name, as servers give it.
        backbone: its library's name of the architecture.
        head: `mlp`, `linear` or `standardised`.
        pooling: `last`, the backbone's own pooled features, or `blocks`, statistics of all blocks,
            or `all`: both.
        files: sha256 of every file that the answers depend on.
        stand_ins: where the golden pictures were left out when the folder was published: sha256 of
            the files under `golden/` that are there in their place. `files`, and with them the
            fingerprint, stay those of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    name: str
    backbone: str
    head: HeadKind
    pooling: Pooling = "last"
    files: dict[str, str]
    stand_ins: dict[str, str] = {}
    provenance: Provenance

    @property
    def present(self) -> dict[str, str]:
        """The sha256 of every hashed file that must be there."""
        if not self.stand_ins:
            return self.files
        others = {name: each for name, each in self.files.items() if not is_golden(name)}
        return others | self.stand_ins

    @property
    def fingerprint(self) -> str:
        """Identifies the model: changes when any file that answers depend on changes."""
        return sha256_json(self.files)


class ModelSpec(BaseModel):
    """What every consumer of a model needs beside the graph; carried by each artefact.

    Attributes:
        name: the model's name.
        fingerprint: of the bundle that it comes from.
        backbone: its library's name of the architecture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    backbone: str
    label_space: LabelSpace
    preprocessing: Preprocessing
    policy: DecisionPolicy
