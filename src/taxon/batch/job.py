"""A job: what is computed of which pictures into which folder; begun, or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from taxon.batch.compute import Expected, Verb, require_equal
from taxon.batch.items import Item
from taxon.batch.parts import part_errors, part_name, part_number, require_place
from taxon.batch.places import Place
from taxon.batch.plan import PLAN_FILE, Plan, write_plan
from taxon.core.errors import OutputError
from taxon.core.fingerprint import sha256_json

JOB_FILE = "_job.json"
SUMMARY_FILE = "_summary.json"
EXPECTED_FILE = "_expected.npz"
LOCK_FILE = ".lock"
_KNOWN = {JOB_FILE, PLAN_FILE, EXPECTED_FILE, SUMMARY_FILE, LOCK_FILE}


class Job(BaseModel):
    """What a job was asked for; equal jobs give equal parts.

    Attributes:
        model: the fingerprint of what is computed, its file's content included.
        sources, path_column, base: as they were given, local paths absolute; bytes that are no
            UTF-8 are escaped.
        top: how many classes a prediction lists.
        part_size: pictures in a file of the output.
        piece_size: pictures that are decoded and computed as one task, within a part.
        batch_size: pictures that the model computes at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    verb: Verb
    model: str
    sources: tuple[str, ...]
    path_column: str | None = None
    base: str | None = None
    top: int = 5
    part_size: int
    piece_size: int
    batch_size: int

    @property
    def fingerprint(self) -> str:
        """Equal for equal jobs; 64 hexadecimal digits."""
        return sha256_json(self.model_dump(mode="json"))


# Sizes are those of the job that was begun, whatever is asked for.
_WORDS = {
    "verb": "another verb",
    "model": "another model (or another state of it)",
    "sources": "other sources",
    "path_column": "another --path-column",
    "base": "another --base",
    "top": "another --top",
}


@dataclass(frozen=True)
class OpenJob:
    """A job with its plan, under way.

    Attributes:
        finished: of each part that lies in the place, how many of its pictures have an error.
        resumed: whether it was begun before.
    """

    job: Job
    place: Place
    plan: Plan
    finished: dict[int, int]
    resumed: bool

    @property
    def open_parts(self) -> list[int]:
        """Those that are still to be computed, in order."""
        return [part for part in range(self.plan.parts) if part not in self.finished]


def open_job(
    wanted: Job,
    expected: Expected,
    place: Place,
    list_items: Callable[[], Iterable[Item]],
    scratch: Path,
    *,
    overwrite: bool = False,
) -> OpenJob:
    """Begin a job, or go on with the one that lies in the place.

    Args:
        expected: what the model gives here; a job that goes on must have begun with the same.
        list_items: lists the pictures, when a job begins; it is written down before anything is
            computed.
        scratch: a local folder for copies of what lies at a URL.
        overwrite: replace a job that lies there.

    Raises:
        CheckFailed: the job was begun where pictures or the model gave something else.
        DataError: the sources cannot be listed, or have no picture.
        OutputError: the place holds another job, or what no job wrote.
    """
    names = place.names()
    require_place(place, names, _KNOWN)
    if JOB_FILE in names and not overwrite:
        return _go_on(wanted, expected, place, names, scratch)
    parts = {name for name in names if part_number(name) is not None}
    if parts and not overwrite:
        raise OutputError(
            f"{place.address} holds parts but no {JOB_FILE}; name another folder with --out, or "
            "add --overwrite to replace them"
        )
    with TemporaryDirectory(prefix="taxon-plan-", dir=scratch) as folder:
        file = Path(folder) / PLAN_FILE
        write_plan(list_items(), file, wanted.part_size)
        # What is replaced goes when there is something to put in its place.
        place.remove(names & {JOB_FILE, SUMMARY_FILE})
        place.remove(parts)
        place.take(file, PLAN_FILE)
    place.tidy()
    place.write(EXPECTED_FILE, expected.to_bytes())
    # Last: with it the job counts as begun.
    place.write(JOB_FILE, wanted.model_dump_json(indent=2).encode())
    return OpenJob(wanted, place, _plan(place, scratch), {}, resumed=False)


def _go_on(
    wanted: Job, expected: Expected, place: Place, names: set[str], scratch: Path
) -> OpenJob:
    try:
        job = Job.model_validate_json(place.read(JOB_FILE))
    except ValidationError as error:
        raise OutputError(
            f"{place.address}/{JOB_FILE} is damaged or of another version of taxon "
            f"({error.error_count()} fields); begin anew with --overwrite"
        ) from error
    other = [words for name, words in _WORDS.items() if getattr(job, name) != getattr(wanted, name)]
    if other:
        raise OutputError(
            f"{place.address} holds a job of {' and '.join(other)}; name another folder with "
            "--out, or add --overwrite to replace it"
        )
    require_equal(expected, Expected.from_bytes(place.read(EXPECTED_FILE)))
    place.tidy()
    plan = _plan(place, scratch)
    finished = {}
    for part in range(plan.parts):
        if part_name(part) in names:
            errors = part_errors(place, part, job.fingerprint, plan.part_length(part))
            if errors is not None:
                finished[part] = errors
    if len(finished) < plan.parts:
        place.remove(names & {SUMMARY_FILE})  # it is not finished any more
    return OpenJob(job, place, plan, finished, resumed=True)


def _plan(place: Place, scratch: Path) -> Plan:
    with place.local_copy(PLAN_FILE, scratch) as file:
        return Plan(file)
