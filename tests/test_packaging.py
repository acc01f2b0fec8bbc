"""The wheel carries everything that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = (
    "taxon/py.typed",
    "taxon/config/recipes/staged.yaml",
    "taxon/config/recipes/scratch.yaml",
    "taxon/serving/static/index.html",
    "taxon/serving/static/page.css",
    "taxon/serving/static/page.js",
)


def test_wheel_is_complete_and_runs(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet"),
            *("--no-build-isolation", "--wheel-dir", str(tmp_path)),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("taxon_vision-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert set(NEEDED) <= names
    assert any(name.startswith("taxon/evaluation/templates/") for name in names)
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "taxon").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    done = subprocess.run(
        [sys.executable, "-c", "import taxon; print(taxon.__file__); taxon.train"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert str(tmp_path / "site") in done.stdout
