"""The handler of TorchServe: pictures in, what `taxon predict` says out, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.exporters.shipped.host import Host, failure

SPEC_FILE = "spec.json"
PROGRAM_FILE = "model.pt2"
BATCH_HEADER = "X-Batch-Size"
NAME = "picture"  # a handler is not told what a file was called
FIELDS = ("data", "body")  # of a form; TorchServe's name for a raw body


class TaxonHandler:
    """One worker's model; TorchServe calls `initialize` once, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load the model on the device that TorchServe chose for this worker."""
        properties = context.system_properties
        folder = Path(properties["model_dir"])
        self._host = Host(json.loads((folder / SPEC_FILE).read_bytes()))
        self._device = _device(properties.get("gpu_id"))
        self._module = _load(folder / PROGRAM_FILE, self._device)
        self._pool = ThreadPoolExecutor(available_cores())

    def handle(self, requests: Sequence[Mapping[str, Any]], context: Any) -> list[dict[str, Any]]:
        """Answer for one picture a request.

        Of a batch only the request whose picture cannot be read fails, with status 400 and the
        reason in its answer. A header tells how many pictures were computed together.
        """
        prepared = list(self._pool.map(self._try_prepare, requests))
        readable = [image for image in prepared if not isinstance(image, ImageError)]
        rows = self._run(np.stack(readable)) if readable else iter(())
        answers = []
        for position, image in enumerate(prepared):
            context.set_response_content_type(position, "application/json")
            if isinstance(image, ImageError):
                context.set_response_status(400, "Bad Request", position)
                answers.append(failure(NAME, image.reason))
            else:
                context.set_response_header(position, BATCH_HEADER, str(len(readable)))
                answers.append(self._host.answer(NAME, *next(rows)))
        return answers

    def _try_prepare(self, request: Mapping[str, Any]) -> ImageBatch | ImageError:
        data = next((request[name] for name in FIELDS if name in request), None)
        if not isinstance(data, bytes | bytearray):
            return ImageError(
                NAME,
                "no bytes of a picture; send them as the body (curl -T FILE), or in the form field "
                "'data' (curl -F data=@FILE)",
                kind="format",
            )
        try:
            return self._host.prepare(bytes(data), NAME)
        except ImageError as error:
            return error

    def _run(self, images: ImageBatch) -> Iterator[tuple[FloatArray, float | None]]:
        """The probabilities and the scope of each picture, uint8 [N, 3, H, W]."""
        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(images).to(self._device))
        probabilities, _, *scope = (each.cpu().numpy() for each in outputs)
        scopes = scope[0].tolist() if scope else [None] * len(images)
        return zip(probabilities, scopes, strict=True)


def _device(gpu: int | None) -> torch.device:
    if gpu is None or not torch.cuda.is_available():
        return torch.device("cpu")
    # By default a GPU rounds in convolutions: the answers would not be those that were compared.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", gpu)


def _load(file: Path, device: torch.device) -> torch.nn.Module:
    program = torch.export.load(file)
    if device.type != "cpu":
        # Unlike `.to`, it also moves what the graph makes while it runs.
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return program.module()
