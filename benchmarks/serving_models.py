"""Models and environments for `benchmarks/serving.py`; made once and kept in its work folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import onnx

from export_matrix import TRAIN
from serving_servers import SOURCE, Model

_SAME = ("onnxruntime", "numpy", "pillow", "pydantic", "uvloop", "httptools")
_NORMALISED = "normalise.factor"  # the last constant before the backbone


def make_model(name: str, data: Path, work: Path) -> Model:
    """A backbone with random weights, trained (its head only) and exported.

    Random weights: the time is that of any others. Batch normalisation is calibrated on real
    pictures, or numbers might vanish, and tiny ones take longer.
    """
    run = work / "models" / name
    model = Model(name, run, work / "models" / f"{name}-float.onnx")
    if not (run / "bundle.json").is_file():
        run.parent.mkdir(parents=True, exist_ok=True)
        weights = work / "models" / f"{name}.safetensors"
        _python("-c", TRAIN, name, data, run, weights, "preprocessing.resize=crop")
    if not (model.torchserve / "artefact.json").is_file():
        _python("-m", "taxon", "export", run, "--to", "torchserve")
    if not model.float_onnx.is_file():
        write_float_graph(model.onnx, model.float_onnx)
    return model


def write_float_graph(source: Path, target: Path) -> None:
    """Write the graph without its normalisation: it takes float32 pictures that have it."""
    model = onnx.load(str(source))
    graph = model.graph
    last = next(node for node in graph.node if _NORMALISED in node.input)
    made_by = {output: node for node in graph.node for output in node.output}
    dropped, pending = [], [last]
    while pending:  # all that leads to it
        node = pending.pop()
        dropped.append(node)
        pending += [made_by[name] for name in node.input if name in made_by]
    (given,) = graph.input
    old, new = given.name, last.output[0]
    for node in dropped:
        graph.node.remove(node)
    for node in graph.node:  # what asks for the number of pictures
        for at, name in enumerate(node.input):
            if name == old:
                node.input[at] = new
    given.name, given.type.tensor_type.elem_type = new, onnx.TensorProto.FLOAT
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def make_litserve(work: Path, python: Path | None) -> Path:
    """Python of an environment with LitServe and our versions of what computes."""
    if python is not None:
        return python
    folder = work / "litserve"
    made = folder / "bin" / "python"
    if not (folder / "done").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pinned = [f"{package}=={version(package)}" for package in _SAME]
        install = ["-m", "pip", "install", "--quiet", "litserve", *pinned]
        subprocess.run([made, *install], check=True)
        (folder / "done").touch()
    return made


def _python(*arguments: str | Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    # What it prints would be taken for ours.
    subprocess.run([sys.executable, *arguments], check=True, stdout=sys.stderr, env=environment)
