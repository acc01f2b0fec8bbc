"""Computing processes, asked as the server asks them; test_serving_faults.py kills some."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from serving_apps import RED

from taxon.api.serving_models import BackendChoice
from taxon.api.serving_worker import worker_command
from taxon.serving import ServingSettings
from taxon.serving.computing import workers
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.computing.worker_process import WorkerLost
from taxon.serving.computing.workers import WorkerEngine, WorkerPool

MOMENT = 0.2  # seconds


@pytest.mark.skipif(os.name != "posix", reason="computing processes need a Unix system")
def test_a_process_that_hangs_is_ended_and_replaced(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "HUNG_SECONDS", MOMENT)
    command = worker_command(ServingSettings(), BackendChoice(), 1, "text")
    asyncio.run(_hang_and_go_on(WorkerPool(command, 1), run))


async def _hang_and_go_on(pool: WorkerPool, run: Path) -> None:
    picture = [Upload("red", RED)]
    await pool.start()
    engine = WorkerEngine(pool, run)
    await engine.start()
    (hung,) = pool.workers
    os.kill(hung.process_id, signal.SIGSTOP)
    deadline = asyncio.get_running_loop().time() + MOMENT
    with pytest.raises(WorkerLost, match="is being replaced"):
        await engine.answer(picture, deadline)
    assert engine.depth == 0
    async with asyncio.timeout(120):  # it imports what it computes with
        while hung in pool.workers or not engine.ready:
            await asyncio.sleep(0.01)
    (answer,) = await engine.answer(picture)
    assert isinstance(answer, Answer)
    assert pool.lost == 1 and pool.complete == 1
    await engine.stop()
    await pool.stop()
