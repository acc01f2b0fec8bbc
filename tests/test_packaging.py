"""What is packaged: the sdist builds and tests, the wheel carries all that it needs, and says so.

Each extra in a clean environment of its own: `make test-packaging`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from conftest import Once
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What is needed to build, to install as `make` does, to test, and to serve without torch.
OF_THE_SDIST = (
    *("pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md", "CHANGELOG.md"),
    *("requirements/serve.txt", ".dockerignore", "scripts/install-browser"),
)


def _build(source: Path, out: Path, *what: str) -> None:
    """Build with what is installed here: nothing is downloaded."""
    subprocess.run(
        [*(sys.executable, "-m", "build", "--no-isolation"), *what, "--outdir", out, source],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def built(once: Once) -> Path:
    """A folder with the sdist, the wheel of the tree, and below `again` that of the sdist."""

    def make(folder: Path) -> None:
        _build(ROOT, folder, "--sdist", "--wheel")
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder / "source", filter="data")
        (source,) = (folder / "source").iterdir()
        _build(source, folder / "again", "--wheel")

    return once.made("built", make)


def _wheel(folder: Path) -> dict[str, bytes]:
    """What is in a wheel, by name."""
    (wheel,) = folder.glob("taxon_vision-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(built: Path) -> Message:
    """What the wheel says of itself."""
    (name,) = (name for name in _wheel(built) if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(_wheel(built)[name])


def _tracked(*folders: str) -> set[str]:
    """The files of the project below these folders; without git, those that are there."""
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *folders],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0 and done.stdout:
        return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    names = {name for name in _wheel(built) if ".dist-info/" not in name}
    sources = {name.removeprefix("src/") for name in _tracked("src/taxon")}
    assert names == sources
    # Of each kind of data one, so that an empty list of sources cannot pass.
    assert names >= {
        "taxon/py.typed",
        "taxon/config/recipes/staged.yaml",
        "taxon/evaluation/templates/report.html",
        "taxon/serving/static/page.js",
    }


def test_the_wheel_runs_from_where_it_is_unpacked(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", "import taxon; print(taxon.__file__); taxon.train"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert str(tmp_path / "site") in done.stdout


def test_the_sdist_has_what_builds_and_tests_it(built: Path) -> None:
    (source,) = (built / "source").iterdir()
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    folders = ("src", "tests", "benchmarks", "scripts", "docs", "deploy", "requirements")
    wanted = {*OF_THE_SDIST, *_tracked(*folders)}
    assert wanted <= names, wanted - names
    assert not {name for name in names if name.startswith((".venv", "runs/", "dist/", ".git/"))}


def test_the_wheel_of_the_sdist_is_that_of_the_tree(built: Path) -> None:
    assert _wheel(built / "again") == _wheel(built)


def test_metadata(metadata: Message, built: Path) -> None:
    assert metadata["Name"] == PROJECT["name"] and metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    licence = f"taxon_vision-{PROJECT['version']}.dist-info/licenses/LICENSE"
    assert _wheel(built)[licence] == (ROOT / "LICENSE").read_bytes()
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Summary"] == PROJECT["description"]
    classifiers = metadata.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers
    assert not any(each.startswith("License ::") for each in classifiers)  # the expression says it
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers


def test_metadata_have_each_extra_with_its_requirements(metadata: Message) -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra") or []) == set(extras)
    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    for extra, lines in extras.items():
        if extra == "dev":  # takes in the others, whose requirements then stand there
            continue
        brought = {
            each.name
            for each in needs
            if each.marker
            and each.marker.evaluate({"extra": extra})
            and not each.marker.evaluate({"extra": ""})
        }
        assert brought == {Requirement(line).name for line in lines}, extra
    plain = {each.name for each in needs if not each.marker or "extra" not in str(each.marker)}
    assert plain == {Requirement(line).name for line in PROJECT["dependencies"]}


def test_the_command_is_there(built: Path) -> None:
    (entry,) = (text for name, text in _wheel(built).items() if name.endswith("entry_points.txt"))
    assert entry.decode().split() == ["[console_scripts]", "taxon", "=", "taxon.cli.main:main"]
