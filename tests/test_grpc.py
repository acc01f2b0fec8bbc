"""The gRPC server around a small fake backend: what `tests/test_tritonclient.py` cannot provoke."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio
from serving_apps import (
    BLACK,
    RED,
    SIZE,
    MeanColour,
    app_of,
    make_predictor,
    of_colours,
    table_of,
    until,
)
from test_server import SERVER

from taxon.core.errors import InputError, MissingDependencyError
from taxon.serving import ServingSettings, serve
from taxon.serving.grpc import GrpcServer
from taxon.serving.grpc.schema import MESSAGES, SERVICE

Code = grpc.StatusCode
SHAPE = [1, 3, SIZE, SIZE]


def files(*pictures: bytes) -> bytes:
    """A request with these pictures."""
    tensor = {
        "name": "image_bytes",
        "datatype": "BYTES",
        "shape": [len(pictures)],
        "contents": {"bytes_contents": pictures},
    }
    return bytes(
        MESSAGES["ModelInferRequest"](model_name="colours", inputs=[tensor]).SerializeToString()
    )


def tensor(shape: list[int], *raw: bytes, values: list[int] | None = None) -> bytes:
    """A request with a tensor, and its data in one of the two ways, or both, or neither."""
    contents = {} if values is None else {"contents": {"uint_contents": values}}
    sent = {"name": "images", "datatype": "UINT8", "shape": shape, **contents}
    request = MESSAGES["ModelInferRequest"](
        model_name="colours", inputs=[sent], raw_input_contents=raw
    )
    return bytes(request.SerializeToString())


def infer(channel: aio.Channel, request: bytes, **options: Any) -> Any:
    """Begin a call."""
    return channel.unary_unary(f"/{SERVICE}/ModelInfer")(request, **options)


async def refused(call: Awaitable[object], code: grpc.StatusCode) -> aio.AioRpcError:
    """Require this status."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == code, caught.value
    return caught.value


@asynccontextmanager
async def serving(
    backend: MeanColour, settings: ServingSettings | None = None
) -> AsyncIterator[tuple[GrpcServer, aio.Channel, Any]]:
    """A server, a channel to it, and what it counts."""
    app = app_of(make_predictor(backend), settings=settings)
    async with app.router.lifespan_context(app):
        server = GrpcServer(app.state.desk, "127.0.0.1", 0)
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, channel, app.state.desk.metrics.registry
        await server.stop(0)


def around(
    work: Callable[[GrpcServer, aio.Channel, Any], Awaitable[None]],
    backend: MeanColour | None = None,
    settings: ServingSettings | None = None,
) -> None:
    async def main() -> None:
        async with serving(backend or MeanColour(), settings) as parts:
            await work(*parts)

    asyncio.run(main())


