"""What the project's papers say of it is so: citation, licences, security, the map."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {
    extra: [Requirement(line).name for line in lines]
    for extra, lines in PROJECT["project"]["optional-dependencies"].items()
    if extra != "dev"
}
ROW = re.compile(r"^\| `(?P<extra>[\w-]+)` \| (?P<package>\S+)[^|]* \| (?P<licence>[^|]+) \|", re.M)
LICENCES = {
    (row["extra"], row["package"]): row["licence"].strip()
    for row in ROW.finditer((ROOT / "docs" / "licences.md").read_text())
}
# By what a distribution's own words for its licence are known.
WORDS = {
    "Apache-2.0": "apache",
    "MIT": "mit",
    "BSD-3-Clause": "bsd",
    "AGPL-3.0": "agpl|affero",
    "PSF-2.0": "python software foundation",
}
# Keys of CFF 1.2.0 for software; others would be refused by its schema.
CITATION_KEYS = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi"),
    *("identifiers", "keywords", "license", "license-url", "message", "preferred-citation"),
    *("references", "repository", "repository-artifact", "repository-code", "title", "type"),
    *("url", "version"),
}


def test_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation) <= CITATION_KEYS
    assert citation["authors"] == [{"name": "The taxon contributors"}]  # an entity, no person
    assert citation["type"] == "software"
    assert str(citation["version"]) == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert isinstance(citation["abstract"], str) and all(
        isinstance(word, str) for word in citation["keywords"]
    )


def test_every_extra_is_on_the_page_of_licences() -> None:
    named = {(extra, package) for extra, packages in EXTRAS.items() for package in packages}
    assert set(LICENCES) == named
    install = (ROOT / "docs" / "install.md").read_text()
    assert all(f"`{extra}`" in install for extra in EXTRAS)


@pytest.mark.parametrize(("extra", "package"), sorted(LICENCES))
def test_a_licence_is_what_the_distribution_declares(extra: str, package: str) -> None:
    try:
        declared = metadata(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed here")
    words = " ".join(
        [
            declared.get("License-Expression") or "",
            (declared.get("License") or "").split("\n")[0],
            *(each for each in declared.get_all("Classifier") or [] if "License" in each),
        ]
    )
    if not words.strip():
        pytest.skip(f"{package} declares none")
    assert re.search(rf"\b({WORDS[LICENCES[extra, package]]})", words, re.I), words


def test_security_invents_no_address() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    assert "advisory" in text
    assert not re.search(r"\S@\S+\.\w", text)
    assert "http" not in text


def test_the_map_has_every_layer() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    for layer in re.findall(r"taxon\.(\w+)", " ".join(layers)):
        assert any(f"`{layer}`" in row for row in rows), layer


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)h#][^)#]*)", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), target
