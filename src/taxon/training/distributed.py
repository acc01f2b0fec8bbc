"""Several processes that train one model: what they agree on, share out and bring together.

torchrun starts the processes, Accelerate connects them. Every process goes through the same
stages, epochs and steps; the first one alone reads the data, chooses, writes and speaks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import gather, pad_across_processes
from torch import distributed

from taxon.core.errors import LostProcessError, OwnError, TaxonError
from taxon.core.predictions import FloatArray
from taxon.core.processes import local_process_count, process_count

# A process that hangs in a step ends the run after this time; one that dies ends it at once.
STEP_TIMEOUT = timedelta(minutes=30)
# The others wait while the first one reads the data, solves for a head or writes the model.
WORDS_TIMEOUT = timedelta(days=2)
_LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out")

T = TypeVar("T")
Tensors = tuple[torch.Tensor, ...]


class Team:
    """The processes of a run; by itself, one process alone, of which nothing is asked.

    What the processes say to each other goes by a group of its own, over the CPU: no step on a
    GPU waits for it, and nobody's patience ends while the first process works alone.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1, words: Any = None) -> None:
        self.rank, self.size = rank, size
        self._words = words
        self._at_work = False
        self.failed = False  # with an error that all know

    @property
    def first(self) -> bool:
        """Whether this process reads, chooses, writes and speaks for all."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self._reduced(float(flag), distributed.ReduceOp.MAX))

    def sum(self, value: float) -> float:
        """Over all processes; exactly the same in each."""
        return self._reduced(value, distributed.ReduceOp.SUM)

    def attempt(self, work: Callable[[], T]) -> T:
        """Do something that may fail in any process: then it fails in all, for the same reason.

        Raises:
            TaxonError, OSError: the own error, or the one of the first process that has one.
        """
        if self.size == 1:
            return work()
        value, error = None, None
        try:
            value = work()
        except (TaxonError, OSError) as caught:
            error = caught
        self.agree(error)
        return cast(T, value)

    def agree(self, error: TaxonError | OSError | None) -> None:
        """Raise in all processes what went wrong in any; nothing where all went well."""
        if not self.any(error is not None):
            return
        errors = [error] * self.size
        if self.size > 1:
            self.failed = True
            distributed.all_gather_object(errors, error, group=self._words)
        raise error or next(other for other in errors if other is not None)

    def fail(self, error: TaxonError) -> NoReturn:
        """Raise what goes wrong in all processes alike."""
        self.agree(error)
        raise error

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` makes in the first process, handed to all; what it raises, too."""
        value = self.attempt(lambda: work() if self.first else None)
        if self.size == 1:
            return cast(T, value)
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self._words)
        return cast(T, box[0])

    def in_step(self, items: Iterable[T], before: Callable[[], None]) -> Iterator[T]:
        """Yield the items, of which all processes have the same number, each when all have theirs.

        Args:
            before: called before each item and at the end; what it raises is raised in all.
        """
        iterator = iter(items)

        def following() -> T | None:
            before()
            return next(iterator, None)

        while (item := self.attempt(following)) is not None:
            yield item

    def share(self, places: range) -> range:
        """This process's part of consecutive places; those of all, one after the other, are all."""
        count = len(places)
        return places[count * self.rank // self.size : count * (self.rank + 1) // self.size]

    def turns(self, items: Sequence[T]) -> list[T]:
        """This process's items, dealt out in turn; the last one goes to all that would lack one."""
        missing = -len(items) % self.size
        return [*items, *[items[-1]] * missing][self.rank :: self.size] if items else []

    def rows(self, tensors: Tensors) -> Tensors:
        """Bring rows together in the order of the processes, which may have different numbers."""
        if self.size == 1:
            return tensors
        counts = gather(torch.tensor([len(tensors[0])], device=tensors[0].device)).tolist()
        padded = gather(pad_across_processes(tensors))
        starts = range(0, max(counts) * self.size, max(counts))
        return tuple(
            torch.cat(
                [whole[start : start + count] for start, count in zip(starts, counts, strict=True)]
            )
            for whole in padded
        )

    def arrays(self, own: FloatArray) -> FloatArray:
        """Bring arrays together along their first axis, in the order of the processes."""
        if self.size == 1:
            return own
        all_: list[Any] = [None] * self.size
        distributed.all_gather_object(all_, own, group=self._words)
        return np.concatenate(all_)

    def broadcast(self, state: dict[str, torch.Tensor]) -> None:
        """Overwrite tensors on the CPU with those of the first process."""
        for tensor in state.values() if self.size > 1 else ():
            distributed.broadcast(tensor, src=0, group=self._words)

    def seed(self, seed: int, step: int) -> None:
        """Draw what a step draws (dropout) by (seed, step, process) alone.

        Otherwise all processes would drop the same features, and a run that is resumed with
        another number of them could not go on. A process alone goes on from where it is.
        """
        if self.size > 1:
            entropy = np.random.SeedSequence([seed, step, self.rank])
            torch.manual_seed(int(entropy.generate_state(1)[0]))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While all are in the same steps: what fails in one alone, the others cannot be told.

        After an error it is still so.
        """
        self._at_work = True
        yield
        self._at_work = False

    def end(self, error: TaxonError | OSError | None) -> None:
        """Wait for all, and raise what went wrong in any; afterwards all end.

        Raises:
            OwnError: of this process alone.
        """
        if self.size == 1:
            return
        if error is not None and self._at_work and not self.failed:
            raise OwnError(f"process {self.rank} of {self.size}: {error}") from error
        try:
            if not self.failed:
                self.agree(error)
        finally:
            if self.failed:
                _ignore_termination()
            with suppress(RuntimeError):  # what is over need not be said to those that are gone
                self.any(False)
                distributed.destroy_process_group()

    def _reduced(self, value: float, how: Any) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        distributed.all_reduce(tensor, how, group=self._words)
        return float(tensor)


_TEAM: ContextVar[Team | None] = ContextVar("team", default=None)


def current_team() -> Team:
    """The processes that are at it together: those of the `together` around the caller."""
    return _TEAM.get() or Team()


@contextmanager
def together() -> Iterator[Team]:
    """Connect the processes that torchrun started; they enter and leave together.

    An error of one that the others can be told ends all of them with it.

    Raises:
        OwnError: an error of this process alone.
        LostProcessError: another one died, or hangs.
    """
    if process_count() == 1:
        yield Team()
        return
    team = _connect()
    token = _TEAM.set(team)
    try:
        with _ending(team):
            yield team
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not _tells_of_loss(error):
            raise
        raise LostProcessError(
            "another process of the run ended before its time, or hangs; its own message says why, "
            "or the system's log (memory?); go on from the last checkpoint with: taxon train "
            "--resume RUN"
        ) from error
    finally:
        _TEAM.reset(token)


@contextmanager
def _ending(team: Team) -> Iterator[None]:
    try:
        yield
    except OwnError:
        raise
    except (TaxonError, OSError) as error:
        team.end(error)
        raise
    team.end(None)


def _connect() -> Team:
    # Accelerate keeps its state in the process; an earlier training may have left one.
    AcceleratorState._reset_state(reset_partial_state=True)
    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= local_process_count()
    options = {"backend": "cpu:gloo,cuda:nccl"} if gpus else {}
    state = PartialState(cpu=not gpus, timeout=STEP_TIMEOUT, **options)
    words = distributed.new_group(backend="gloo", timeout=WORDS_TIMEOUT)
    return Team(state.process_index, state.num_processes, words)


def _tells_of_loss(error: RuntimeError) -> bool:
    return any(words in str(error) for words in _LOST)


def _ignore_termination() -> None:
    """Torchrun terminates all processes once one has ended; each is about to, with its own code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
