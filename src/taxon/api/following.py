"""Several processes: the first one does what the verb says, the others train beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from taxon.api.model import Model
from taxon.api.workspace import Plan
from taxon.core.predictions import FloatArray
from taxon.core.processes import follows, process_count
from taxon.data import Manifest
from taxon.models.stack import require_torch_stack

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class _Handout:
    run: Path
    plan: Plan
    manifest: Manifest
    device: str
    backbone: str
    answers: FloatArray | None


def hand_out(
    run: Path,
    plan: Plan,
    manifest: Manifest,
    device: str,
    backbone: str,
    answers: FloatArray | None,
) -> None:
    """Hand to the other processes what they need: they read no data, and choose nothing.

    Args:
        backbone: its name; its weights follow with those of the head.
        answers: of a teacher, as in `TrainingJob`.
    """
    from taxon.training.distributed import current_team

    handout = _Handout(run.absolute(), plan, manifest, device, backbone, answers)
    current_team().from_first(lambda: handout)


def shared_out(verb: Callable[Arguments, Model]) -> Callable[Arguments, Model]:
    """Let all processes that torchrun started train for a verb that ends with a model.

    All end together: with an error, where the first or any other one fails.
    """

    @wraps(verb)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Model:
        if process_count() == 1:
            return verb(*arguments, **options)
        require_torch_stack()
        from taxon.training.distributed import together

        with together():
            return _follow() if follows() else verb(*arguments, **options)

    return run


def _follow() -> Model:
    # Imported here, as in the verbs: when torch is known to work.
    from taxon.api.fine_tuning import follow
    from taxon.training.distributed import current_team

    handout = current_team().from_first(_never_called)
    follow(handout.device, handout.backbone, handout.plan, handout.manifest, handout.answers)
    return Model(handout.run)


def _never_called() -> _Handout:
    raise AssertionError("the first process alone makes it")
