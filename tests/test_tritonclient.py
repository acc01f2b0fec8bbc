"""The Open Inference Protocol over REST and gRPC, asked by Triton's clients, which are not ours."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from conftest import ROOT
from PIL import Image
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs, Predictor, load_predictor
from taxon.serving.grpc.schema import MESSAGES

KEY = "a key of more than sixteen letters"
NAME = "inspector"
HTTP, GRPC = tritonclient.http, tritonclient.grpc
CLIENTS = pytest.mark.parametrize("module", [HTTP, GRPC], ids=["http", "grpc"])
# How the same refusal is said by either protocol.
STATUSES = {
    400: "StatusCode.INVALID_ARGUMENT",
    401: "StatusCode.UNAUTHENTICATED",
    403: "StatusCode.PERMISSION_DENIED",
    404: "StatusCode.NOT_FOUND",
}


@dataclass(frozen=True)
class Server:
    """A `taxon serve` that runs, and where."""

    process: subprocess.Popen[str]
    http: str
    grpc: str

    def client(self, module: ModuleType) -> Any:
        return module.InferenceServerClient(self.http if module is HTTP else self.grpc)


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "taxon", "serve", f"{NAME}={run}", "--port", "0"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, "--grpc-port", "0", "--max-body-mb", "1", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            errors.seek(0)
            assert "gRPC" in lines[2], errors.read()
            http = lines[0].split("http://")[1].split()[0]
            yield Server(process, http, lines[2].split()[-1])
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    with serving(run) as started:
        yield started


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load_predictor(run)


@pytest.fixture(scope="module")
def pictures(defects: Path) -> list[bytes]:
    """Files of two sizes and formats."""
    first, second = sorted(defects.rglob("*.jpg"))[:2] or sorted(defects.rglob("*.png"))[:2]
    stream = io.BytesIO()
    with Image.open(second) as picture:
        picture.resize((90, 40)).save(stream, "PNG")
    return [first.read_bytes(), stream.getvalue()]


@pytest.fixture(scope="module")
def images(predictor: Predictor, pictures: list[bytes]) -> ImageBatch:
    return np.concatenate([predictor.prepare(each, "picture") for each in pictures]).reshape(
        len(pictures), 3, *predictor.image_size
    )


@pytest.fixture(scope="module")
def expected(predictor: Predictor, images: ImageBatch) -> Outputs:
    return predictor.run(images)


def input_of(module: ModuleType, values: np.ndarray[Any, Any], **options: bool) -> Any:
    """An input: `images` of uint8, or `image_bytes` of objects."""
    name, datatype = ("images", "UINT8") if values.dtype == np.uint8 else ("image_bytes", "BYTES")
    tensor = module.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, **options)
    return tensor


def encoded(pictures: list[bytes]) -> np.ndarray[Any, Any]:
    return np.array(pictures, dtype=object)


def refused(status: int, ask: Callable[[], object]) -> str:
    """Require this refusal, in the protocol's own terms, and return its words."""
    with pytest.raises(InferenceServerException) as caught:
        ask()
    assert caught.value.status() in (str(status), STATUSES.get(status)), caught.value
    return str(caught.value.message())


class TestDescriptions:
    @CLIENTS
    def test_health(self, server: Server, module: ModuleType) -> None:
        client = server.client(module)
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready(NAME)

    def test_metadata_is_the_same_over_both(self, server: Server, predictor: Predictor) -> None:
        about = server.client(HTTP).get_server_metadata()
        assert about == {
            **server.client(GRPC).get_server_metadata(as_json=True),
            "extensions": ["binary_tensor_data", "model_repository"],
        }
        model = server.client(HTTP).get_model_metadata(NAME)
        height, width = predictor.image_size
        classes = len(predictor.spec.label_space.names)
        assert [tensor["shape"] for tensor in model["inputs"]] == [[-1, 3, height, width], [-1]]
        assert {t["name"]: t["shape"] for t in model["outputs"]}["logits"] == [-1, classes]
        other = server.client(GRPC).get_model_metadata(NAME, as_json=True)
        for tensor in (*other["inputs"], *other["outputs"]):  # JSON has 64-bit numbers as text
            tensor["shape"] = [int(length) for length in tensor["shape"]]
        assert other == model
        (version,) = model["versions"]
        assert server.client(GRPC).get_model_metadata(NAME, version).name == NAME

    @CLIENTS
    def test_unknown(self, server: Server, module: ModuleType) -> None:
        client = server.client(module)
        assert "unknown model 'other'" in refused(404, lambda: client.get_model_metadata("other"))
        if module is HTTP:
            assert not client.is_model_ready("other")
        else:
            refused(404, lambda: client.is_model_ready("other"))
        assert "no version '7'" in refused(404, lambda: client.get_model_metadata(NAME, "7"))

    def test_what_is_triton_alone(self, server: Server) -> None:
        assert refused(404, lambda: server.client(HTTP).get_model_config(NAME))
        with pytest.raises(InferenceServerException, match="'ModelConfig' is no method") as caught:
            server.client(GRPC).get_model_config(NAME)
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


