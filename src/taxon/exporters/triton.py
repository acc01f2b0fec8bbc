"""Triton Inference Server: a model repository with the ONNX, its configuration and its labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from taxon.bundle import ModelSpec
from taxon.core.text import is_control, one_line
from taxon.core.versions import made_with
from taxon.exporters.framing_words import framing_in_words
from taxon.exporters.job import (
    ExportJob,
    ExportOptions,
    Written,
    served_name,
    tensor_inputs,
    tensor_outputs,
)
from taxon.inference.onnx_runtime import OUTPUTS, SCOPE_OUTPUT
from taxon.inference.triton import CONFIG_FILE, LABELS_FILE, MODEL_FILE

BACKEND = "onnxruntime"


def export_triton(job: ExportJob, folder: Path) -> Written:
    """Write NAME/config.pbtxt, NAME/labels.txt and NAME/1/model.onnx: the folder is a repository.

    Raises:
        ConfigError: a batch size, delay or number of instances that Triton does not take.
    """
    spec, options = job.bundle.spec, job.options
    name = served_name(spec.name)
    model = folder / name / MODEL_FILE
    model.parent.mkdir(parents=True)
    shutil.copyfile(job.float_onnx(), model)
    (folder / name / CONFIG_FILE).write_text(config_text(spec, options), encoding="utf-8")
    labels = "".join(f"{one_line(label)}\n" for label in spec.label_space.names)
    (folder / name / LABELS_FILE).write_text(labels, encoding="utf-8")
    outputs = tensor_outputs(job.bundle)
    if SCOPE_OUTPUT in outputs:
        outputs[SCOPE_OUTPUT] = "float32 [N, 1]"
    return Written(
        file=name,
        inputs=tensor_inputs(job.bundle),
        outputs=outputs,
        adapter=framing_in_words(spec.preprocessing),
        made_with=made_with("torch", "onnx", "onnxscript"),
        notes=(
            "Speed is that of ONNX Runtime in this process, without the server.",
            "The clients prepare the pictures: the server takes tensors of the model's size.",
        ),
        details={
            "model_name": name,
            "max_batch_size": options.max_batch_size,
            "max_queue_delay_microseconds": options.max_delay_ms * 1000,
            "instances": options.instances,
        },
    )


def config_text(spec: ModelSpec, options: ExportOptions) -> str:
    """The content of config.pbtxt: a `ModelConfig` of Triton in protobuf's text format."""
    classes = len(spec.label_space.names)
    size = (3, spec.preprocessing.height, spec.preprocessing.width)
    outputs = [
        _tensor(OUTPUTS[0], "TYPE_FP32", (classes,), f"label_filename: {_quoted(LABELS_FILE)}"),
        _tensor(OUTPUTS[1], "TYPE_FP32", (classes,)),
    ]
    if spec.policy.scope is not None:
        # One number a picture: Triton wants an axis of its own, which the graph does not have.
        outputs.append(_tensor(SCOPE_OUTPUT, "TYPE_FP32", (1,), "reshape { shape: [ ] }"))
    parameters = {
        "taxon.name": spec.name,
        "taxon.fingerprint": spec.fingerprint,
        "taxon.preprocessing": spec.preprocessing.fingerprint,
        "taxon.framing": framing_in_words(spec.preprocessing),
    }
    lines = [
        "# Written by taxon; a ModelConfig of Triton Inference Server. Pictures come in prepared:",
        f"# {framing_in_words(spec.preprocessing)}",
        f"name: {_quoted(served_name(spec.name))}",
        f"backend: {_quoted(BACKEND)}",
        f"default_model_filename: {_quoted(Path(MODEL_FILE).name)}",
        f"max_batch_size: {options.max_batch_size}",
        f"input [ {_tensor('images', 'TYPE_UINT8', size)} ]",
        "output [",
        ",\n".join(f"  {each}" for each in outputs),
        "]",
        "version_policy { latest { num_versions: 1 } }",
        *_batching(options),
        "# On a GPU: kind: KIND_GPU, and gpus: [ 0 ] for certain ones.",
        f"instance_group [ {{ count: {options.instances} kind: KIND_CPU }} ]",
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _batching(options: ExportOptions) -> list[str]:
    """Requests are gathered; alone, a picture waits no longer than the delay."""
    largest = options.max_batch_size
    if largest == 1:
        return []
    preferred = sorted({max(2, largest // 2), largest})
    return [
        "dynamic_batching {",
        f"  preferred_batch_size: [ {', '.join(map(str, preferred))} ]",
        f"  max_queue_delay_microseconds: {options.max_delay_ms * 1000}",
        "}",
    ]


def _tensor(name: str, kind: str, dims: Sequence[int], more: str = "") -> str:
    sizes = ", ".join(map(str, dims))
    return f"{{ name: {_quoted(name)} data_type: {kind} dims: [ {sizes} ] {more}".rstrip() + " }"


def _quoted(text: str) -> str:
    """A string of protobuf's text format, in UTF-8; what would end it, or a line, is escaped."""
    escaped = (
        "".join(f"\\{byte:03o}" for byte in character.encode())
        if is_control(character) or character in '"\\'
        else character
        for character in text
    )
    return f'"{"".join(escaped)}"'
