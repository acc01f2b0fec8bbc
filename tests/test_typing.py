"""What a type checker knows of the wheel: `import taxon` has the types of what it loads late."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Once
from test_packaging import ROOT

RIGHT = """
import asyncio
from pathlib import Path

import taxon

model: taxon.Model = taxon.train("photos", out="model", weights="none", epochs=1)
score: float | None = model.evaluate().metrics.macro_f1.value
label: str | None = model.predict("a.jpg").label
again: taxon.Model = taxon.load(Path("model"))
for answer in taxon.predict("model", ["a.jpg", "b.jpg"]):
    print(answer.label, answer.confidence)

with taxon.Client("http://127.0.0.1:8000") as client:
    answers = client.classify("a.jpg")


async def ask() -> None:
    async with taxon.AsyncClient("http://127.0.0.1:8000") as patient:
        await patient.classify("a.jpg")


try:
    asyncio.run(ask())
except taxon.ServerError as error:
    print(error.status)
except taxon.TaxonError:
    print(taxon.__version__.upper())
"""
WRONG = """
import taxon

taxon.train("photos", epochs="ten")
taxon.train("photos", epoch=10)
label: int = taxon.load("model").predict("a.jpg").label
taxon.Client("http://127.0.0.1:8000").clasify("a.jpg")
taxon.forecast("photos")
"""
# Strict; what the package imports of others says nothing of its own types, and takes minutes.
CONFIG = """
[mypy]
strict = true
follow_imports = silent
""" + "".join(
    f"[mypy-{name}.*]\nfollow_imports = skip\nignore_missing_imports = true\n"
    for name in (
        "torch",
        "torchvision",
        "timm",
        "scipy",
        "sklearn",
        "accelerate",
        "fastapi",
        "onnx",
    )
)
PROBLEMS = ("arg-type", "call-arg", "assignment", "attr-defined", "attr-defined")


@pytest.fixture(scope="module")
def site(once: Once) -> Path:
    """A folder with the package as the wheel has it."""

    def make(folder: Path) -> None:
        subprocess.run(
            [
                *(sys.executable, "-m", "build", "--no-isolation", "--wheel"),
                *("--outdir", str(folder), str(ROOT)),
            ],
            check=True,
            capture_output=True,
        )
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
            archive.extractall(folder / "site")

    return once.made("typed", make) / "site"


@pytest.mark.slow
def test_a_strict_checker_knows_the_types(site: Path, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", "cache"),
            *("right.py", "wrong.py"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # In place of site-packages, where an installed one would be found: `py.typed` is asked for
        # there, and a path of mypy's own would not ask.
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("right.py")] == []
    found = [line.rpartition("[")[2].rstrip("]") for line in lines if ": error: " in line]
    assert found == list(PROBLEMS), done.stdout
    at = [int(line.split(":")[1]) for line in lines if ": error: " in line]
    assert at == [4, 5, 6, 7, 8]