class TestInference:
    def check(self, answer: Any, expected: Outputs) -> None:
        for name in ("probabilities", "logits"):
            given = answer.as_numpy(name)
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, getattr(expected, name), rtol=0, atol=1e-6)

    @CLIENTS
    def test_tensors(
        self, server: Server, module: ModuleType, images: ImageBatch, expected: Outputs
    ) -> None:
        self.check(server.client(module).infer(NAME, [input_of(module, images)]), expected)

    @CLIENTS
    @pytest.mark.parametrize("column", [False, True])
    def test_files(
        self,
        server: Server,
        module: ModuleType,
        pictures: list[bytes],
        expected: Outputs,
        column: bool,
    ) -> None:
        values = encoded(pictures).reshape((2, 1) if column else (2,))
        self.check(server.client(module).infer(NAME, [input_of(module, values)]), expected)

    def test_tensors_and_answers_in_json(
        self, server: Server, images: ImageBatch, expected: Outputs
    ) -> None:
        tensor = input_of(HTTP, images, binary_data=False)
        outputs = [
            HTTP.InferRequestedOutput(name, binary_data=False)
            for name in ("probabilities", "logits")
        ]
        answer = server.client(HTTP).infer(NAME, [tensor], outputs=outputs)
        assert "data" in answer.get_output("logits")
        self.check(answer, expected)

    def test_contents(
        self, server: Server, images: ImageBatch, pictures: list[bytes], expected: Outputs
    ) -> None:
        """Values in the message, as clients without raw tensors send them."""
        client = server.client(GRPC)
        for values in (images, encoded(pictures)):
            tensor = input_of(GRPC, values)
            contents = tensor._get_tensor().contents
            if values.dtype == np.uint8:
                contents.uint_contents.extend(values.ravel().tolist())
            else:
                contents.bytes_contents.extend(pictures)
            assert "both contents" in refused(
                400, lambda tensor=tensor: client.infer(NAME, [tensor])
            )
            tensor._raw_content = None
            self.check(client.infer(NAME, [tensor]), expected)

    @CLIENTS
    def test_chosen_output_id_and_version(
        self, server: Server, module: ModuleType, pictures: list[bytes]
    ) -> None:
        client = server.client(module)
        wanted = [module.InferRequestedOutput("logits")]
        tensor = input_of(module, encoded(pictures))
        (version,) = (entry["version"] for entry in _index(client, module))
        answer = client.infer(
            NAME, [tensor], model_version=version, outputs=wanted, request_id="seven"
        )
        assert answer.as_numpy("logits").shape[0] == 2
        assert answer.as_numpy("probabilities") is None
        told = answer.get_response() if module is HTTP else answer.get_response(as_json=True)
        assert (told["id"], told["model_name"], told["model_version"]) == ("seven", NAME, version)

    def test_asyncio(self, server: Server, images: ImageBatch, expected: Outputs) -> None:
        async def ask() -> Any:
            client = tritonclient.grpc.aio.InferenceServerClient(server.grpc)
            try:
                assert await client.is_server_ready()
                return await client.infer(NAME, [input_of(GRPC, images)])
            finally:
                await client.close()

        self.check(asyncio.run(ask()), expected)

    def test_same_as_the_simple_route(
        self, server: Server, predictor: Predictor, pictures: list[bytes]
    ) -> None:
        names = predictor.spec.label_space.names
        answer = server.client(GRPC).infer(NAME, [input_of(GRPC, encoded(pictures))])
        form = [("files", (str(place), each)) for place, each in enumerate(pictures)]
        simple = httpx.post(
            f"http://{server.http}/v1/classify", params={"top": len(names)}, files=form
        ).json()["results"]
        for row, result in zip(answer.as_numpy("probabilities"), simple, strict=True):
            top = {scored["label"]: scored["probability"] for scored in result["top"]}
            np.testing.assert_allclose(row, [top[name] for name in names], rtol=0, atol=1e-6)


