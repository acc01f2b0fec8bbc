"""The Open Inference Protocol V2 over REST, in process, around a small fake backend."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serving_apps import (
    BLUE,
    RED,
    SIZE,
    MeanColour,
    app_of,
    encoded,
    error_of,
    make_predictor,
    of_colours,
    png,
    tensor,
)

from taxon.inference import Predictor

SHAPE = [1, 3, SIZE, SIZE]
FLAT = [7] * (3 * SIZE * SIZE)
NESTED = of_colours((7, 7, 7)).tolist()
UNEVEN = [[NESTED[0][0], NESTED[0][1], NESTED[0][2][:-1]]]


class TestV2:
    INFER = "/v2/models/colours/infer"

    def infer(self, client: TestClient, *inputs: object, **more: object) -> Any:
        return client.post(self.INFER, json={"inputs": list(inputs), **more})

    def test_server(self, client: TestClient) -> None:
        assert client.get("/v2").json()["name"] == "taxon"
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}

    def test_not_ready_before_start(self) -> None:
        client = TestClient(app_of(make_predictor()))  # no lifespan: not started
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/colours/ready").status_code == 404
        assert client.get("/v2/health/live").status_code == 200

    @pytest.mark.parametrize("version", ["", "/versions/1"])
    def test_metadata(self, client: TestClient, version: str) -> None:
        assert client.get(f"/v2/models/colours{version}").json() == {
            "name": "colours",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "images", "datatype": "UINT8", "shape": [-1, 3, SIZE, SIZE]},
                {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            ],
        }
        ready = client.get(f"/v2/models/colours{version}/ready")
        assert ready.json() == {"name": "colours", "ready": True}

    def test_whole_frames_where_the_resize_is_in_the_graph(self) -> None:
        spec = make_predictor().spec
        framed = Predictor(spec, MeanColour(), frame=(24, 20)).limited_to(24 * 20)
        with TestClient(app_of(framed)) as client:
            (images, _) = client.get("/v2/models/colours").json()["inputs"]
            assert images["shape"] == [-1, 3, 20, 24]
            assert client.get("/v1/model").json()["input"] == {"height": 20, "width": 24}
            sent = tensor([1, 3, 20, 24], np.full((1, 3, 20, 24), 9, np.uint8).tolist())
            assert self.infer(client, sent).status_code == 200
            files = {"f": ("red.png", png((255, 0, 0), (24, 20)))}
            (result,) = client.post("/v1/classify", files=files).json()["results"]
            assert result["label"] == "red"
            text = error_of(client.post("/v1/classify", files={"f": ("red.png", RED)}), 400)
            assert "takes 24x20 alone" in text

    @pytest.mark.parametrize("path", ["/v2/models/{}", "/v2/models/{}/ready"])
    def test_unknown_model_or_version(self, client: TestClient, path: str) -> None:
        text = error_of(client.get(path.format("other")), 404)
        assert text == "unknown model 'other'; this server has 'colours'"
        assert "no version '2'" in error_of(client.get(path.format("colours/versions/2")), 404)
        assert error_of(client.post("/v2/models/other/infer", json={}), 404)

    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("version", ["", "/versions/1"])
    def test_images(self, client: TestClient, flat: bool, version: str) -> None:
        images = of_colours((255, 0, 0), (0, 0, 255))
        data = images.ravel().tolist() if flat else images.tolist()
        answer = client.post(
            f"/v2/models/colours{version}/infer",
            json={"id": "seven", "inputs": [tensor([2, 3, SIZE, SIZE], data)]},
        ).json()
        assert answer["model_name"] == "colours" and answer["model_version"] == "1"
        assert answer["id"] == "seven"
        expected = MeanColour().run(images)
        for output in answer["outputs"]:
            assert output["datatype"] == "FP32" and output["shape"] == [2, 3]
            values = np.array(output["data"], np.float32).reshape(2, 3)
            assert np.array_equal(values, getattr(expected, output["name"]))
        assert [output["name"] for output in answer["outputs"]] == ["probabilities", "logits"]

    def test_image_bytes(self, client: TestClient) -> None:
        answer = self.infer(client, encoded(RED, BLUE), outputs=[{"name": "logits"}]).json()
        assert "id" not in answer
        (output,) = answer["outputs"]
        assert output["name"] == "logits"
        assert np.array(output["data"]).reshape(2, 3).argmax(axis=1).tolist() == [2, 0]

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ([tensor([1, 3, 9, 9], FLAT)], "allowed is [N, 3, 16, 16]"),
            ([tensor([3, SIZE, SIZE], FLAT)], "allowed is [N, 3, 16, 16]"),
            ([tensor([0, 3, SIZE, SIZE], [])], "N at least 1"),
            ([tensor(SHAPE, FLAT[:-1])], "flat with 768 values"),
            ([tensor([2, 3, SIZE, SIZE], NESTED)], "its declared shape is [2, 3, 16, 16]"),
            ([tensor(SHAPE, UNEVEN)], "nested unevenly"),
            ([tensor(SHAPE, FLAT, datatype="FP32")], "datatype 'FP32'; allowed is 'UINT8'"),
            ([tensor(SHAPE, [256, *FLAT[1:]])], "the value 256; allowed is 0 to 255"),
            ([tensor(SHAPE, [-1, *FLAT[1:]])], "the value -1"),
            ([tensor(SHAPE, [10**30, *FLAT[1:]])], "allowed is 0 to 255"),
            ([tensor(SHAPE, [0.5, *FLAT[1:]])], "has a float in it"),
            ([tensor(SHAPE, [True, *FLAT[1:]])], "has a bool in it"),
            ([tensor(SHAPE, ["1", *FLAT[1:]])], "has a str in it"),
            ([tensor(SHAPE, [None, *FLAT[1:]])], "has a NoneType in it"),
            ([], "0 inputs; send exactly one"),
            ([tensor(SHAPE, FLAT), encoded(RED)], "2 inputs"),
            ([tensor(SHAPE, FLAT, name="x")], "unknown input 'x'"),
            ([{"name": "images"}], "inputs.0.shape: field required"),
            ([{**encoded(RED), "shape": [2]}], "with N values"),
            ([{**encoded(RED), "datatype": "UINT8"}], "allowed is 'BYTES'"),
            ([{**encoded(), "shape": [1], "data": ["%%%"]}], "image_bytes[0] is not base64"),
            ([{**encoded(), "shape": [1], "data": ["\xe9"]}], "image_bytes[0] is not base64"),
            ([{**encoded(), "shape": [1], "data": [5]}], "image_bytes[0] is a int"),
            ([encoded(RED, b"meow")], "image_bytes[1]: not a picture"),
            ([tensor(SHAPE, FLAT, parameters={"binary_data_size": 768})], "binary_data"),
        ],
    )
    def test_wrong_requests(self, client: TestClient, tensors: list[object], words: str) -> None:
        assert words in error_of(self.infer(client, *tensors), 400)

    def test_deeply_nested(self, client: TestClient) -> None:
        for depth in (70, 5000):
            deep = '{"inputs": [{"name": "images", "shape": [1, 3, 16, 16], "datatype": "UINT8",'
            body = deep + '"data": ' + "[" * depth + "1" + "]" * depth + "}]}"
            assert error_of(client.post(self.INFER, content=body), 400)

    @pytest.mark.parametrize("time", ["0", "-1", "soon", "9" * 5000])
    def test_wrong_time(self, client: TestClient, time: str) -> None:
        answer = client.post(self.INFER, json={}, headers={"X-Timeout-Ms": time})
        assert "must be whole milliseconds" in error_of(answer, 400)

    def test_wrong_outputs_and_bodies(self, client: TestClient) -> None:
        answer = self.infer(client, encoded(RED), outputs=[{"name": "features"}])
        assert "unknown output 'features'" in error_of(answer, 400)
        for body in (b"", b"{", b"[]", b"\xff"):
            assert error_of(client.post(self.INFER, content=body), 400)


def binary(request: dict[str, object], *tensors: bytes) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request with tensors after its JSON."""
    header = json.dumps(request).encode()
    return header + b"".join(tensors), {"Inference-Header-Content-Length": str(len(header))}


