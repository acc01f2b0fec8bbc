"""MLflow: a run on the server that the user configured, or in a SQLite store beside the models."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taxon.core.errors import ConfigError, MissingDependencyError
from taxon.core.text import one_line
from taxon.training.trackers import Outcome, Setting, is_epoch

INSTALL_LINE = "pip install 'taxon-vision[mlflow]'"
EXPERIMENT = "taxon"
STORE, ARTEFACTS = "mlflow.db", "mlflow-artefacts"
# Its own defaults: usage figures sent to its makers, and minutes of retries, in which training
# would stand still. Who has set them keeps them.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_TALKATIVE = ("mlflow.store.db", "alembic.runtime.migration")
# Values are sent together: a server that answers in 50 ms would slow every step down.
_TOGETHER = 500
_SETTINGS_TOGETHER = 100  # what MLflow takes at once
_LONGEST_TEXT = 5000  # what its servers keep, of a run's description and of a setting
_STATUS: dict[Outcome, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow:
    """Logs to MLFLOW_TRACKING_URI, or to FOLDER/mlflow.db where that is not set.

    The experiment is MLFLOW_EXPERIMENT_NAME, or `taxon`. Nothing but that server is called.

    Raises:
        MissingDependencyError: a package is not installed.
        ConfigError: the server or the store cannot be reached.
    """

    name = "MLflow"

    def __init__(self, folder: Path, run: str) -> None:
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        mlflow, local = _import(folder.resolve())
        try:
            self._client: Any = mlflow.MlflowClient(None if local is None else _store(local))
            self._experiment = _experiment(self._client, local)
        except ConfigError:
            raise
        except Exception as error:  # of MLflow, of the database, of the network
            where = "MLFLOW_TRACKING_URI" if local is None else str(local / STORE)
            raise ConfigError(
                f"MLflow cannot be reached at {where}: {one_line(str(error))[:300]}; set "
                "MLFLOW_TRACKING_URI to a server, or unset it for a store beside the model"
            ) from error
        self._entities: Any = mlflow.entities
        self._error: type[Exception] = mlflow.exceptions.MlflowException
        self._run_name = run
        self._run = ""
        self._waiting: list[Any] = []
        self._sent = {"step": 0, "epoch": 0}  # up to which position the server has the values
        self.place = (
            "MLflow at MLFLOW_TRACKING_URI"
            if local is None
            else f"MLflow in {local / STORE}; look with: mlflow ui --backend-store-uri "
            f"'{_store(local)}' (of the package mlflow)"
        )

    def start(
        self, settings: Mapping[str, Setting], notes: Sequence[str], steps: int, kept: str | None
    ) -> str:
        """Create the run, or open the one that goes on."""
        if kept is not None and self._reopened(kept):
            self._run = kept
        else:
            self._create(settings, notes)
        return self._run

    def _reopened(self, run: str) -> bool:
        """Let a run go on, if it is still there; values that it has are not sent again.

        MLflow never forgets a value, and would show one that comes twice twice.
        """
        try:
            found = self._client.get_run(run)
        except self._error:
            return False
        if found.info.lifecycle_stage != "active":
            return False
        self._client.update_run(run, status="RUNNING")
        for group, name in (("step", "step/loss"), ("epoch", "epoch/train_loss")):
            values = self._client.get_metric_history(run, name)
            self._sent[group] = max((value.step for value in values), default=0)
        return True

    def _create(self, settings: Mapping[str, Setting], notes: Sequence[str]) -> None:
        """The configuration is the run's parameters, the notes are its description."""
        tags = {"mlflow.note.content": _listed(notes), "mlflow.source.name": "taxon"}
        created = self._client.create_run(self._experiment, run_name=self._run_name, tags=tags)
        self._run = created.info.run_id
        parameters = [
            self._entities.Param(key, str(value)[:_LONGEST_TEXT]) for key, value in settings.items()
        ]
        for first in range(0, len(parameters), _SETTINGS_TOGETHER):
            some = parameters[first : first + _SETTINGS_TOGETHER]
            self._client.log_batch(self._run, params=some)

    def log(self, position: int, values: Mapping[str, float]) -> None:
        """Keep the values; send them with an epoch's, or when there are many."""
        if position > self._sent["epoch" if is_epoch(values) else "step"]:
            self._add(position, values)
        if is_epoch(values) or len(self._waiting) >= _TOGETHER:
            self._send()

    def finish(
        self, steps: int, final: Mapping[str, float], notes: Sequence[str], outcome: Outcome
    ) -> None:
        """Send the rest and end the run."""
        self._add(steps, final)
        self._send()
        self._client.set_tag(self._run, "mlflow.note.content", _listed(notes))
        self._client.set_terminated(self._run, _STATUS[outcome])

    def _add(self, position: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        self._waiting += [
            self._entities.Metric(name, value, now, position) for name, value in values.items()
        ]

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._client.log_batch(self._run, metrics=waiting)


def _import(folder: Path) -> tuple[Any, Path | None]:
    """The package, and the folder of the store; None where the user configured a server."""
    try:
        import mlflow
        import mlflow.exceptions
        import mlflow.tracking

        local = None if mlflow.tracking.is_tracking_uri_set() else folder
        if local is not None:  # mlflow-skinny comes without what its store needs
            import alembic  # noqa: F401
            import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"tracking with mlflow needs the packages mlflow-skinny, sqlalchemy and alembic "
            f"({error}); type: {INSTALL_LINE} (in a checkout: pip install '.[mlflow]')"
        ) from error
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow, local


def _store(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / STORE).as_posix()}"


def _experiment(client: Any, local: Path | None) -> str:
    """The experiment's id; it is made where there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        # Without a place of its own, a local store would put artefacts into the current folder.
        place = None if local is None else (local / ARTEFACTS).as_uri()
        return str(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment '{name}' was deleted; restore it, or name another one in "
            "MLFLOW_EXPERIMENT_NAME"
        )
    return str(found.experiment_id)


def _listed(notes: Sequence[str]) -> str:
    """Markdown, in which MLflow shows a run's description."""
    return "\n".join(f"- {note}" for note in notes)[:_LONGEST_TEXT]