class TestRefusals:
    @CLIENTS
    def test_wrong_inputs(
        self, server: Server, module: ModuleType, images: ImageBatch, pictures: list[bytes]
    ) -> None:
        client = server.client(module)
        height, width = images.shape[2:]
        good, files = input_of(module, images), encoded(pictures)
        floats = module.InferInput("images", list(images.shape), "FP32")
        floats.set_data_from_numpy(images.astype(np.float32))
        unknown = module.InferInput("picture", [2], "BYTES")
        unknown.set_data_from_numpy(files)
        for tensors, words in (
            ([input_of(module, images[:, :, 1:])], f"allowed is [N, 3, {height}, {width}]"),
            ([floats], "datatype 'FP32'; allowed is 'UINT8'"),
            ([unknown], "unknown input 'picture'"),
            ([good, input_of(module, files)], "2 inputs; send exactly one"),
            ([input_of(module, encoded([pictures[0], b"meow"]))], "image_bytes[1]: not a picture"),
        ):
            assert words in refused(400, lambda tensors=tensors: client.infer(NAME, tensors))
        wanted = [module.InferRequestedOutput("features")]
        text = refused(400, lambda: client.infer(NAME, [good], outputs=wanted))
        assert "unknown output 'features'" in text
        assert client.infer(NAME, [good]).as_numpy("logits").shape[0] == 2

    @CLIENTS
    def test_unknown_model(self, server: Server, module: ModuleType, images: ImageBatch) -> None:
        client, tensor = server.client(module), input_of(module, images)
        assert "unknown model 'other'" in refused(404, lambda: client.infer("other", [tensor]))
        text = refused(404, lambda: client.infer(NAME, [tensor], model_version="7"))
        assert "no version '7'" in text

    def test_too_long(self, server: Server) -> None:
        client, files = server.client(GRPC), encoded([b"x" * 2**20])
        with pytest.raises(InferenceServerException, match="larger than max") as caught:
            client.infer(NAME, [input_of(GRPC, files)])
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"

    def test_compressed(self, server: Server, pictures: list[bytes]) -> None:
        """A few bytes could be unpacked to any number of them."""
        client, tensor = server.client(GRPC), input_of(GRPC, encoded(pictures))
        with pytest.raises(InferenceServerException, match="gzip") as caught:
            client.infer(NAME, [tensor], compression_algorithm="gzip")
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"

    @CLIENTS
    def test_models_stay_as_they_are(self, server: Server, module: ModuleType) -> None:
        client = server.client(module)
        assert "--reload-by-request" in refused(403, lambda: client.load_model(NAME))
        assert "--reload-by-request" in refused(403, lambda: client.unload_model(NAME))
        assert client.is_model_ready(NAME)


def _index(client: Any, module: ModuleType) -> list[dict[str, str]]:
    if module is HTTP:
        return list(client.get_model_repository_index())
    return list(client.get_model_repository_index(as_json=True).get("models", []))