def bytes_tensor(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def described(name: str, shape: list[int], datatype: str, size: int) -> dict[str, object]:
    parameters = {"binary_data_size": size}
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}


class TestBinaryExtension:
    INFER = TestV2.INFER

    def send(self, client: TestClient, request: dict[str, object], *tensors: bytes) -> Any:
        body, headers = binary(request, *tensors)
        return client.post(self.INFER, content=body, headers=headers)

    def test_tensors_in_and_out(self, client: TestClient) -> None:
        images = of_colours((255, 0, 0), (0, 0, 255))
        data = images.tobytes()
        sent = described("images", list(images.shape), "UINT8", len(data))
        parameters = {"binary_data_output": True}
        answer = self.send(client, {"inputs": [sent], "parameters": parameters}, data)
        length = int(answer.headers["Inference-Header-Content-Length"])
        header = json.loads(answer.content[:length])
        values, start = {}, length
        for output in header["outputs"]:
            size = output["parameters"]["binary_data_size"]
            raw = answer.content[start : start + size]
            values[output["name"]] = np.frombuffer(raw, "<f4").reshape(output["shape"])
            start += size
        assert start == len(answer.content)
        expected = MeanColour().run(images)
        assert np.array_equal(values["probabilities"], expected.probabilities)
        assert np.array_equal(values["logits"], expected.logits)

    def test_pictures_in_and_one_output_as_bytes(self, client: TestClient) -> None:
        data = bytes_tensor(RED, BLUE)
        sent = described("image_bytes", [2], "BYTES", len(data))
        wanted = [
            {"name": "logits", "parameters": {"binary_data": True}},
            {"name": "probabilities"},
        ]
        answer = self.send(client, {"inputs": [sent], "outputs": wanted}, data)
        length = int(answer.headers["Inference-Header-Content-Length"])
        logits, probabilities = json.loads(answer.content[:length])["outputs"]
        raw = np.frombuffer(answer.content[length:], "<f4").reshape(2, 3)
        assert logits["parameters"] == {"binary_data_size": 24} and "data" not in logits
        assert raw.argmax(axis=1).tolist() == [2, 0]
        assert np.array(probabilities["data"]).reshape(2, 3).argmax(axis=1).tolist() == [2, 0]

    @pytest.mark.parametrize(
        ("sent", "data", "words"),
        [
            (described("images", SHAPE, "UINT8", 5), b"12345", "have 5 bytes; its shape has 768"),
            (described("images", SHAPE, "UINT8", 5), b"1234", "have 5 bytes by their"),
            # As 64-bit integers the lengths of this shape multiply to 0.
            (
                described("images", [2**62, *SHAPE[1:]], "UINT8", 0),
                b"",
                "allowed is [N, 3, 16, 16]",
            ),
            (described("images", [10**4299, *SHAPE[1:]], "UINT8", 0), b"", "allowed is [N, 3"),
            (described("image_bytes", [1], "BYTES", 3), b"123", "end within a length"),
            (
                described("image_bytes", [1], "BYTES", 5),
                b"\x09\0\0\0x",
                "has 9 bytes, and 1 are left",
            ),
            (described("image_bytes", [2], "BYTES", 5), b"\x01\0\0\0x", "with N values"),
            (described("image_bytes", [1], "BYTES", -5), b"", "no number of bytes"),
            ({**described("image_bytes", [1], "BYTES", 0), "data": ["x"]}, b"", "send one"),
            (tensor(SHAPE, FLAT), b"x", "1 bytes follow the JSON"),
            ({"name": "images", "shape": SHAPE, "datatype": "UINT8"}, b"", "has no data"),
        ],
    )
    def test_wrong(
        self, client: TestClient, sent: dict[str, object], data: bytes, words: str
    ) -> None:
        assert words in error_of(self.send(client, {"inputs": [sent]}, data), 400)

    @pytest.mark.parametrize("length", ["10", "-1", "x", "9" * 30, "9" * 5000])
    def test_wrong_length(self, client: TestClient, length: str) -> None:
        headers = {"Inference-Header-Content-Length": length}
        answer = client.post(self.INFER, content=b"x", headers=headers)
        assert "must be the length of the JSON" in error_of(answer, 400)
