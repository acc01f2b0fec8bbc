"""Several batches at once: which backend computes them, and that the batcher uses every lane."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from serving_apps import GREEN, RED, MeanColour, make_predictor, of_colours

from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs, Predictor
from taxon.inference.lanes import Lanes, sessions_of, with_lanes
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.preprocessing.statistics import picture_statistics
from taxon.serving import Batcher, ServingSettings
from taxon.serving.computing.batch import prepared
from taxon.serving.computing.engine import Answer, Upload
from taxon.serving.computing.errors import ComputationFailed, DeadlinePassed
from taxon.serving.computing.local_engine import LocalEngine

PICTURE = prepared(np.full((3, 4, 4), 7, np.uint8))
FINGERPRINT = "f" * 64


class Meeting:
    """A backend whose calls return when so many have come together."""

    name = "meeting"

    def __init__(self, calls: int) -> None:
        self._barrier = threading.Barrier(calls)
        self.batches: list[int] = []

    def run(self, images: ImageBatch) -> Outputs:
        self.batches.append(len(images))
        self._barrier.wait(20)
        rows = np.zeros((len(images), 2), np.float32)
        return Outputs(rows, rows)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph whose outputs are the mean levels of the colours."""
    nodes = [
        helper.make_node("Cast", ["images"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["levels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
        helper.make_node("Identity", ["logits"], ["probabilities"]),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, 4, 4])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        for name in ("probabilities", "logits")
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "means", [given], outputs),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    return file


class TestLanes:
    def test_onnx_runtime_has_as_many_as_cores(self, graph: Path) -> None:
        lanes = with_lanes(OnnxRuntimeBackend(graph, threads=2), (4, 4), FINGERPRINT)
        assert isinstance(lanes, Lanes) and lanes.count == 2
        assert isinstance(lanes.shared, OnnxRuntimeBackend) and lanes.shared.threads == 1
        pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
        means = pictures.mean(axis=(2, 3))
        assert lanes.name == "onnxruntime"
        for backend in (lanes.alone, lanes.shared, lanes):
            assert backend.run(pictures).logits == pytest.approx(means, rel=1e-5)

    def test_many_cores_are_shared_by_four(self, graph: Path) -> None:
        lanes = with_lanes(OnnxRuntimeBackend(graph, threads=16), (4, 4), FINGERPRINT)
        assert isinstance(lanes, Lanes) and lanes.count == 4
        assert isinstance(lanes.shared, OnnxRuntimeBackend) and lanes.shared.threads == 4

    @pytest.mark.parametrize("gain", [0.0, 100.0])
    def test_all_cores_compute_a_lone_batch_where_that_is_faster(
        self, graph: Path, gain: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("taxon.inference.lanes._GAIN", gain)
        lanes = with_lanes(OnnxRuntimeBackend(graph, threads=2), (4, 4), FINGERPRINT)
        assert isinstance(lanes, Lanes) and isinstance(lanes.alone, OnnxRuntimeBackend)
        assert lanes.alone.threads == (2 if gain else 1)
        assert sessions_of(lanes) == ((lanes.alone, lanes.shared) if gain else (lanes.shared,))

    def test_others_have_one(self, graph: Path) -> None:
        single, other = OnnxRuntimeBackend(graph, threads=1), MeanColour()
        assert with_lanes(other, (4, 4), FINGERPRINT) is other
        assert with_lanes(single, (4, 4), FINGERPRINT) == Lanes(single, single, 1, 1)

    def test_what_was_measured_is_kept(self, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = OnnxRuntimeBackend(graph, threads=2)
        for seconds, alone in (([1.0, 2.0], 2), ([2.0, 1.0], 2)):
            monkeypatch.setattr("taxon.inference.lanes._seconds", lambda *_, s=seconds: s)
            lanes = with_lanes(backend, (4, 4), "of this test")
            assert isinstance(lanes, Lanes) and isinstance(lanes.alone, OnnxRuntimeBackend)
            assert lanes.alone.threads == alone


class TestBatcher:
    def test_computes_as_many_batches_at_once_as_there_are_lanes(self) -> None:
        meeting = Meeting(2)  # with one lane the first batch would wait for ever

        async def main() -> None:
            batcher = Batcher(meeting.run, max_batch_size=1, max_delay_ms=0, max_queue=8, lanes=2)
            await batcher.start()
            await batcher.submit_many([PICTURE] * 4)
            await batcher.stop()

        asyncio.run(main())
        assert meeting.batches == [1] * 4

    def test_a_lone_batch_has_all_cores(self) -> None:
        alone, shared = Meeting(1), Meeting(1)
        coming = 0

        async def main() -> None:
            nonlocal coming
            batcher = Batcher(
                shared.run,
                max_batch_size=2,
                max_delay_ms=0,
                max_queue=8,
                on_their_way=lambda: coming,
                lanes=2,
                run_alone=alone.run,
            )
            await batcher.start()
            await batcher.submit(PICTURE)
            assert (alone.batches, shared.batches) == ([1], [])
            coming = 1  # another one is being decoded
            await batcher.submit(PICTURE)
            assert (alone.batches, shared.batches) == ([1], [1])
            await batcher.stop()

        asyncio.run(main())

    def test_free_lanes_share_what_waits(self) -> None:
        shared = Meeting(2)

        async def main() -> None:
            batcher = Batcher(shared.run, max_batch_size=8, max_delay_ms=0, max_queue=8, lanes=2)
            await batcher.start()
            await batcher.submit_many([PICTURE] * 7)
            await batcher.stop()

        asyncio.run(main())
        assert sorted(shared.batches) == [3, 4]

    def test_batches_at_once_share_the_cores(self) -> None:
        alone, shared = Meeting(1), Meeting(2)

        async def main() -> None:
            batcher = Batcher(
                shared.run,
                max_batch_size=1,
                max_delay_ms=0,
                max_queue=8,
                on_their_way=lambda: 1,
                lanes=2,
                run_alone=alone.run,
            )
            await batcher.start()
            await batcher.submit_many([PICTURE] * 4)
            await batcher.stop()

        asyncio.run(main())
        assert shared.batches == [1] * 4 and alone.batches == []

    def test_stops_when_all_lanes_are_done(self) -> None:
        meeting = Meeting(2)

        async def main() -> int:
            batcher = Batcher(meeting.run, max_batch_size=1, max_delay_ms=0, max_queue=8, lanes=2)
            await batcher.start()
            asked = asyncio.gather(*(batcher.submit(PICTURE) for _ in range(4)))
            await asyncio.sleep(0)
            await batcher.stop()
            return len(await asked)

        assert asyncio.run(main()) == 4


class TestEngine:
    """A lane of one core decodes its pictures too; in one of several, other threads do."""

    @pytest.mark.parametrize("threads", [1, 2])
    def test_answers(self, threads: int) -> None:
        shared = MeanColour()

        async def work(engine: LocalEngine) -> None:
            await engine.compute(np.full((8, 3, 16, 16), 9, np.uint8))
            assert shared.batches  # batch sizes are measured on what computes under load
            sent = [Upload("red", RED), Upload("cut", RED[:40]), Upload("green", GREEN)]
            red, cut, green = await engine.answer(sent)
            assert isinstance(red, Answer) and red.row.probabilities.argmax() == 2
            assert isinstance(cut, ImageError) and "cut" in str(cut)
            assert isinstance(green, Answer) and green.row.probabilities.argmax() == 1
            assert red.decode_seconds > 0 and green.decode_seconds > 0
            (pixels,) = of_colours((255, 0, 0))
            assert np.array_equal(red.statistics, picture_statistics(pixels))
            assert engine.depth == 0

        around(shared, threads, work)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_what_is_late_is_not_decoded(
        self, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[str] = []

        def prepare(self: Predictor, data: bytes, source: str) -> ImageBatch:
            decoded.append(source)
            return np.full((3, 16, 16), 9, np.uint8)

        monkeypatch.setattr(Predictor, "prepare", prepare)

        async def work(engine: LocalEngine) -> None:
            now = asyncio.get_running_loop().time()
            with pytest.raises(DeadlinePassed):
                await engine.answer([Upload("a", RED), Upload("b", RED)], now)
            assert await engine.answer([Upload("c", RED), Upload("d", RED)], now + 60)

        around(MeanColour(), threads, work)
        assert sorted(decoded) == ["c", "d"]

    def test_a_picture_that_breaks_the_decoder_breaks_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def prepare(self: Predictor, data: bytes, source: str) -> ImageBatch:
            if source == "odd":
                raise RuntimeError("a bug of the decoder")
            return np.full((3, 16, 16), 9, np.uint8)

        monkeypatch.setattr(Predictor, "prepare", prepare)

        async def work(engine: LocalEngine) -> None:
            odd = engine.answer([Upload("odd", RED), Upload("odd", RED)])
            well = engine.answer([Upload("a", RED), Upload("b", RED)])
            failure, answers = await asyncio.gather(odd, well, return_exceptions=True)
            assert isinstance(failure, ComputationFailed) and "a bug" in str(failure)
            assert isinstance(answers, list) and len(answers) == 2

        around(MeanColour(), 1, work)


def around(
    shared: MeanColour, threads: int, work: Callable[[LocalEngine], Awaitable[None]]
) -> None:
    """Run an engine whose backend computes two batches at once, each with so many threads."""
    predictor = make_predictor()
    predictor.backend = Lanes(predictor.backend, shared, 2, threads)

    async def main() -> None:
        engine = LocalEngine(predictor, ServingSettings(max_batch_size=4))
        await engine.start()
        await work(engine)
        await engine.stop()

    asyncio.run(main())
