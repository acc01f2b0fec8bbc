"""Deploy: the files by which Ray Serve and KServe run a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from taxon.api.ray_serving import IMPORT_PATH, RayServing
from taxon.api.serving_models import AUTO, TORCH, BackendChoice, chosen_artefact, is_model
from taxon.bundle import read_bundle
from taxon.bundle.artefact import folder_of, read_artefact
from taxon.bundle.layout import BUNDLE_FILE
from taxon.core.errors import BundleError, OutputError
from taxon.core.files import require_writable, write_text
from taxon.scale.kserve import Inference, inference_service, serving_runtime
from taxon.scale.serve_config import Address, Replicas, serve_config
from taxon.serving.keys import read_api_keys
from taxon.serving.models.places import find_places

_RAY_HEAD = """\
# A model of taxon on Ray Serve. On one machine:   serve run {file}
# On a cluster that runs already (its head node):  serve deploy {file}
# Each node needs taxon-vision[ray] and what `args` names, under the same paths. Ray asks nobody for
# a password: keep the cluster in a network that you trust.
"""
_KSERVE_HEAD = """\
# A model of taxon on KServe: kubectl apply --filename {file}
# The image is that of deploy/Dockerfile; the model folder must lie at storageUri.
"""


def deploy_ray(
    run: str | Path,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    replicas: Replicas | None = None,
    address: Address | None = None,
    backend: str = AUTO,
    device: str = "cpu",
    api_key_file: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Write the config by which Ray Serve serves a model.

    Args:
        run: a model folder with an ONNX artefact, an artefact, a pointer to one, or a folder with
            several, as in `serve`; the nodes read it from this path.
        out: the file to write; None: none.
        name: of the application and the model; None: the model's own.
        backend, device: as in `serve`.
        api_key_file: with the keys, on every node.
        settings: of `ServingSettings`, what is not as ever.
        overwrite: replace the file.

    Returns:
        The YAML.

    Raises:
        BundleError: nothing there that can be served.
        ConfigError, InputError: a choice that cannot be.
        OutputError: the file exists, or cannot be written.
    """
    path = Path(run).absolute()
    folders = [each.folder for each in find_places(str(path), is_model)]
    for folder in folders:
        _require_servable(folder, BackendChoice(backend, device))
    if api_key_file is not None:
        read_api_keys(Path(api_key_file))
    told = RayServing(
        models=[str(path) if name is None else f"{name}={path}"],
        backend=backend,
        device=device,
        api_key_file=None if api_key_file is None else Path(api_key_file).absolute(),
        settings=dict(settings or {}),
    )
    config = serve_config(
        name or (own_name(folders[0]) if len(folders) == 1 else path.stem),
        IMPORT_PATH,
        told.model_dump(mode="json", exclude_defaults=True),
        replicas or Replicas(),
        address or Address(),
        told.serving_settings(),
    )
    return _written(out, _RAY_HEAD, _yaml(config), overwrite=overwrite)


def deploy_kserve(
    run: str | Path, model: Inference, *, out: str | Path | None = None, overwrite: bool = False
) -> str:
    """Write the manifests by which KServe serves a model: the runtime, and the model.

    Args:
        run: the model folder, looked at here; the cluster reads a copy of it.
        out, overwrite: as in `deploy_ray`.

    Returns:
        The YAML.

    Raises:
        BundleError: nothing there that can be served.
        OutputError: the file exists, or cannot be written.
    """
    _require_servable(_require_model(Path(run)), BackendChoice())
    documents = (serving_runtime(model.image), inference_service(model))
    return _written(
        out, _KSERVE_HEAD, "---\n".join(_yaml(each) for each in documents), overwrite=overwrite
    )


def own_name(run: str | Path) -> str:
    """The name of a model, in small letters, digits and `-`: Kubernetes takes no others.

    Raises:
        BundleError: there is no model.
    """
    path = _require_model(Path(run))
    if (path / BUNDLE_FILE).is_file():
        name = read_bundle(path).spec.name
    else:
        name = read_artefact(folder_of(path)).spec.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def _require_model(path: Path) -> Path:
    if not is_model(path):
        raise BundleError(
            f"there is no model in {path}; name a folder that `taxon train` wrote, or an artefact"
        )
    return path.absolute()


def _require_servable(path: Path, choice: BackendChoice) -> None:
    """Refuse what every replica would refuse; the golden pictures are left to them."""
    if (path / BUNDLE_FILE).is_file():
        bundle = read_bundle(path)
        if choice.name != TORCH:
            chosen_artefact(bundle, choice)
    elif choice.name != AUTO:
        raise BundleError(
            f"{path} is an artefact, which its own runtime computes; --backend {choice.name} is "
            "for model folders"
        )


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _written(out: str | Path | None, head: str, text: str, *, overwrite: bool) -> str:
    if out is None:
        return text
    file = Path(out)
    if file.exists() and not (overwrite and file.is_file()):
        raise OutputError(f"{file} exists; choose another --out, or add --overwrite to replace it")
    require_writable(file)
    text = head.format(file=file) + text
    write_text(file, text)
    return text
