"""What users and scripts rely on is frozen: commands, options, exported names; and start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import taxon
from taxon.cli.main import app

GOLDEN = Path(__file__).with_name("surface.json")


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The commands by their words, those of groups too."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _surface() -> dict[str, dict[str, list[str]]]:
    commands = {
        name: sorted(
            option
            for parameter in command.params
            for option in (
                parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
            )
        )
        for name, command in _commands(typer.main.get_command(app))
    }
    return {"commands": commands, "python": {"taxon": sorted(taxon.__all__)}}


def test_surface_is_frozen() -> None:
    """A change here is a change for users: write it into CHANGELOG.md, then renew the file with
    `python tests/test_surface.py`."""
    assert _surface() == json.loads(GOLDEN.read_text())


def test_every_exported_name_exists() -> None:
    for name in taxon.__all__:
        assert getattr(taxon, name) is not None
    assert callable(taxon.export) and callable(taxon.audit) and callable(taxon.evaluate)


def _loaded_after(code: str) -> set[str]:
    program = (
        f"{code}\nimport sys; print('\\n'.join({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


HEAVY = {
    "huggingface_hub",
    "torch",
    "timm",
    "sklearn",
    "scipy",
    "accelerate",
    "onnx",
    "torchvision",
    "jinja2",
}


@pytest.mark.parametrize(
    ("code", "also"),
    [
        (
            "import taxon.cli.main",
            {"numpy", "PIL", "pydantic", "onnxruntime", "fastapi", "pyarrow"},
        ),
        ("import taxon", {"numpy", "PIL", "pydantic", "onnxruntime", "fastapi", "pyarrow"}),
        ("from taxon.api import serve", {"pyarrow"}),
        ("from taxon.api import predict", set()),
        ("from taxon.inference import load_predictor", {"fastapi", "pyarrow"}),
    ],
)
def test_heavy_libraries_stay_out_of_start_up(code: str, also: set[str]) -> None:
    assert not _loaded_after(code) & (HEAVY | also)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(_surface(), indent=2) + "\n")
