"""What every exporter receives, and what it returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from taxon.bundle import Bundle
from taxon.core.predictions import ImageBatch
from taxon.exporters.parity_report import MAX_DROP
from taxon.inference import Backend


@dataclass(frozen=True)
class Labelled:
    """Prepared pictures with their labels.

    Attributes:
        images: uint8 [K, 3, H, W], through the bundle's preprocessing.
        targets: int64 [K] or [K, C]; -1 where unknown.
        names: of the pictures, for reports.
        frames: uint8 [K, 3, h, w], the same before the resize, for artefacts that have it in
            their graph; None for others.
    """

    images: ImageBatch
    targets: npt.NDArray[np.int64]
    names: tuple[str, ...]
    frames: ImageBatch | None = None


class ExportPictures(Protocol):
    """The user's own pictures; read when they are first asked for."""

    def training(self) -> ImageBatch:
        """Pictures of the training part, uint8 [K, 3, H, W], classes in turn.

        Raises:
            DataError: none is there any more.
        """

    def validation(self) -> Labelled:
        """Pictures of the validation part, by which layers may be chosen.

        Raises:
            DataError: none is there any more.
        """


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose.

    Attributes:
        max_drop: what macro-F1 may lose by eight bits, 0 to 1.
        frame: (width, height) of whole pictures that the graph itself brings to the model's
            size; None: the host does it.
        max_batch_size, max_delay_ms, instances: of servers that gather requests.
    """

    max_drop: float = MAX_DROP
    frame: tuple[int, int] | None = None
    max_batch_size: int = 16
    max_delay_ms: int = 5
    instances: int = 1


@dataclass(frozen=True)
class ExportJob:
    """One model to be written in one format.

    Attributes:
        bundle: the model folder.
        pictures: the user's own.
        options: what the user chose.
        tell: is told what is found on the way, in sentences.
        float_onnx: returns the model as ONNX in float32, without a frame, made once for all
            formats that start from it.
    """

    bundle: Bundle
    pictures: ExportPictures
    options: ExportOptions
    tell: Callable[[str], None]
    float_onnx: Callable[[], Path]


@dataclass(frozen=True)
class Written:
    """What an exporter wrote.

    Attributes:
        file: the artefact's file or folder, relative to the folder that it was given.
        inputs, outputs: name -> type and shape, `N` for the batch.
        beside: further files that belong to it, relative to the same folder.
        adapter: in words, what stands between this format and the core graph.
        made_with: versions of the libraries that converted it.
        notes: what a user must know.
        details: what else artefact.json shall hold; JSON.
        backend: runs what was written, where `taxon.inference.artefacts` cannot: what stands in for
            it on this machine, with a name that says so.
        rival: what its speed is compared with; None: the trained model in PyTorch.
    """

    file: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    beside: tuple[str, ...] = ()
    adapter: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    backend: Backend | None = None
    rival: Backend | None = None


Exporter = Callable[[ExportJob, Path], Written]


def served_name(name: str) -> str:
    """The name under which a server has the model: a folder and a part of a URL in one.

    Letters, digits, `.`, `_` and `-`, none of the three first or last; `model` where nothing is
    left.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-") or "model"


def tensor_inputs(bundle: Bundle, frame: tuple[int, int] | None = None) -> dict[str, str]:
    """The input of the core graph, in words."""
    width, height = input_size(bundle, frame)
    return {"images": f"uint8 [N, 3, {height}, {width}], RGB"}


def input_size(bundle: Bundle, frame: tuple[int, int] | None = None) -> tuple[int, int]:
    """The (width, height) of what goes in."""
    spec = bundle.spec.preprocessing
    return frame or (spec.width, spec.height)


def tensor_outputs(bundle: Bundle) -> dict[str, str]:
    """The outputs of the core graph, in words."""
    classes = f"float32 [N, {len(bundle.spec.label_space.names)}]"
    scope = {} if bundle.spec.policy.scope is None else {"scope": "float32 [N]"}
    return {"probabilities": classes, "logits": classes, **scope}
