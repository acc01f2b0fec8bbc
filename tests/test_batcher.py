"""The dynamic batcher, alone and behind the routes."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from itertools import islice

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from serving_apps import (
    BLACK,
    NAMES,
    RED,
    MeanColour,
    app_of,
    error_of,
    files,
    in_process,
    make_predictor,
    of_colours,
    png,
    until,
)

from taxon.core.predictions import ImageBatch, Prediction
from taxon.inference import Outputs
from taxon.inference.batch_costs import best_batch_size
from taxon.serving import Batcher, ComputationFailed, Overloaded, Row, ServingSettings, desk
from taxon.serving.computing.batch import prepared
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.computing.errors import DeadlinePassed
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.computing.pace import Pace


class TestBatching:
    def test_concurrent_requests_share_batches_and_get_their_own_rows(self) -> None:
        backend = MeanColour(seconds=0.01)
        settings = ServingSettings(max_batch_size=8, max_delay_ms=100)
        random = np.random.default_rng(0)
        colours = [tuple(int(v) for v in c) for c in random.integers(1, 256, (60, 3))]

        async def work(client: httpx.AsyncClient) -> None:
            backend.batches.clear()  # those that were measured at the start
            backend.threads.clear()

            async def ask(colour: tuple[int, ...]) -> None:
                picture = png(colour)  # type: ignore[arg-type]
                answer = await client.post("/v1/classify", files=files(("p", picture)))
                got = {s["label"]: s["probability"] for s in answer.json()["results"][0]["top"]}
                expected = (np.array(colour[::-1]) + 1) / (sum(colour) + 3)
                assert [got[name] for name in NAMES] == pytest.approx(expected, abs=1e-5)

            await asyncio.gather(*(ask(colour) for colour in colours))

        in_process(app_of(make_predictor(backend), settings=settings), work)
        assert sum(backend.batches) == 60
        assert max(backend.batches) <= 8
        assert len(backend.batches) < 30  # batches of more than two on average
        assert threading.get_ident() not in backend.threads

    def test_overflow_is_refused_at_once_and_passes(self) -> None:
        gate = threading.Event()
        gate.set()  # for the start, which measures
        settings = ServingSettings(max_batch_size=2, max_delay_ms=0, max_queue=4)

        async def work(client: httpx.AsyncClient) -> None:
            gate.clear()

            async def ask() -> httpx.Response:
                return await client.post("/v1/classify", files=files(("r", RED)))

            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            for refused in islice(asyncio.as_completed(tasks), 16):
                answer = await refused  # while the backend holds the other four
                assert "4 of 4 places" in error_of(answer, 503)
                assert answer.headers["retry-after"] == "1"
            assert sum(task.done() for task in tasks) == 16
            gate.set()
            answers = await asyncio.gather(*tasks)
            assert sum(answer.status_code == 200 for answer in answers) == 4
            assert (await ask()).status_code == 200

        in_process(app_of(make_predictor(MeanColour(gate=gate)), settings=settings), work)

    def test_backend_failure_stays_with_its_request(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = client.post("/v1/classify", files=files(("k", BLACK)))
        assert error_of(answer, 500) == "internal error"
        assert "a black picture" in caplog.text
        assert client.post("/v1/classify", files=files(("r", RED))).status_code == 200
        assert error_of(client.post("/v1/classify", files=files(("k", BLACK), ("r", RED))), 500)
        assert client.get("/v2/health/ready").status_code == 200

    def test_what_comes_with_a_failure_is_given_up(self) -> None:
        backend = MeanColour(seconds=0.02)
        settings = ServingSettings(max_batch_size=1)

        async def work(client: httpx.AsyncClient) -> None:
            backend.batches.clear()
            sent = files(("k", BLACK), *[("r", RED)] * 60)
            assert error_of(await client.post("/v1/classify", files=sent), 500)
            text = (await client.get("/metrics")).text
            assert 'taxon_queue_depth{model="colours"} 0.0' in text
            answer = await client.post("/v1/classify", files=files(("r", RED), ("r", RED)))
            assert answer.status_code == 200
            assert len(backend.batches) < 20  # whatever else was still to come, came before these

        in_process(app_of(make_predictor(backend), settings=settings), work)

    def test_unexpected_exception(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> Prediction:
            raise KeyError("a secret")

        monkeypatch.setattr(desk, "decide", broken)
        answer = client.post("/v1/classify", files=files(("r", RED)))
        assert error_of(answer, 500) == "internal error"


def run_batcher(
    work: Callable[[Batcher], Awaitable[None]],
    run: Callable[[ImageBatch], Outputs],
    *,
    max_batch_size: int = 4,
    max_delay_ms: float = 0.0,
    max_queue: int = 8,
) -> None:
    async def main() -> None:
        batcher = Batcher(
            run,
            max_batch_size=max_batch_size,
            max_delay_ms=max_delay_ms,
            max_queue=max_queue,
        )
        await batcher.start()
        try:
            await work(batcher)
        finally:
            await batcher.stop()

    asyncio.run(main())


class TestBatcher:
    RED = staticmethod(prepared(of_colours((255, 0, 0))[0]))
    BLACK = staticmethod(prepared(of_colours((0, 0, 0))[0]))

    async def held(self, batcher: Batcher, backend: MeanColour) -> asyncio.Task[Row]:
        """Submit a picture and return once the backend has it and waits at its gate."""
        task = asyncio.create_task(batcher.submit(self.RED))
        await until(lambda: len(backend.batches) == 1)
        return task

    def test_window_closes(self) -> None:
        backend = MeanColour()

        async def work(batcher: Batcher) -> None:
            async with asyncio.timeout(20):
                row = await batcher.submit(self.RED)
            assert row.probabilities.shape == row.logits.shape == (3,)

        run_batcher(work, backend.run, max_delay_ms=20)
        assert backend.batches == [1]

    def test_a_full_batch_does_not_wait(self) -> None:
        backend = MeanColour()

        async def work(batcher: Batcher) -> None:
            async with asyncio.timeout(20):
                await batcher.submit_many([self.RED] * 4)

        run_batcher(work, backend.run, max_delay_ms=60_000)
        assert backend.batches == [4]

    def test_window_is_not_kept_open_for_nobody(self) -> None:
        backend = MeanColour()

        async def main() -> None:
            coming = 1
            batcher = Batcher(
                backend.run,
                max_batch_size=4,
                max_delay_ms=20_000,
                max_queue=8,
                on_their_way=lambda: coming,
            )
            await batcher.start()
            first = asyncio.create_task(batcher.submit(self.RED))
            await asyncio.sleep(0.05)
            assert not backend.batches  # another one is being decoded
            second = asyncio.create_task(batcher.submit(self.RED))
            coming = 0
            batcher.changed()
            async with asyncio.timeout(10):
                await asyncio.gather(first, second)
            await batcher.stop()

        asyncio.run(main())
        assert backend.batches == [2]

    def test_what_is_late_is_not_computed(self) -> None:
        gate = threading.Event()
        backend = MeanColour(gate=gate)

        async def work(batcher: Batcher) -> None:
            first = await self.held(batcher, backend)
            now = asyncio.get_running_loop().time()
            late = asyncio.create_task(batcher.submit(self.RED, now))
            in_time = asyncio.create_task(batcher.submit(self.RED, now + 60))
            await until(lambda: batcher.depth == 2)
            gate.set()
            with pytest.raises(DeadlinePassed):
                await late
            await asyncio.gather(first, in_time)

        run_batcher(work, backend.run)
        assert sum(backend.batches) == 2

    def test_full_queue(self) -> None:
        gate = threading.Event()
        backend = MeanColour(gate=gate)

        async def work(batcher: Batcher) -> None:
            computing = await self.held(batcher, backend)
            waiting = asyncio.create_task(batcher.submit_many([self.RED] * 7))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="7 of 8 places taken, 2 wanted"):
                await batcher.submit_many([self.RED] * 2)  # at once: the gate is shut
            last = asyncio.create_task(batcher.submit(self.RED))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(computing, waiting, last)

        run_batcher(work, backend.run)
        assert backend.batches == [1, 4, 4]

    def test_failing_batch(self) -> None:
        async def work(batcher: Batcher) -> None:
            with pytest.raises(ComputationFailed, match="a black picture") as failure:
                await batcher.submit_many([self.BLACK, self.RED])
            assert isinstance(failure.value.__cause__, RuntimeError)
            assert (await batcher.submit(self.RED)).probabilities.argmax() == 2

        run_batcher(work, MeanColour().run)

    def test_wrong_number_of_rows(self) -> None:
        def run(images: ImageBatch) -> Outputs:
            return MeanColour().run(images[:1])

        async def work(batcher: Batcher) -> None:
            with pytest.raises(ComputationFailed, match="1 rows for 2 pictures"):
                await batcher.submit_many([self.RED] * 2)

        run_batcher(work, run)

    def test_rows_that_are_not_there(self) -> None:
        """Whatever a backend gives, the batcher goes on."""

        def run(images: ImageBatch) -> Outputs:
            outputs = MeanColour().run(images)
            if len(images) == 1:
                return outputs
            return Outputs(outputs.logits, outputs.probabilities[:1])

        async def work(batcher: Batcher) -> None:
            with pytest.raises(ComputationFailed):
                await batcher.submit_many([self.RED] * 2)
            assert (await batcher.submit(self.RED)).probabilities.argmax() == 2

        run_batcher(work, run)

    def test_given_up_pictures_are_not_computed(self) -> None:
        gate = threading.Event()
        backend = MeanColour(gate=gate)

        async def work(batcher: Batcher) -> None:
            first = await self.held(batcher, backend)
            given_up = asyncio.create_task(batcher.submit(self.RED))
            await asyncio.sleep(0)
            given_up.cancel()
            gate.set()
            await first
            await batcher.submit(self.RED)

        run_batcher(work, backend.run)
        assert sum(backend.batches) == 2

    def test_stop_drains(self) -> None:
        backend = MeanColour(seconds=0.05)

        async def work(batcher: Batcher) -> None:
            tasks = [asyncio.create_task(batcher.submit(self.RED)) for _ in range(8)]
            await asyncio.sleep(0)
            await batcher.stop()
            assert not batcher.running and backend.batches == [4, 4]
            assert len(await asyncio.gather(*tasks)) == 8
            with pytest.raises(Overloaded, match="not accepting"):
                await batcher.submit(self.RED)

        run_batcher(work, backend.run, max_delay_ms=10_000)


class TestPace:
    def test_the_time_from_end_to_end_counts(self) -> None:
        pace = Pace()
        assert pace.wait(10) == 0  # nothing is known
        pace.note(4, first_arrived=0.0, ended=2.0)
        assert pace.wait(10) == pytest.approx(5.0)
        pace.note(2, first_arrived=1.5, ended=3.0)  # it waited for the one before: one second
        assert pace.seconds_each == pytest.approx(0.5)
        pace.note(1, first_arrived=100.0, ended=100.1)  # idle time in between is no work
        assert 0.4 < pace.seconds_each < 0.5

    @pytest.mark.parametrize("together", [1, 4, 16])
    def test_answers_that_come_together_count_as_one_batch(self, together: int) -> None:
        pace = Pace()
        for batch in range(1, 40):
            for _ in range(together):
                pace.note(1, 0.0, ended=0.1 * together * batch)
                assert batch < 20 or 0.07 < pace.seconds_each < 0.13
        pace.note(0, 0.0, ended=4.0 * together)
        assert 0.07 < pace.seconds_each < 0.13

    @pytest.mark.parametrize("seed", range(5))
    def test_batches_grow_while_that_pays(self, seed: int) -> None:
        """Also where every other call takes twice as long: others have the machine too."""
        now = 0.0
        chance = random.Random(seed)

        def compute(size: int) -> None:
            nonlocal now
            seconds = 0.0002 * (4 + size if size <= 8 else 4 * size)  # beyond eight it is slower
            now += seconds * chance.choice((1, 2))

        costs = best_batch_size(compute, 32, clock=lambda: now)
        assert list(costs) == [1, 2, 4, 8]
        assert costs[8] == pytest.approx(0.0003)

    def test_a_size_must_be_worth_it(self) -> None:
        now = 0.0

        def compute(size: int) -> None:
            nonlocal now
            now += 0.001 * size

        assert list(best_batch_size(compute, 16, clock=lambda: now)) == [1]

    def test_slow_models_are_not_measured_for_long(self) -> None:
        now = 0.0

        def compute(size: int) -> None:
            nonlocal now
            now += size

        assert list(best_batch_size(compute, 64, clock=lambda: now)) == [1]
        assert now == 1


class TestEngine:
    def test_given_up_before_it_was_begun(self) -> None:
        """A picture whose request has gone is not waited for by the batches that follow."""

        async def main() -> None:
            engine = LocalEngine(make_predictor(), ServingSettings(max_delay_ms=60_000))
            await engine.start()
            given_up = asyncio.create_task(engine.answer([Upload("red", RED)] * 3))
            await asyncio.sleep(0)  # its tasks are made, and have not run
            given_up.cancel()
            async with asyncio.timeout(20):
                (answer,) = await engine.answer([Upload("red", RED)])
            assert isinstance(answer, Answer)
            assert given_up.cancelled() and engine.depth == 0
            await engine.stop()

        asyncio.run(main())