def counted(registry: Any, status: int) -> float:
    labels = {"route": "grpc/ModelInfer", "status": str(status)}
    return float(registry.get_sample_value("taxon_requests_total", labels) or 0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("message", "words"),
        [
            (b"\xff", "the message is no ModelInferRequest"),
            (tensor(SHAPE), "has shape [0]"),
            (tensor(SHAPE, b"x"), "have 1 bytes; its shape has 768"),
            (tensor(SHAPE, b"x", b"x"), "2 raw_input_contents"),
            (tensor(SHAPE, b"x" * 768, values=[7] * 768), "both contents and raw_input_contents"),
            (tensor(SHAPE, values=[7] * 767), "flat with 768 values"),
            (tensor(SHAPE, values=[256] + [7] * 767), "the value 256; allowed is 0 to 255"),
            (tensor([2**62, 3, SIZE, SIZE], b""), "allowed is [N, 3, 16, 16]"),
            (tensor([-1, 3, SIZE, SIZE], b""), "allowed is [N, 3, 16, 16]"),
            (files(), "N at least 1"),
            (files(RED, b"meow"), "image_bytes[1]: not a picture"),
        ],
    )
    def test_wrong_messages(self, message: bytes, words: str) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            error = await refused(infer(channel, message), Code.INVALID_ARGUMENT)
            assert words in error.details()
            await until(lambda: counted(registry, 400) == 1)  # after the client has its answer

        around(work)

    def test_values_in_the_message(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            images = of_colours((255, 0, 0))
            sent = tensor(SHAPE, values=images.ravel().tolist())
            answer = MESSAGES["ModelInferResponse"].FromString(await infer(channel, sent))
            expected = MeanColour().run(images)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
                values = np.frombuffer(raw, "<f4").reshape(output.shape)
                assert np.array_equal(values, getattr(expected, output.name))

        around(work)

    def test_no_message_and_other_methods(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            ask = channel.stream_unary(f"/{SERVICE}/ModelInfer")
            error = await refused(ask(iter(())), Code.INVALID_ARGUMENT)
            assert "no message" in error.details()
            for method in (f"/{SERVICE}/ModelStatistics", "/other.Service/Method"):
                await refused(channel.unary_unary(method)(b""), Code.UNIMPLEMENTED)

        around(work)

    def test_failure_of_the_backend_is_no_more_than_that(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            error = await refused(infer(channel, files(BLACK)), Code.INTERNAL)
            assert error.details() == "internal error"
            assert await infer(channel, files(RED))
            assert registry.get_sample_value("taxon_failures_total", {"kind": "computation"}) == 1

        around(work)

    def test_long_words_of_a_client_are_cut(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            request = MESSAGES["ModelInferRequest"](model_name="x" * 100_000)
            error = await refused(infer(channel, request.SerializeToString()), Code.NOT_FOUND)
            assert error.details().startswith("unknown model 'xxx")

        around(work)


class TestOverload:
    def test_no_room(self) -> None:
        gate = threading.Event()
        gate.set()  # for what is measured at the start
        settings = ServingSettings(max_batch_size=2, max_queue=2)

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            gate.clear()
            held = [infer(channel, files(RED)) for _ in range(2)]
            depth = {"model": "colours"}
            await until(lambda: registry.get_sample_value("taxon_queue_depth", depth) == 2)
            error = await refused(infer(channel, files(RED)), Code.UNAVAILABLE)
            assert "busy (2 of 2 places taken" in error.details()
            trailers = [*error.trailing_metadata()]
            assert ("retry-after", "1") in trailers
            assert ("grpc-retry-pushback-ms", "1000") in trailers
            gate.set()
            assert all(await asyncio.gather(*held))
            many = await refused(infer(channel, files(RED, RED, RED)), Code.RESOURCE_EXHAUSTED)
            assert "at most 2 are allowed" in many.details()
            assert registry.get_sample_value("taxon_rejected_total", {"reason": "queue"}) == 1

        around(work, MeanColour(gate=gate), settings)

    async def both_held(self, channel: aio.Channel, backend: MeanColour) -> list[Any]:
        """Two calls: one is computed past the queue, one by it; others wait."""
        held = []
        for count in (1, 2):
            held.append(infer(channel, files(RED)))
            await until(lambda count=count: len(backend.batches) == count)  # type: ignore[misc]
        return held

    def test_the_time_of_the_server(self) -> None:
        """What was not begun in time is not computed."""
        gate = threading.Event()
        gate.set()  # for the start, which measures
        backend = MeanColour(gate=gate)
        settings = ServingSettings(timeout_ms=2000, max_batch_size=1)

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            backend.batches.clear()
            gate.clear()
            held = await self.both_held(channel, backend)
            late = asyncio.create_task(refused(infer(channel, files(RED)), Code.DEADLINE_EXCEEDED))
            await asyncio.sleep(2.2)
            gate.set()
            error = await late
            assert "before it was computed" in error.details()
            assert all(await asyncio.gather(*held))
            assert backend.batches == [1, 1]

        around(work, backend, settings)

    def test_the_time_of_the_client(self) -> None:
        """A call whose client has gone gives its place back, and is not computed."""
        gate = threading.Event()
        gate.set()
        backend = MeanColour(gate=gate)
        settings = ServingSettings(max_batch_size=1, max_queue=3)

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            backend.batches.clear()
            gate.clear()
            held = await self.both_held(channel, backend)
            await refused(infer(channel, files(RED), timeout=0.1), Code.DEADLINE_EXCEEDED)
            await until(lambda: counted(registry, 504) == 1)
            left = infer(channel, files(RED))
            depth = {"model": "colours"}
            await until(lambda: registry.get_sample_value("taxon_queue_depth", depth) == 3)
            left.cancel()
            await until(lambda: counted(registry, 499) == 1)
            await until(lambda: registry.get_sample_value("taxon_queue_depth", depth) == 2)
            gate.set()
            assert all(await asyncio.gather(*held))
            assert await infer(channel, files(RED))
            assert backend.batches == [1, 1, 1]

        around(work, backend, settings)

    def test_messages_that_do_not_come(self) -> None:
        """No more of them are waited for at once than memory may hold; others wait."""
        settings = ServingSettings(max_body_bytes=1_000_000, max_buffered_bytes=2_000_000)

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            ready = channel.unary_unary(f"/{SERVICE}/ServerReady")
            slow = [self.without_a_message(channel) for _ in range(2)]
            assert await ready(b"") == b"\x08\x01"  # calls arrive in order: those two are there
            late = infer(channel, files(RED))
            for _ in range(20):
                assert await ready(b"") == b"\x08\x01"
            assert not late.done()
            slow[0].cancel()
            assert await late
            slow[1].cancel()

        around(work, settings=settings)

    def test_messages_are_not_waited_for_without_an_end(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            error = await refused(self.without_a_message(channel), Code.DEADLINE_EXCEEDED)
            assert "before its message had come" in error.details()
            assert "it may take 1 s" in error.details()
            assert registry.get_sample_value("taxon_rejected_total", {"reason": "deadline"}) == 1

        around(work, settings=ServingSettings(client_seconds=1))

    def without_a_message(self, channel: aio.Channel) -> Any:
        """Begin a call whose message never comes."""

        async def never() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        return channel.stream_unary(f"/{SERVICE}/ModelInfer")(never())

    def test_too_long(self) -> None:
        settings = ServingSettings(max_body_bytes=10_000)

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            error = await refused(infer(channel, b"x" * 10_001), Code.RESOURCE_EXHAUSTED)
            assert "10001 vs. 10000" in error.details()
            assert await infer(channel, files(RED))

        around(work, settings=settings)


class TestStartAndStop:
    def test_stop_waits_for_calls(self) -> None:
        backend = MeanColour()

        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            backend.batches.clear()
            backend.seconds = 0.5
            call = infer(channel, files(RED))
            await until(lambda: len(backend.batches) == 1)
            stopping = asyncio.create_task(server.stop(20))
            assert await call
            await stopping

        around(work, backend)

    def test_a_signal_lets_calls_end(self) -> None:
        program = SERVER.replace("port=0,", "port=0, grpc_port=0,")
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            scheme, _, address = process.stdout.readline().strip().partition("://")
            assert scheme == "grpc"
            with grpc.insecure_channel(address) as channel:
                call = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(files(RED), timeout=20)
                assert process.stdout.readline() == "computing\n"
                process.send_signal(signal.SIGTERM)
                assert call.result()
            out, error = process.communicate(timeout=20)
            assert (process.returncode, out, error) == (0, "left serve\n", "")
        finally:
            process.kill()
            process.communicate()

    def test_port_in_use(self) -> None:
        async def work(server: GrpcServer, channel: aio.Channel, registry: Any) -> None:
            with pytest.raises(InputError, match="for gRPC; choose another with --grpc-port"):
                GrpcServer(server.desk, "127.0.0.1", server.port)
            # And before any model is opened, in words that know why.
            table = table_of(make_predictor())
            words = f"port {server.port} on 127.0.0.1 is already in use; .* with --grpc-port"
            with pytest.raises(InputError, match=words):
                serve(table, port=0, grpc_port=server.port)
            assert not list(table)

        around(work)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith("taxon.serving.grpc")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "grpc", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'taxon-vision\[grpc\]'"):
            import taxon.serving.grpc  # noqa: F401

    def test_not_loaded_where_it_is_not_asked_for(self) -> None:
        code = "import sys, taxon.serving, taxon.api.serving; print('grpc' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "False\n", done.stderr
