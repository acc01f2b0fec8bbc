"""A Ray Train job: Ray starts the processes, which train as those of torchrun do.

Where one dies, Ray starts all of them again. The first process speaks through an actor beside the
command that waits; by the same way a stop request reaches the processes.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taxon.core.errors import (
    ConfigError,
    Interrupted,
    LostProcessError,
    OwnError,
    TaxonError,
)
from taxon.core.text import one_line
from taxon.scale.cluster import connected
from taxon.scale.extra import require_ray
from taxon.scale.post import Told, Wire, open_post
from taxon.training import Listener, Note
from taxon.training.signals import StopSignals, stopped_elsewhere

_STORE_BYTES = 200 * 2**20  # pictures and weights do not go through it
# What a process does: given how many tries there were before and a listener, it trains and returns
# the model folder; of all but the first one nothing is asked but to help.
Work = Callable[[int, Listener], Path]


@dataclass(frozen=True)
class Job:
    """How Ray is to run a training.

    Attributes:
        workers: processes that train together.
        cores: of each.
        gpus: whether each has a GPU; None: where the cluster has as many.
        address: of a cluster that runs; None: one of this machine's own, for this training.
        retries: how often the processes are started again where one of them died.

    Raises:
        ConfigError: a value is out of range.
    """

    workers: int
    cores: int = 1
    gpus: bool | None = None
    address: str | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--workers", self.workers, 1),
            ("--cpus-per-worker", self.cores, 1),
            ("--retries", self.retries, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")


def run_job(job: Job, work: Work, listener: Listener) -> Path:
    """Have Ray run a training, and wait for it; the first Ctrl-C or SIGTERM has it save and end.

    Args:
        work: can be pickled; called in every process.

    Returns:
        What `work` returned in the first process.

    Raises:
        TaxonError, OSError: what `work` raised.
        ConfigError: the cluster is too small, or cannot be reached.
        LostProcessError: processes died more often than there are retries.
        MissingDependencyError: Ray Train is not installed.
    """
    # The thread that waits for Ray must not start a cluster by itself when this one has ended.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    require_ray("train")
    with _connected(job, listener) as resources, open_post() as post, StopSignals() as asked:
        gpus = _with_gpus(job, resources)
        _say_what_is_awaited(job, listener)
        fitting = _Fitting(job, gpus, _Worker(work, post, Path.cwd()))
        while not fitting.wait(0.0):
            for event in post.heard():
                listener(event)
            if asked():
                _stop(post)
        for event in post.heard():
            listener(event)
        failure = post.failure()
        if failure is not None:
            raise failure
        outcome = fitting.outcome()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@contextmanager
def _connected(job: Job, listener: Listener) -> Iterator[dict[str, float]]:
    """Connect to the cluster, or start one, and yield what it has."""
    told = partial(_tell, listener)
    with connected(job.address, told, store_bytes=_STORE_BYTES) as ray:
        yield ray.cluster_resources()


def _tell(listener: Listener, text: str) -> None:
    listener(Note(text))


def _with_gpus(job: Job, resources: dict[str, float]) -> bool:
    """Whether the processes have GPUs.

    Raises:
        ConfigError: there are not as many cores or GPUs; Ray would wait for ever.
    """
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if job.workers * job.cores > cores:
        raise ConfigError(
            f"{job.workers} workers of {job.cores} cores each do not fit on what Ray has here "
            f"({cores} cores); take fewer, or name a larger cluster with --address"
        )
    if job.gpus and gpus < job.workers:
        raise ConfigError(
            f"{job.workers} workers with a GPU each do not fit on what Ray has here ({gpus} GPUs)"
        )
    return gpus >= job.workers if job.gpus is None else job.gpus


def _say_what_is_awaited(job: Job, listener: Listener) -> None:
    """Others may have what the processes need; Ray waits for it and says nothing."""
    import ray

    free = int(ray.available_resources().get("CPU", 0))
    if free < job.workers * job.cores:
        listener(
            Note(
                f"Ray has {free} cores free, and {job.workers} workers of {job.cores} wait until "
                "there are enough"
            )
        )


def _stop(post: Wire) -> None:
    """Have the processes save and end.

    Raises:
        Interrupted: none has begun, so that there is nothing to save.
    """
    if not post.begun():
        raise Interrupted("nothing had begun")
    post.stop()


class _Fitting:
    """Ray's part, in a thread: the main one listens, and has the signals."""

    def __init__(self, job: Job, gpus: bool, work: Callable[[], Any]) -> None:
        self._job, self._gpus, self._work = job, gpus, work
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run, name="taxon-ray", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most, and say whether it is over."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def outcome(self) -> Path | Exception:
        """What the first process gave, or why it gave nothing."""
        outcome: Path | Exception = self._outcome
        return outcome

    def _run(self) -> None:
        from ray.train import TrainingFailedError

        try:
            with tempfile.TemporaryDirectory(prefix="taxon-ray-") as own:
                self._outcome = self._trainer(own).fit().return_value
        except TrainingFailedError as error:
            self._outcome = LostProcessError(
                f"processes of the run ended before their time, after {self._job.retries} retries "
                f"({_first_reason(error)}); memory, or a machine that is gone? Go on from the last "
                "checkpoint with: taxon train --resume RUN"
            )
        except Exception as error:  # of Ray's own; the main thread raises it
            self._outcome = error

    def _trainer(self, own: str) -> Any:
        """Args:
        own: a folder for what Ray keeps of a run; taxon's checkpoints lie in the model folder.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.backend import Backend, BackendConfig
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        # Ray's own for torch would connect the processes its way; taxon does it, as everywhere.
        class Unconnected(Backend):  # type: ignore[misc]
            share_cuda_visible_devices = True  # LOCAL_RANK counts through them

        class Processes(BackendConfig):  # type: ignore[misc]
            @property
            def backend_cls(self) -> type[Backend]:
                return Unconnected

        resources = {"CPU": self._job.cores, **({"GPU": 1} if self._gpus else {})}
        return DataParallelTrainer(
            self._work,
            backend_config=Processes(),
            scaling_config=ScalingConfig(
                num_workers=self._job.workers,
                use_gpu=self._gpus,
                resources_per_worker=resources,
            ),
            run_config=RunConfig(
                name="taxon",
                storage_path=own,
                failure_config=FailureConfig(max_failures=self._job.retries),
            ),
        )


def _first_reason(error: Exception) -> str:
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    first = next(iter(failures.values()), error)
    return one_line(str(first)).strip()[:300]


@dataclass(frozen=True)
class _Worker:
    """One process, in a worker of Ray's."""

    work: Work
    post: Wire
    folder: Path

    def __call__(self) -> Path | Exception:
        """Train; an error that all processes have is returned, since no retry would help."""
        failure = self.post.failure()
        if failure is not None:  # the processes were started again for nothing
            return failure
        try:
            self._enter()
            with self.post.listening() as listener, stopped_elsewhere(self.post.stopped()):
                return self._train(listener)
        except LostProcessError:
            raise  # another one died: Ray starts all of them again
        except (OwnError, Told) as error:
            self.post.fail(error)
            raise
        except (TaxonError, OSError) as error:
            return error
        except Exception as error:
            self.post.fail(RuntimeError(f"{type(error).__name__}: {error}"))
            raise

    def _train(self, listener: Listener) -> Path:
        from ray.train import get_context

        tries = 0
        if get_context().get_world_rank() == 0:
            tries = self.post.begin()
            if tries:
                listener(Note(f"a process of the run died; all are started again ({tries})"))
        return self.work(tries, listener)

    def _enter(self) -> None:
        """Be what a process of torchrun's is: in the folder of the command, with its number."""
        from ray.train import get_context
        from ray.train.collective import broadcast_from_rank_zero

        context = get_context()
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise Told(
                f"the folder of this command, {self.folder}, is not on {socket.gethostname()}: "
                "pictures and model must lie under the same paths on every machine"
            ) from error
        rank, size = context.get_world_rank(), context.get_world_size()
        together = context.get_local_world_size() == size
        host, port = broadcast_from_rank_zero(_own_address(together) if rank == 0 else None)
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(size),
            LOCAL_RANK=str(context.get_local_rank()),
            LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
            MASTER_ADDR=host,
            MASTER_PORT=str(port),
        )


def _own_address(together: bool) -> tuple[str, int]:
    """Where the processes find each other.

    Args:
        together: whether all are on this machine; then nobody else is to reach it.
    """
    import ray.util

    host = "127.0.0.1" if together else ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind((host, 0))
        return host, int(free.getsockname()[1])
