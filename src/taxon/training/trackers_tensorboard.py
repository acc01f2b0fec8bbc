"""TensorBoard: event files in a folder of their own for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taxon.core.errors import MissingDependencyError
from taxon.training.trackers import Outcome, Setting

INSTALL_LINE = "pip install 'taxon-vision[tensorboard]'"
_FLUSH_SECONDS = 10


class TensorBoard:
    """Writes FOLDER/RUN, or FOLDER/RUN-2 and so on: curves of two runs never mix.

    Raises:
        MissingDependencyError: the package is not installed.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path, run: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                f"tracking with tensorboard needs the package tensorboard ({error}); "
                f"type: {INSTALL_LINE} (in a checkout: pip install '.[tensorboard]')"
            ) from error
        self._make: Any = SummaryWriter
        self._writer: Any = None
        self._settings: dict[str, Setting] = {}
        self._folder, number = folder / run, 1
        while self._folder.exists():
            number += 1
            self._folder = folder / f"{run}-{number}"
        self.place = f"TensorBoard in {self._folder}; look with: tensorboard --logdir '{folder}'"

    def start(self, settings: Mapping[str, Setting], notes: Sequence[str]) -> None:
        """Open the event file; the configuration and the notes are texts in it."""
        self._settings = dict(settings)
        self._writer = self._make(str(self._folder), flush_secs=_FLUSH_SECONDS)
        rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in settings.items())
        self._writer.add_text("configuration", f"| key | value |\n|---|---|\n{rows}", 0)
        self._writer.add_text("notes", _listed(notes), 0)

    def log(self, position: int, values: Mapping[str, float]) -> None:
        """Add scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, position)

    def finish(self, final: Mapping[str, float], notes: Sequence[str], outcome: Outcome) -> None:
        """Write what the table of hyperparameters shows, and all notes."""
        self._writer.add_text("notes", _listed([*notes, outcome]), 1)
        self._writer.add_hparams(self._settings, dict(final), run_name=".")
        self._writer.close()


def _listed(notes: Sequence[str]) -> str:
    """Markdown, in which TensorBoard shows texts."""
    return "\n".join(f"- {note}" for note in notes)


def _cell(value: Setting) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
