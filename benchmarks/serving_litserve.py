"""A LitServe server of one model, for `benchmarks/serving.py`; runs in an environment of its own.

    python benchmarks/serving_litserve.py --onnx FILE --spec FILE --labels FILE --port N --batch 8

taxon's preprocessing and graph; the environment need have neither torch nor the rest of taxon.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from serving_rivals import Picture, answer_of, session_of
from taxon.preprocessing import Preprocessing, prepare


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Decodes a request's picture in its worker, and computes batches there."""

    def __init__(self, given: argparse.Namespace) -> None:
        super().__init__(max_batch_size=given.batch, batch_timeout=given.timeout)
        self._given = given

    def setup(self, device: str) -> None:
        """Open the graph; the workers share the cores."""
        threads = max(1, len(os.sched_getaffinity(0)) // self._given.workers)
        self._session = session_of(self._given.onnx, threads)
        self._spec = Preprocessing.model_validate_json(self._given.spec.read_text())
        self._names = json.loads(self._given.labels.read_text())["names"]

    def decode_request(self, request: Picture) -> np.ndarray:
        """Bytes -> uint8 [3, H, W]."""
        return prepare(request, self._spec)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """One picture, or a batch where there are batches."""
        if self.max_batch_size > 1:
            return self._session.run(["probabilities"], {"images": images})[0]
        return self._session.run(["probabilities"], {"images": images[None]})[0][0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """What a client is told."""
        return answer_of(output, self._names)


# LitServe reads the annotation itself, and does not resolve one that is a string.
Api.decode_request.__annotations__["request"] = Picture


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--spec", type=Path, required=True, help="preprocessing.json of the model")
    parser.add_argument("--labels", type=Path, required=True, help="labels.json of the model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds a batch waits")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    server = litserve.LitServer(Api(given), accelerator="cpu", workers_per_device=given.workers)
    server.run(host="127.0.0.1", port=given.port, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