@pytest.fixture(scope="class")
def guarded(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key that opens and closes models by request."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(KEY + "\n")
    with serving(run, "--api-key-file", str(file), "--reload-by-request") as started:
        yield started


class TestKeysAndRepository:
    @CLIENTS
    @pytest.mark.parametrize("header", ["authorization", "x-api-key"])
    def test_keys(
        self, guarded: Server, module: ModuleType, images: ImageBatch, header: str
    ) -> None:
        client, tensor = guarded.client(module), input_of(module, images)
        prefix = "Bearer " if header == "authorization" else ""
        assert client.is_server_live() and client.is_server_ready()  # these need none
        for headers in (None, {header: f"{prefix}{KEY[:-1]}"}, {header: prefix}):
            text = refused(
                401, lambda headers=headers: client.infer(NAME, [tensor], headers=headers)
            )
            assert "wants a key" in text
        answer = client.infer(NAME, [tensor], headers={header: f"{prefix}{KEY}"})
        assert answer.as_numpy("logits").shape[0] == 2

    @CLIENTS
    def test_unload_and_load(self, guarded: Server, module: ModuleType, images: ImageBatch) -> None:
        client, tensor = guarded.client(module), input_of(module, images)
        headers = {"x-api-key": KEY}

        def index() -> list[str]:
            given = client.get_model_repository_index(headers=headers)
            entries = given if module is HTTP else given.models
            return [entry["state"] if module is HTTP else entry.state for entry in entries]

        assert index() == ["READY"]
        client.unload_model(NAME, headers=headers)
        assert index() == []
        refused(404, lambda: client.infer(NAME, [tensor], headers=headers))
        refused(404, lambda: client.unload_model(NAME, headers=headers))
        assert "no model 'other'" in refused(
            404, lambda: client.load_model("other", headers=headers)
        )
        client.load_model(NAME, headers=headers)
        assert index() == ["READY"]
        assert client.infer(NAME, [tensor], headers=headers).as_numpy("logits").shape[0] == 2


def test_requests_are_counted_and_told_apart(server: Server, pictures: list[bytes]) -> None:
    server.client(GRPC).infer(NAME, [input_of(GRPC, encoded(pictures))])
    with grpc.insecure_channel(server.grpc) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        _, call = ask.with_call(b"", metadata=(("x-request-id", "mine-7"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-7"
    text = httpx.get(f"http://{server.http}/metrics").text
    for route in ("grpc/ModelInfer", "grpc/ServerLive", "/v2/models/{name}/infer"):
        assert f'taxon_requests_total{{route="{route}",status="200"}}' in text
    assert 'taxon_request_seconds_bucket{le="0.001",route="grpc/ModelInfer"}' in text


def test_schema_is_that_of_the_client() -> None:
    """Names, numbers and types of all our fields stand in the messages that Triton publishes."""
    published: dict[str, Any] = {}

    def collect(messages: Any) -> None:
        for message in messages:
            published[message.name] = message
            collect(message.nested_types)

    collect(service_pb2.DESCRIPTOR.message_types_by_name.values())
    for name, message in MESSAGES.items():
        theirs = {field.name: field for field in published[name].fields}
        for field in message.DESCRIPTOR.fields:
            other = theirs[field.name]
            assert (field.number, field.type) == (other.number, other.type), field.full_name
            assert field.is_repeated == other.is_repeated, field.full_name
            if field.message_type is not None:
                assert field.message_type.name == other.message_type.name


def test_guide(
    server: Server,
    pictures: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the guide types, at this server."""
    text = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    for written, here in (
        ("127.0.0.1:8000", server.http),
        ("127.0.0.1:8001", server.grpc),
        ("models/defects", f"models/{NAME}"),
        ('"defects"', f'"{NAME}"'),
    ):
        text = text.replace(written, here)
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    (python,) = (block for block in blocks if "import tritonclient" in block)
    (typed,) = (block for block in blocks if "base64" in block)
    (tmp_path / "a.jpg").write_bytes(pictures[0])
    monkeypatch.chdir(tmp_path)
    exec(python, {"__name__": "__main__"})
    over_http, over_grpc = capsys.readouterr().out.splitlines()
    assert over_http == over_grpc
    # What is piped to curl, and where curl sends it, which is not installed everywhere.
    echo, _, curl = typed.split("$ ")[-1].rpartition("|")
    body = subprocess.run(["bash", "-c", echo], capture_output=True, check=True).stdout
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = httpx.post(curl.split()[-1], content=body, headers=form).json()
    given = np.array(over_http.strip("[]").split(), float)
    np.testing.assert_allclose(answer["outputs"][0]["data"], given, atol=1e-6)
