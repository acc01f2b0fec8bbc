"""Which pictures are taken in: a crowd is told from many clients that wait for their answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_apps import RED, MeanColour, make_predictor, until

from taxon.core.errors import ImageError
from taxon.serving import Batcher, Overloaded, ServingSettings
from taxon.serving.computing.admission import Admission, Crowd, Room
from taxon.serving.computing.batch import prepared
from taxon.serving.computing.engine import Upload
from taxon.serving.computing.errors import TooMany
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.computing.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def follow(crowd: Crowd, came: Iterable[int]) -> bool:
    """Count an answer after each of these numbers of requests; whether that makes a crowd."""
    waiting = 0
    for count in came:
        waiting = max(0, waiting + count - 1)
        crowd.answered(waiting)
        if crowd.here:
            return True
    return False


class TestCrowd:
    @given(st.integers(1, 10_000), st.integers(1, 200))
    def test_clients_that_wait_for_their_answers_are_none(self, clients: int, each: int) -> None:
        assert not follow(Crowd(Clock()), [clients] + [1] * each)

    def test_two_requests_for_each_answer_are_one(self) -> None:
        assert follow(Crowd(Clock()), [2] * 18)
        assert follow(Crowd(Clock()), [1] * 100 + [2] * 18)
        assert not follow(Crowd(Clock()), [2] * 8 + [1] * 100)

    @given(st.integers(1, 20), st.integers(1, 60))
    def test_clients_that_ask_for_many_at_once_are_none(self, clients: int, each: int) -> None:
        """Each asks again when all of its pictures are answered."""
        crowd, queue = Crowd(Clock()), [client for client in range(clients) for _ in range(each)]
        for _ in range(300):
            client = queue.pop(0)
            if client not in queue:
                queue += [client] * each
            crowd.answered(len(queue))
            assert not crowd.here

    def test_ends_when_hardly_any_are_refused(self) -> None:
        clock = Clock()
        crowd = Crowd(clock)
        for _ in range(20):
            crowd.refused()  # for want of places, say
        assert not crowd.here
        assert follow(crowd, [2] * 18)
        for _ in range(10):
            clock.now += 0.4
            crowd.refused()
            crowd.refused()
            assert crowd.here
        for _ in range(3):
            clock.now += 0.15
            for _ in range(16):
                crowd.answered(0)
            crowd.refused()
            assert crowd.here
        clock.now += 0.1
        assert not crowd.here
        for _ in range(20):
            crowd.refused()
        assert not crowd.here


def admission_of(
    seconds_each: float,
    lone_seconds: float,
    settings: ServingSettings | None = None,
    *,
    at_once: int = 1,
    turned_away: list[float] | None = None,
) -> Admission:
    turned_away = [] if turned_away is None else turned_away
    return Admission(
        settings or ServingSettings(),
        Pace(seconds_each),
        at_once,
        lone_seconds,
        turned_away.append,
        Clock(),
    )


def crowd(admission: Admission) -> None:
    """Have ever more requests wait, though not long."""
    pace, admission._pace = admission._pace, Pace()
    with ExitStack() as waiting:
        for _ in range(18):
            waiting.enter_context(admission.places(1))
            with admission.places(1):
                pass
    admission._pace = pace
    assert admission._crowd.here


class TestAdmission:
    def test_places_are_given_back(self) -> None:
        admission = admission_of(0.001, 0.01, ServingSettings(max_queue=20))
        with admission.places(15):
            assert admission.taken == 15
            with pytest.raises(Overloaded, match="15 of 20 places taken, 6 wanted") as refused:
                admission.places(6).__enter__()
            assert refused.value.reason == "queue"
        with pytest.raises(ImageError), admission.places(20):
            raise ImageError("x", "broken")
        assert admission.taken == 0
        with pytest.raises(TooMany):
            admission.places(21).__enter__()

    def test_a_long_wait_is_allowed_but_in_a_crowd(self) -> None:
        turned_away: list[float] = []
        settings = ServingSettings(max_wait_ms=2000)
        admission = admission_of(0.1, 0.2, settings, turned_away=turned_away)
        with admission.places(20), admission.places(1):
            with pytest.raises(Overloaded, match="2100 ms, at most 2000 are") as refused:
                admission.places(1).__enter__()
            assert refused.value.reason == "wait" and refused.value.seconds == pytest.approx(2.1)
        assert turned_away == []
        crowd(admission)
        assert turned_away == [pytest.approx(0.6)]
        with admission.places(6), admission.places(1):  # 600 ms, three times a lone picture
            with pytest.raises(Overloaded, match="700 ms, at most 600 are") as refused:
                admission.places(1).__enter__()
            assert refused.value.reason == "wait"

    @pytest.mark.parametrize("known", [0.2, 0.0])
    def test_what_a_lone_picture_takes_is_followed_but_in_a_crowd(self, known: float) -> None:
        admission = admission_of(0.1, known)
        for _ in range(100):
            admission.note_lone(0.1)
        crowd(admission)
        for _ in range(100):
            admission.note_lone(1.0)
        with admission.places(5), pytest.raises(Overloaded, match="at most 300 are"):
            admission.places(1).__enter__()

    def test_no_lone_picture_was_seen(self) -> None:
        admission = admission_of(0.1, 0.0)
        crowd(admission)
        with admission.places(11), pytest.raises(Overloaded, match="at most 1000 are"):
            admission.places(1).__enter__()

    def test_lanes_have_pictures_to_go_on_with_in_a_crowd(self) -> None:
        admission = admission_of(0.1, 0.001, at_once=4)
        crowd(admission)
        with admission.places(7), admission.places(1), pytest.raises(Overloaded, match="most 3 ar"):
            admission.places(1).__enter__()  # two a lane are taken, though they take long

    def test_a_crowd_never_allows_more(self) -> None:
        admission = admission_of(0.1, 10.0, ServingSettings(max_wait_ms=100))
        crowd(admission)
        with admission.places(2), pytest.raises(Overloaded, match="200 ms, at most 100 are"):
            admission.places(1).__enter__()

    def test_what_is_refused_for_other_reasons_makes_no_crowd_last(self) -> None:
        clock = Clock()
        admission = Admission(ServingSettings(), Pace(0.1), 1, 0.1, lambda _: None, clock)
        crowd(admission)
        clock.now = 0.4
        for _ in range(20):
            with pytest.raises(Overloaded), admission.places(1):
                raise Overloaded("all computing processes are being replaced", "worker")
        clock.now = 0.6
        assert not admission._crowd.here


def test_a_process_bounds_what_its_server_lets_in() -> None:
    room = Room(3)
    room.note_lone(1.0)
    with room.places(2):
        with pytest.raises(Overloaded, match="behind"):
            room.places(2).__enter__()
        with room.places(1):
            assert room.taken == 3
    assert room.taken == 0


class TestTurningAway:
    RED = staticmethod(prepared(make_predictor().prepare(RED, "red")))

    @staticmethod
    def batcher(on_their_way: int = 0) -> Batcher:
        batcher = Batcher(
            MeanColour().run,
            max_batch_size=1 if on_their_way == 0 else 10,
            max_delay_ms=100,
            max_queue=100,
            on_their_way=lambda: on_their_way,
        )
        batcher.pace = Pace(0.1)
        return batcher

    def test_the_last_ones_go(self) -> None:
        async def work() -> None:
            batcher = self.batcher()
            await batcher.start()
            asked = [asyncio.ensure_future(batcher.submit(self.RED)) for _ in range(9)]
            await asyncio.sleep(0)
            batcher.turn_away(0.55)
            assert batcher.depth == 5
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert [isinstance(each, Overloaded) for each in results] == [False] * 5 + [True] * 4
            batcher.turn_away(0.0)  # nobody waits
            await batcher.stop()

        asyncio.run(work())

    def test_but_none_of_several_that_belong_together(self) -> None:
        async def work() -> None:
            batcher = self.batcher()
            await batcher.start()
            many = asyncio.ensure_future(batcher.submit_many([self.RED] * 9))
            await asyncio.sleep(0)
            alone = asyncio.ensure_future(batcher.submit(self.RED))
            await asyncio.sleep(0)
            batcher.turn_away(0.0)
            assert len(await many) == 9
            with pytest.raises(Overloaded, match="more requests come"):
                await alone
            await batcher.stop()

        asyncio.run(work())

    def test_while_a_batch_waits_for_more(self) -> None:
        async def work() -> None:
            batcher = self.batcher(on_their_way=1)
            await batcher.start()
            asked = asyncio.ensure_future(batcher.submit(self.RED))
            for _ in range(3):  # its window is open
                await asyncio.sleep(0)
            batcher.turn_away(0.0)
            with pytest.raises(Overloaded):
                await asked
            await batcher.submit(self.RED)
            assert batcher.running
            await batcher.stop()

        asyncio.run(work())


class TestEngine:
    """Each picture takes 5 ms; any wait is allowed, but in a crowd."""

    SETTINGS = ServingSettings(max_batch_size=1, max_wait_ms=60_000, max_queue=2000)

    async def engine(self) -> tuple[LocalEngine, Counter[str]]:
        engine = LocalEngine(make_predictor(MeanColour(seconds=0.005)), self.SETTINGS, 2)
        await engine.start()
        return engine, Counter()

    @staticmethod
    async def ask(engine: LocalEngine, counts: Counter[str]) -> None:
        try:
            await engine.answer([Upload("red", RED)])
            counts["answered"] += 1
        except Overloaded as error:
            counts[error.reason] += 1

    def test_refuses_none_of_many_clients_that_wait(self) -> None:
        async def work() -> None:
            engine, counts = await self.engine()

            async def client() -> None:
                for _ in range(5):
                    await self.ask(engine, counts)

            await asyncio.gather(*(client() for _ in range(50)))
            assert counts == {"answered": 250}
            await engine.stop()

        asyncio.run(work())

    def test_refuses_what_is_too_much_and_recovers(self) -> None:
        async def work() -> None:
            engine, counts = await self.engine()
            asked = []
            for _ in range(50):  # four for each that can be answered
                asked += [asyncio.create_task(self.ask(engine, counts)) for _ in range(4)]
                done = counts["answered"]
                await until(lambda done=done: counts["answered"] > done)  # type: ignore[misc]
            await asyncio.gather(*asked)
            assert counts["answered"] >= 50 and counts["wait"] > 50
            assert engine.depth == 0
            await asyncio.sleep(0.6)
            counts.clear()
            await asyncio.gather(*(self.ask(engine, counts) for _ in range(40)))
            assert counts == {"answered": 40}
            await engine.stop()

        asyncio.run(work())
