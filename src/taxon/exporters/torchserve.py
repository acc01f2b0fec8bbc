"""TorchServe: an archive (.mar) with the model, the handler, and taxon's own preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taxon.bundle import ModelSpec
from taxon.core.files import atomic_file, write_text
from taxon.core.versions import made_with
from taxon.exporters.job import ExportJob, ExportOptions, Written, served_name
from taxon.exporters.portable import package_files, portable_source, zip_bytes
from taxon.exporters.shipped.torchserve_handler import PROGRAM_FILE, SPEC_FILE
from taxon.exporters.torch_export import write_program

ARCHIVE_FILE = "model.mar"
CONFIG_FILE = "config.properties"
_HANDLER = "taxon.exporters.shipped.torchserve_handler"
_HANDLER_FILE = "taxon_handler.py"
_WORKER_FILE = "model-config.yaml"
_VERSION = "1.0"
_TIMEOUT = 120  # seconds, TorchServe's own default
_MAX_REQUEST = 32 << 20  # bytes; by default TorchServe refuses photos of more than 6.5 MB
_NOTES = (
    "TorchServe is archived upstream: it gets no fixes, not even of security. For something new "
    "take `taxon serve`, or Triton (--to triton).",
)


def export_torchserve(job: ExportJob, folder: Path) -> Written:
    """Write model.mar and a config.properties that starts it."""
    spec = job.bundle.spec
    program = write_program(job.bundle, folder)
    files = {
        "MAR-INF/MANIFEST.json": _json_bytes(_manifest(spec)),
        PROGRAM_FILE: program.read_bytes(),
        SPEC_FILE: _json_bytes(spec.model_dump(mode="json")),
        "index_to_name.json": _json_bytes(dict(enumerate(spec.label_space.names))),
        _HANDLER_FILE: portable_source(_HANDLER, also=frozenset({"torch"})),
        _WORKER_FILE: _yaml(_worker(job.options)).encode(),
        **package_files(),
    }
    with atomic_file(folder / ARCHIVE_FILE) as temporary:
        temporary.write_bytes(zip_bytes(files))
    program.unlink()
    write_text(folder / CONFIG_FILE, _config(spec, job.options))
    return Written(
        file=ARCHIVE_FILE,
        inputs={"data": "the bytes of one picture a request, as the body or in a form"},
        outputs={"prediction": "JSON, as `taxon predict --format jsonl` writes it"},
        beside=(CONFIG_FILE,),
        adapter="the handler decodes and resizes with taxon's own code, and decides",
        made_with=made_with("torch"),
        notes=_NOTES,
        details={"model_name": served_name(spec.name), **_worker(job.options)},
    )


def _manifest(spec: ModelSpec) -> dict[str, Any]:
    """What torch-model-archiver would write.

    That itself first deletes whatever lies in the temporary folder under the model's name.
    """
    return {
        "runtime": "python",
        "model": {
            "modelName": served_name(spec.name),
            "modelVersion": _VERSION,
            "serializedFile": PROGRAM_FILE,
            "handler": _HANDLER_FILE,
            "configFile": _WORKER_FILE,
        },
    }


def _worker(options: ExportOptions) -> dict[str, int]:
    return {
        "minWorkers": options.instances,
        "maxWorkers": options.instances,
        "batchSize": options.max_batch_size,
        "maxBatchDelay": options.max_delay_ms,
        "responseTimeout": _TIMEOUT,
    }


def _config(spec: ModelSpec, options: ExportOptions) -> str:
    name = served_name(spec.name)
    version = {"defaultVersion": True, "marName": ARCHIVE_FILE, **_worker(options)}
    settings = {
        "inference_address": "http://127.0.0.1:8080",
        "management_address": "http://127.0.0.1:8081",
        "metrics_address": "http://127.0.0.1:8082",
        "max_request_size": _MAX_REQUEST,
        "load_models": f"{name}={ARCHIVE_FILE}",
        "models": json.dumps({name: {_VERSION: version}}),
    }
    start = (
        f"torchserve --start --foreground --disable-token-auth --ncs --model-store . "
        f"--ts-config {CONFIG_FILE}"
    )
    lines = [f"# {start}", *(f"{key}={value}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"


def _yaml(values: dict[str, int]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in values.items())


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
