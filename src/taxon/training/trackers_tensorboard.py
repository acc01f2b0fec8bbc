"""TensorBoard: event files in a folder of their own for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taxon.core.errors import MissingDependencyError
from taxon.training.trackers import Outcome, Setting, is_epoch

INSTALL_LINE = "pip install 'taxon-vision[tensorboard]'"
_FLUSH_SECONDS = 10


class TensorBoard:
    """Writes FOLDER/RUN, or FOLDER/RUN-2 and so on: curves of two runs never mix.

    A run that goes on writes into the folder that it had, and hides what was written there of
    steps that are to come again.

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
        self._folder, self._run = folder, run
        self.place = "TensorBoard"

    def start(
        self, settings: Mapping[str, Setting], notes: Sequence[str], steps: int, kept: str | None
    ) -> str:
        """Open an event file; the configuration and the notes are texts in a run's first one."""
        self._settings = dict(settings)
        goes_on = kept is not None and Path(kept).is_dir()
        folder = Path(kept) if kept is not None and goes_on else self._free_folder()
        self.place = f"TensorBoard in {folder}; look with: tensorboard --logdir '{self._folder}'"
        # Of a new run there is nothing to hide, but without it the first time does not count.
        self._writer = self._make(str(folder), flush_secs=_FLUSH_SECONDS, purge_step=steps + 1)
        if not goes_on:
            self._describe(settings, notes)
        return str(folder)

    def _free_folder(self) -> Path:
        folder, number = self._folder / self._run, 1
        while folder.exists():
            number += 1
            folder = self._folder / f"{self._run}-{number}"
        return folder

    def _describe(self, settings: Mapping[str, Setting], notes: Sequence[str]) -> None:
        rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in settings.items())
        self._writer.add_text("configuration", f"| key | value |\n|---|---|\n{rows}", 0)
        self._writer.add_text("notes", _listed(notes), 0)

    def log(self, position: int, values: Mapping[str, float]) -> None:
        """Add scalars; an epoch's are written at once, as its checkpoint is."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, position)
        if is_epoch(values):
            self._writer.flush()

    def finish(
        self, steps: int, final: Mapping[str, float], notes: Sequence[str], outcome: Outcome
    ) -> None:
        """Write what the table of hyperparameters shows, and all notes.

        They come after the last step: a run that goes on from there takes them back.
        """
        self._writer.add_text("notes", _listed([*notes, outcome]), steps + 1)
        self._writer.add_hparams(self._settings, dict(final), run_name=".", global_step=steps + 1)
        self._writer.close()


def _listed(notes: Sequence[str]) -> str:
    """Markdown, in which TensorBoard shows texts."""
    return "\n".join(f"- {note}" for note in notes)


def _cell(value: Setting) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
