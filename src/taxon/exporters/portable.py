"""The host half as a package of its own: taxon's very sources, without pydantic and torch.

What happens to a picture before and after the graph is not written a second time for the edge, nor
for servers without taxon: the modules themselves are packed, with two words changed in their
imports, so that they cannot diverge from what trained the model. They run on Python 3.10 and later.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from taxon.core.errors import TaxonError
from taxon.core.files import atomic_file
from taxon.exporters.shipped import frozen_model

PACKAGE = "taxon_portable"
RUNNER_FILE = "classify.pyz"
MODULES = (
    "taxon.core",
    "taxon.core.cores",
    "taxon.core.errors",
    "taxon.core.fingerprint",
    "taxon.core.labels",
    "taxon.core.predictions",
    "taxon.core.processes",
    "taxon.core.taxonomy",
    "taxon.decision",
    "taxon.decision.answers",
    "taxon.decision.decide",
    "taxon.decision.policy",
    "taxon.decision.sets",
    "taxon.decision.taxonomy",
    "taxon.exporters.shipped.frozen_model",
    "taxon.exporters.shipped.host",
    "taxon.exporters.shipped.runner",
    "taxon.exporters.shipped.runtimes",
    "taxon.preprocessing",
    "taxon.preprocessing.decode",
    "taxon.preprocessing.deep_grey",
    "taxon.preprocessing.frames",
    "taxon.preprocessing.spec",
    "taxon.preprocessing.transform",
)
_SHIPPED = "taxon.exporters.shipped."
_STAND_IN = f"{_SHIPPED}frozen_model"
# What may be imported beside: always, and within a function, since one or none of them is there.
_OTHERS = frozenset({"numpy", "PIL"})
_OPTIONAL = frozenset({"onnxruntime", "ai_edge_litert", "tflite_runtime", "pillow_heif"})
_IMPORT = re.compile(r"^(\s*from )(taxon\.[\w.]+|pydantic)( import )", re.MULTILINE)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold: the same for every build
_INTERPRETER = b"#!/usr/bin/env python3\n"
_MAIN = f'''"""Answer for pictures; see --help."""

import sys
from pathlib import Path

from {PACKAGE}.runner import main

sys.exit(main(Path(__file__).resolve().parents[1]))
'''


def write_runner(folder: Path) -> Path:
    """Write classify.pyz beside an ONNX or TFLite artefact; the same bytes every time.

    `python3 classify.pyz PICTURE...` needs NumPy, Pillow and the runtime. On Python's path the file
    is the package `taxon_portable`.
    """
    path = folder / RUNNER_FILE
    content = zip_bytes({**package_files(), "__main__.py": _MAIN.encode()})
    with atomic_file(path) as temporary:
        temporary.write_bytes(_INTERPRETER + content)
    path.chmod(path.stat().st_mode | 0o111)
    return path


def package_files() -> dict[str, bytes]:
    """Return the package `taxon_portable`: path in it -> content.

    Raises:
        TaxonError: a module imports what is not there on a small device.
    """
    files = {f"{PACKAGE}/__init__.py": b""}
    for module in MODULES:
        path = _portable_name(module).replace(".", "/")
        is_package = _source_file(module).name == "__init__.py"
        files[f"{path}/__init__.py" if is_package else f"{path}.py"] = portable_source(module)
    return files


def portable_source(module: str, *, also: frozenset[str] = frozenset()) -> bytes:
    """Return a module's source with `taxon` and `pydantic` replaced in its imports.

    Args:
        also: packages that are there beside NumPy and Pillow.

    Raises:
        TaxonError: it imports anything else.
    """
    source = _source_file(module).read_text(encoding="utf-8")
    replaced = _IMPORT.sub(lambda found: found[1] + _portable_name(found[2]) + found[3], source)
    _require_portable(module, replaced, also)
    return replaced.encode()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files, sorted and without the time: equal files, equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _portable_name(module: str) -> str:
    """The name of a module in the package."""
    own = _STAND_IN if module == "pydantic" else module
    if own.startswith(_SHIPPED):
        return f"{PACKAGE}.{own.removeprefix(_SHIPPED)}"
    return f"{PACKAGE}.{own.removeprefix('taxon.')}"


def _source_file(module: str) -> Path:
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


def _require_portable(module: str, source: str, also: frozenset[str]) -> None:
    """Refuse a source that imports what is not there.

    Raises:
        TaxonError: it does.
    """
    packed = {_portable_name(each) for each in MODULES}
    tree = ast.parse(source, feature_version=(3, 10))
    at_start = set(tree.body)
    for node in ast.walk(tree):
        for name in _imported(node):
            first = name.partition(".")[0]
            there = sys.stdlib_module_names | _OTHERS | also
            if node not in at_start:
                there |= _OPTIONAL
            if name not in packed and first not in there:
                raise TaxonError(
                    f"{module} imports {name}, which is not there without taxon; add it to the "
                    "modules that are packed, or let the module do without it"
                )


def _imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports, if it is one that does, and what is taken from ours."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = "." * node.level + (node.module or "")
    if module == _portable_name(_STAND_IN):
        return [
            module,
            *(alias.name for alias in node.names if not hasattr(frozen_model, alias.name)),
        ]
    return [module]
