"""Train on many machines: the same verbs, in processes that Ray starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxon.api.model import Model
from taxon.api.reading import require_task
from taxon.api.settings import TrainingOptions, training_settings
from taxon.api.training import default_run, resume, train
from taxon.api.workspace import is_unfinished, require_apart
from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.fingerprint import sha256_file
from taxon.data import Columns, data_path, read_source
from taxon.scale.training import Job, run_job
from taxon.training import Listener, silent

_SETTINGS = TrainingOptions.__annotations__


def train_on_ray(
    job: Job,
    data: str | Path,
    *,
    out: str | Path | None = None,
    listener: Listener = silent,
    **options: Any,
) -> Model:
    """Train a classifier by several processes that Ray starts, as `train` does with these options.

    Processes that die are started again, and go on from the last checkpoint.

    Args:
        data, out: as in `train`; under the same paths on every machine.
        options: the others of `train`.

    Raises what `train` raises, and:

    Raises:
        ConfigError: the cluster is too small.
        LostProcessError: processes died more often than `job.retries`.
        MissingDependencyError: Ray is not installed.
    """
    source = data_path(data)
    # Named here: where processes are started again, they must find it.
    run = (Path(out) if out is not None else default_run(source)).absolute()
    # What is cheap and can fail comes before a cluster; the first process does it again.
    settings = training_settings(**{name: options[name] for name in _SETTINGS if name in options})
    require_apart(run, data=source)
    columns = options.get("columns") or Columns()
    require_task(settings, read_source(source, columns.absolute()).label_space())
    return _run(job, _Work(run, {"data": data, "out": run, **options}), listener)


def resume_on_ray(
    job: Job, run: str | Path, *, trust_pickle: bool = False, listener: Listener = silent
) -> Model:
    """Go on with a run that was interrupted; raises what `resume` and `train_on_ray` raise."""
    return _run(job, _Work(Path(run).absolute(), None, trust_pickle), listener)


def _run(job: Job, work: _Work, listener: Listener) -> Model:
    return Model(run_job(job, work, listener))


@dataclass(frozen=True)
class _Work:
    """What each process does; the first one says with which options.

    Attributes:
        run: the model folder.
        options: of `train`; None: `resume` goes on with what there is.
        before: the model that lay there as the job began.
    """

    run: Path
    options: Mapping[str, Any] | None
    trust_pickle: bool = False
    before: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", self._model())

    def __call__(self, tries: int, listener: Listener) -> Path:
        if self.options is None or (tries and self._has_begun()):
            return resume(self.run, trust_pickle=self._trusts(), listener=listener).path
        return train(listener=listener, **self.options).path

    def _trusts(self) -> bool:
        return self.trust_pickle or bool((self.options or {}).get("trust_pickle"))

    def _has_begun(self) -> bool:
        """Whether an earlier try left something; an older model there is not of this job."""
        return is_unfinished(self.run) or self._model() != self.before

    def _model(self) -> str | None:
        file = self.run / BUNDLE_FILE
        return sha256_file(file) if file.is_file() else None
