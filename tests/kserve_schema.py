"""JSON Schema of KServe's resources, from the classes that its Python package has for them.

Its custom resource definitions are in no package. The classes are generated from the same source;
their text is read, since importing them would want all of KServe. What they hold of Kubernetes'
own types is checked by Kubernetes' own schema.
"""

from __future__ import annotations

import ast
import json
import re
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

_REQUIRED = re.compile(r"Invalid value for `(\w+)`, must not be `None`")
_PLAIN = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "float": "number",
    "object": "object",
}
_LIST, _DICT = re.compile(r"list\[(.+)\]"), re.compile(r"dict\(str, (.+)\)")


def kserve_schema(kind: str, kubernetes: str) -> dict[str, Any]:
    """Return the schema of a resource.

    Args:
        kind: the class, such as `V1beta1InferenceService`.
        kubernetes: the version whose types it holds, such as `1.37`.
    """
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{kubernetes}.0-local-strict" / "_definitions.json").read_text()
    definitions = json.loads(text)["$defs"]
    own = {path.stem.replace("_", "").lower(): path for path in _models().glob("v1*.py")}
    core = {name.rpartition(".")[2]: name for name in definitions if ".core.v1." in name}
    core["ObjectMeta"] = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

    def schema_of(declared: str) -> dict[str, Any]:
        if found := _LIST.fullmatch(declared):
            return {"type": "array", "items": schema_of(found[1])}
        if found := _DICT.fullmatch(declared):
            return {"type": "object", "additionalProperties": schema_of(found[1])}
        if declared in _PLAIN:
            return {"type": _PLAIN[declared]}
        if declared == "ResourceQuantity":
            return {"type": ["string", "number"]}
        if declared.lower() in own:
            add(declared)
            return {"$ref": f"#/$defs/{declared}"}
        if (name := core.get(declared.removeprefix("V1"))) is not None:
            return {"$ref": f"#/$defs/{name}"}
        return {"not": {}}  # nothing that a manifest of ours may have

    def add(name: str) -> None:
        if name in definitions:
            return
        definitions[name] = {}  # a class may hold itself
        types, keys, required = _class(own[name.lower()])
        definitions[name] = {
            "type": "object",
            "properties": {key: schema_of(types[each]) for each, key in keys.items()},
            "required": [keys[each] for each in required],
            "additionalProperties": False,
        }

    add(kind)
    return {"$ref": f"#/$defs/{kind}", "$defs": definitions}


def _models() -> Path:
    return Path(str(distribution("kserve").locate_file("kserve/models")))


def _class(file: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The types of a class's attributes, their keys in YAML, and which must be there."""
    text = file.read_text(encoding="utf-8")
    (body,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in body.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Dict)
    }
    return tables["openapi_types"], tables["attribute_map"], _REQUIRED.findall(text)
