"""All backbones of the charter in all formats: a page with what each cell gave, or why not.

    python benchmarks/export_matrix.py --work FOLDER [--models A,B] [--formats X,Y] [--timeout 900]

Every backbone is trained as a user would without pretrained weights at hand: random weights, the
statistics of batch normalisation taken from pictures (or the features of deep networks vanish, and
every artefact would look equal), and a head fitted on generated pictures (`--recipe probe`), at the
size that its published weights take. Each cell is kept in FOLDER, so that a run that was stopped
goes on. A backbone's formats are exported in one process, but for those in eight bits, which may
take long, and for what that process left undone: each in one of its own. The page is written to
docs/export-matrix.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxon.core.files import write_json, write_text
from taxon.core.machine import machine_sentence
from taxon.exporters.formats import NAMES

BACKBONES = (
    "mobilenetv3_large_100",
    "efficientnet_lite0",
    "efficientnet_b0",
    "yolo11n-cls",
    "convnext_tiny",
    "efficientnet_b4",
    "vit_base_patch16_224",
    "efficientnet_b7",
)
PAGE = Path(__file__).parents[1] / "docs" / "export-matrix.md"
PICTURES, SIDE = 180, 96
COMPARED = 24  # of the pictures; B7 takes a second for each, twice
INTRODUCTION = (
    "Written by `make export-matrix`, and not by hand. A cell: milliseconds for one picture "
    "(median; in brackets the time by that of the rival that it took turns with: PyTorch, for "
    "fewer bits the same runtime in float32), then megabytes. A number after `no` says why not, "
    "below.",
    "Every artefact here is equal to its model by the rules of [ADR 25](adr/0025-artefacts.md). "
    "The models have random weights with calibrated normalisation and a head fitted on generated "
    "pictures, at the size of the published weights: they say whether a network converts and how "
    "fast it runs, and not how well it bears eight bits when trained (`--max-drop 1` here: as many "
    "layers in eight bits as leave the answers roughly what they were). They were compared on "
    f"{COMPARED} pictures: with fewer bits only what is grossly wrong fails on so few.",
)
TRAIN = """
import sys
import numpy as np, torch
from pathlib import Path
from PIL import Image
import taxon
from safetensors.torch import save_file
from taxon.models import build_classifier
from taxon.models.zoo import find
name, data, out, weights = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
size = find(name).input_size
torch.manual_seed(0)
classifier = build_classifier(2, name, weights="none", input_size=(size, size)).train()
files = sorted(data.rglob("*.jpg"))[::10][:12]
pictures = [np.asarray(Image.open(f).convert("RGB").resize((size, size))) for f in files]
images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
with torch.no_grad():
    for _ in range(20):  # batch normalisation takes a tenth of what it sees each time
        classifier.features(images[torch.randperm(12)[:4]])
save_file({k: v.contiguous() for k, v in classifier.backbone.state_dict().items()}, weights)
taxon.train(data, out=out, model=name, weights=weights, recipe="probe", device="cpu",
            overrides=sys.argv[5:])
"""
EXPORT = """
import sys
import taxon
def done(info):
    print("CELL" + info.model_dump_json(exclude={"spec", "files"}), flush=True)
taxon.export(
    sys.argv[1], sys.argv[2].split(","), out=sys.argv[3], data=sys.argv[4], max_drop=1.0, each=done
)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="models and cells are kept here")
    parser.add_argument("--models", default=",".join(BACKBONES))
    parser.add_argument("--formats", default=",".join(NAMES))
    parser.add_argument("--timeout", type=int, default=900, help="seconds a cell")
    arguments = parser.parse_args()
    work: Path = arguments.work
    data, compared = _pictures(work)
    for name in arguments.models.split(","):
        run = _model(name, data, work, arguments.timeout)
        cells = _Cells(work, name)
        missing = [each for each in arguments.formats.split(",") if not cells.has(each)]
        if isinstance(run, str):
            for format_name in missing:
                cells.keep(format_name, {"reason": run})
            continue
        together = [each for each in missing if not each.endswith("int8")]
        if len(together) > 1:
            _export(run, together, compared, cells, arguments.timeout * len(together))
        for format_name in missing:
            if not cells.has(format_name):
                reason = _export(run, [format_name], compared, cells, arguments.timeout)
                if not cells.has(format_name):
                    cells.keep(format_name, {"reason": reason or "nothing was written"})
    write_text(PAGE, page(work))


