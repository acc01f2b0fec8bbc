"""The history of a run as a table that spreadsheets and scripts read: history.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taxon.bundle.layout import HISTORY_FILE
from taxon.core.files import write_text
from taxon.core.labels import Task


def write_history(folder: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Write history.csv: one row an epoch, always with the same columns for a task.

    The columns are stage, epoch, train_loss, validation_loss, macro_f1, top1 (multi-class) or
    mAP (multi-label), learning_rate, seconds, and what else the rows hold. What an epoch does
    not have is an empty cell.

    Args:
        rows: as in `EpochDone`.
    """
    score = "top1" if task == "multiclass" else "mAP"
    losses = ("train_loss", "validation_loss")
    usual = ("stage", "epoch", *losses, "macro_f1", score, "learning_rate", "seconds")
    columns = dict.fromkeys([*usual, *(key for row in rows for key in row)])
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / HISTORY_FILE, stream.getvalue())
