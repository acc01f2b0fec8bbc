"""Computing processes that stop answering: their requests end in time, and they are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving_apps import RED, encoded, files, png

from taxon.api.serving_models import BackendChoice
from taxon.api.serving_worker import worker_command
from taxon.core.errors import ImageError
from taxon.serving import ServingSettings, create_app
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.computing.errors import DeadlinePassed, Overloaded, TooMany
from taxon.serving.computing.workers import WorkerEngine, WorkerPool
from taxon.serving.models.places import Place
from taxon.serving.models.served import Opened
from taxon.serving.models.table import ModelTable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="computing processes need Unix")
COMMAND = worker_command(ServingSettings(), BackendChoice("onnx"), 1, "text")
PHOTO = png((200, 60, 30), (96, 80))
PICTURES = [Upload("red", RED), Upload("text", b"no picture")]


@asynccontextmanager
async def started(
    pool: WorkerPool, run: Path, settings: ServingSettings | None = None
) -> AsyncIterator[WorkerEngine]:
    await pool.start()
    try:
        engine = WorkerEngine(pool, run, settings or ServingSettings())
        await engine.start()
        yield engine
    finally:
        await pool.stop()


async def require_answers(engine: WorkerEngine) -> None:
    answer, error = await engine.answer(PICTURES)
    assert isinstance(answer, Answer) and isinstance(error, ImageError)


async def replaced(pool: WorkerPool) -> None:
    async with asyncio.timeout(120):  # it imports what it computes with
        while pool.lost == 0 or pool.complete < len(pool.workers):
            await asyncio.sleep(0.05)


def test_one_that_hangs_is_replaced(run: Path) -> None:
    async def main() -> None:
        pool = WorkerPool(COMMAND, 1, hung_seconds=0.0)
        async with started(pool, run) as engine:
            await require_answers(engine)
            os.kill(pool.workers[0].process_id, signal.SIGSTOP)
            with pytest.raises(DeadlinePassed):
                await engine.answer(PICTURES, asyncio.get_running_loop().time() + 0.1)
            await replaced(pool)
            await require_answers(engine)

    asyncio.run(main())


def test_one_that_is_only_slow_is_not(run: Path) -> None:
    async def main() -> None:
        pool = WorkerPool(COMMAND, 1)
        async with started(pool, run) as engine:
            process = pool.workers[0].process_id
            os.kill(process, signal.SIGSTOP)
            with pytest.raises(DeadlinePassed):
                await engine.answer(PICTURES, asyncio.get_running_loop().time() + 0.1)
            os.kill(process, signal.SIGCONT)
            await require_answers(engine)
            assert pool.lost == 0 and pool.workers[0].process_id == process

    asyncio.run(main())


def test_what_is_too_much_is_refused_before_a_process_has_it(run: Path) -> None:
    async def main() -> None:
        pool = WorkerPool(COMMAND, 1)
        async with started(pool, run, ServingSettings(max_queue=16)) as engine:
            os.kill(pool.workers[0].process_id, signal.SIGSTOP)
            asked = [asyncio.create_task(engine.answer(PICTURES)) for _ in range(8)]
            await asyncio.sleep(0)
            assert engine.depth == pool.workers[0].pictures == 16
            with pytest.raises(Overloaded, match="16 of 16 places taken, 2 wanted"):
                await engine.answer(PICTURES)
            with pytest.raises(TooMany, match="17 pictures in one request; at most 16"):
                await engine.answer([PICTURES[0]] * 17)
            os.kill(pool.workers[0].process_id, signal.SIGCONT)
            await asyncio.gather(*asked)
            assert engine.depth == pool.workers[0].pictures == 0
            await require_answers(engine)

    asyncio.run(main())


def test_what_waits_in_a_process_is_turned_away_when_a_crowd_comes(run: Path) -> None:
    async def main() -> None:
        pool = WorkerPool(COMMAND, 1)
        async with started(pool, run, ServingSettings(max_wait_ms=60_000)) as engine:
            asked = [asyncio.create_task(engine.answer(PICTURES[:1])) for _ in range(200)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            engine._turn_away(0.0)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refused = [str(each) for each in answers if isinstance(each, Overloaded)]
            assert 0 < len(refused) < 200
            assert all("more requests come" in each for each in refused)
            assert len(refused) + sum(isinstance(each, list) for each in answers) == 200
            await require_answers(engine)

    asyncio.run(main())


def test_one_that_hangs_does_not_keep_the_others_from_opening_a_model(run: Path) -> None:
    async def main() -> None:
        pool = WorkerPool(COMMAND, 2)
        async with started(pool, run):
            os.kill(pool.workers[0].process_id, signal.SIGSTOP)
            pool.workers[0].open_seconds = 0.1
            second = WorkerEngine(pool, run, ServingSettings())
            await second.start()
            await require_answers(second)
            await replaced(pool)  # and has both
            assert second.ready and pool.complete == 2

    asyncio.run(main())


def test_every_way_of_asking_reaches_them(run: Path) -> None:
    pool = WorkerPool(COMMAND, 1)

    async def open_place(place: Place) -> Opened:
        engine = WorkerEngine(pool, place.folder, ServingSettings())
        await engine.start()
        return Opened(engine)

    table = ModelTable(lambda: [Place(run, run, "m", "1", "m")], open_place)
    with TestClient(create_app(table, pool=pool)) as client:
        (result,) = client.post("/v1/classify?explain=true", files=files(("p", PHOTO))).json()[
            "results"
        ]
        explanation = result["explanation"]
        assert explanation["label"] == result["top"][0]["label"]
        assert explanation["probability"] == pytest.approx(result["top"][0]["probability"])
        assert len(explanation["heat"]) > 1
        request = {"inputs": [encoded(PHOTO)], "outputs": [{"name": "probabilities"}]}
        answer = client.post("/v2/models/m/infer", json=request)
        (probabilities,) = (output["data"] for output in answer.json()["outputs"])
        assert max(probabilities) == pytest.approx(explanation["probability"])