def _pictures(work: Path) -> tuple[Path, Path]:
    """The generated set, and a part of it to compare on."""
    from taxon.data.samples import generate_samples

    data, compared = work / "defects", work / "compared"
    if not data.exists():
        generate_samples("defects", data, size=SIDE, count=PICTURES)
    if not compared.exists():
        files = sorted(data.rglob("*.jpg"))
        for file in files[:: max(1, len(files) // COMPARED)][:COMPARED]:
            target = compared / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return data, compared


def _model(name: str, data: Path, work: Path, timeout: int) -> Path | str:
    """The trained model's folder, or why there is none."""
    run, weights = work / "models" / name, work / f"{name}.safetensors"
    if (run / "bundle.json").is_file():
        return run
    shutil.rmtree(run, ignore_errors=True)  # training was stopped
    run.parent.mkdir(parents=True, exist_ok=True)
    overrides = ["preprocessing.resize=squash", "pooling=last"]
    arguments = [name, str(data), str(run), str(weights), *overrides]
    failure, _ = _python(TRAIN, arguments, timeout)
    weights.unlink(missing_ok=True)
    return failure or run


class _Cells:
    """What was found of a backbone, a file a format."""

    def __init__(self, work: Path, model: str) -> None:
        self._folder = work / "cells"
        self._model = model

    def has(self, format_name: str) -> bool:
        return self._file(format_name).exists()

    def keep(self, format_name: str, found: dict[str, Any]) -> None:
        write_json(self._file(format_name), found)
        print(f"{self._model} {format_name}: {_cell_text(found, [])}", flush=True)

    def _file(self, format_name: str) -> Path:
        return self._folder / f"{self._model}--{format_name}.json"


def _export(
    run: Path, formats: Sequence[str], compared: Path, cells: _Cells, timeout: int
) -> str | None:
    """Export in one process and keep each cell that came; return why it failed."""
    out = run.parent.parent / "artefacts" / run.name
    arguments = [str(run), ",".join(formats), str(out), str(compared)]
    failure, output = _python(EXPORT, arguments, timeout)
    for line in output.splitlines():
        if line.startswith("CELL"):
            found = json.loads(line.removeprefix("CELL"))
            cells.keep(found["format"], found)
    return failure


def _python(code: str, arguments: Sequence[str], timeout: int) -> tuple[str | None, str]:
    """Run code in a process of its own: why it failed, and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the converters that it started
        return f"took longer than {timeout} s", process.communicate()[0]
    if process.returncode == 0:
        return None, printed
    lines = [line for line in said.strip().splitlines() if line.strip()]
    reason = lines[-1] if lines else f"ended with {process.returncode}"
    reason = reason.removeprefix("taxon.core.errors.CheckFailed: ")
    return reason.partition("; the artefact was moved")[0], printed


def page(work: Path) -> str:
    """The page in Markdown."""
    cells = {
        (name, format_name): json.loads(file.read_text())
        for name in BACKBONES
        for format_name in NAMES
        if (file := work / "cells" / f"{name}--{format_name}.json").exists()
    }
    reasons: list[str] = []
    rows = [
        [f"`{format_name}`"]
        + [_cell_text(cells.get((name, format_name)), reasons) for name in BACKBONES]
        for format_name in NAMES
    ]
    notes = "\n".join(f"{place}. {reason}" for place, reason in enumerate(reasons, start=1))
    table = _markdown([["format", *BACKBONES], *rows])
    return (
        "\n\n".join(
            [
                "# Backbones and formats",
                *INTRODUCTION,
                table,
                notes or "Of the cells that were run none failed.",
                *_unfinished(len(cells), len(BACKBONES) * len(NAMES)),
                *_conditions(list(cells.values())),
            ]
        )
        + "\n"
    )


def _unfinished(run: int, all_: int) -> list[str]:
    return [] if run == all_ else [f"**Unfinished: {run} of {all_} cells were run.**"]


def _conditions(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The machines and versions that the cells themselves name."""
    machines = {machine_sentence(cell["machine"]) for cell in cells if cell.get("machine")}
    found: dict[str, set[str]] = {}
    for cell in cells:
        for package, version in cell.get("made_with", {}).items():
            found.setdefault(package, set()).add(version)
    tested = ", ".join(
        f"{name} {' and '.join(sorted(each))}" for name, each in sorted(found.items())
    )
    return [f"Measured on {'; '.join(sorted(machines))}. Converted with {tested}."] if cells else []


def _cell_text(cell: dict[str, Any] | None, reasons: list[str]) -> str:
    if cell is None:
        return "not run"
    if "reason" in cell:
        if cell["reason"] not in reasons:
            reasons.append(cell["reason"])
        return f"no ({reasons.index(cell['reason']) + 1})"
    size = f"{cell['size'] / 1e6:.0f} MB"
    if not cell["speed"]:
        return f"yes, not timed here, {size}"
    single = cell["speed"][0]
    return f"{single['p50_ms']:.1f} ({single['ratio']:.2f}x), {size}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    main()
