"""Audit: look at a data set before training on it, or at the data of a trained model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taxon.api.audit_features import (
    Embedding,
    Engines,
    Progress,
    embed_with_backbone,
    embed_with_model,
    embed_with_parts,
    embed_with_run,
    part_of,
)
from taxon.api.batching import Engine, Told
from taxon.api.stored_features import holds_parts
from taxon.bundle.layout import BUNDLE_FILE, MANIFEST_FILE
from taxon.core.errors import ConfigError, OutputError
from taxon.core.files import require_free, require_writable, write_json
from taxon.core.limits import require_seed
from taxon.data import Columns, Manifest, data_path, load_manifest
from taxon.data.plan_file import is_plan, write_plan
from taxon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from taxon.auditing import AuditReport
    from taxon.data.build import Looker

REPORT_FILE = "audit.json"
PAGE_FILE = "audit.html"


def audit(
    data: str | Path,
    *,
    out: str | Path | None = None,
    fix: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    features: str | Path | None = None,
    engine: Engine = "local",
    address: str | None = None,
    device: str = "auto",
    columns: Columns | None = None,
    seed: int = 0,
    truncated: Literal["refuse", "fill"] = "refuse",
    max_pixels: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    tell: Told | None = None,
) -> AuditReport:
    """Look into every picture of a data set and say what is wrong with it.

    Label issues, drift and the second look at near-duplicates need features: of a pretrained
    backbone, or those that `features` names; where there are none the report lists the checks as
    not run, with the reason.

    Args:
        data: a data set, or a model folder, whose own data are then looked at with its backbone.
        out: a folder for audit.json and audit.html; None writes nothing.
        fix: a YAML file for the plan: what to drop, regroup and relabel. Edit it, then apply it
            with `split`.
        model, weights: the backbone, as in `train`. With both None timm's published weights are
            used if they can be had; `weights="none"` leaves features out.
        features: in place of the backbone: a model (folder, artefact) whose features are computed
            by the engine, or a folder of parts that `embed` wrote of the same files; for a model
            folder as `data` only its parts. By them look-alikes that hashes miss are found too.
        engine: what looks into pictures that no earlier command looked into, and computes the
            features of a model that `features` names: `local`, or `ray`, whose machines must see
            the files under the same paths. The findings are the same.
        address: of the Ray cluster, as in `batch_predict`.
        truncated, max_pixels: what counts as readable, as in `train`'s preprocessing.
        overwrite: replace what an earlier audit wrote to `out` and `fix`.
        tell: told in words what is done.

    Raises:
        BundleError: `features` names a model that gives none.
        CheckFailed: a machine of the cluster decodes or computes something else than this one.
        ConfigError: a seed, options or outputs that cannot be used; nothing at the address.
        DataError: no data set there, or parts that cannot be used.
        MissingDependencyError: `ray` is not installed.
        WeightsError: `weights` names a file that cannot be used.
    """
    from taxon.auditing import CHECKS, LOOK_ALIKES, NextCommands, run_audit, write_page

    require_seed(seed)
    folder = None if out is None else Path(out)
    plan_file = None if fix is None else Path(fix)
    _require_outputs(folder, plan_file, overwrite)
    source = data_path(data)
    is_run = (source / BUNDLE_FILE).is_file()
    stored = None if features is None else data_path(features)
    _require_one_backbone(source if is_run else None, model, weights, stored)
    listed = source / MANIFEST_FILE if is_run else source
    decoding = decoding_spec(truncated, max_pixels)
    manifest = load_manifest(
        listed,
        columns,
        spec=decoding,
        progress=part_of(progress, "pictures"),
        looker=_ray_looker(address, tell) if engine == "ray" else None,
    )
    engines = Engines(engine, address, device, progress, tell)
    if is_run:
        embedding = embed_with_run(source, manifest, seed, engines, stored)
    else:
        embedding = _embedding(manifest, model, weights, stored, decoding, engines)
    report = run_audit(
        manifest,
        features=embedding.features,
        features_from=embedding.source,
        spec=embedding.spec,
        probabilities=embedding.probabilities,
        seed=seed,
        checks=tuple(CHECKS) if stored is None else (*CHECKS, LOOK_ALIKES),
    )
    commands = NextCommands(
        audited=str(data),
        data=str(listed),
        columns=columns or Columns(),
        decoding=decoding,
        model=model,
        weights=None if weights is None else str(weights),
        features=None if features is None else str(features),
        plan=plan_file,
        resplit=report.leaks,
    )
    if plan_file is not None:
        following = (commands.split(), commands.train_on_split())
        report = report.model_copy(update={"next_commands": following})
        write_plan(report.plan, plan_file, following)
    if folder is not None:
        # File by file: whatever else somebody keeps in the folder, an edited plan say, stays.
        write_json(folder / REPORT_FILE, report.model_dump(mode="json"))
        write_page(report, manifest, folder / PAGE_FILE, commands)
    return report


def _embedding(
    manifest: Manifest,
    model: str | None,
    weights: str | Path | None,
    stored: Path | None,
    decoding: Preprocessing,
    engines: Engines,
) -> Embedding:
    """Features for a data set, of what was named."""
    if stored is None:
        return embed_with_backbone(manifest, model, weights, decoding, engines)
    if holds_parts(stored):
        return embed_with_parts(stored, manifest)
    return embed_with_model(stored, manifest, engines)


def _require_one_backbone(
    run: Path | None, model: str | None, weights: str | Path | None, features: Path | None
) -> None:
    """Refuse two sources of features.

    Args:
        run: the model folder whose own data are looked at.
    """
    backbone = model is not None or weights is not None
    if run is not None and backbone:
        raise ConfigError(f"{run} is a model: its own backbone is used; leave the options out")
    if features is not None and backbone:
        raise ConfigError(
            f"--features {features} takes the place of a backbone; leave out --model and --weights"
        )
    if run is not None and features is not None and not holds_parts(features):
        raise ConfigError(
            f"{run} is a model: its own features are used; --features names parts that "
            f"`taxon embed` wrote with it, received {features}"
        )


def _ray_looker(address: str | None, tell: Told | None) -> Looker:
    # Imported here: Ray is an extra.
    from taxon.scale.looks import looks_on_ray

    return partial(looks_on_ray, address=address, tell=tell or _quiet)


def _quiet(_text: str) -> None:
    """Say nothing."""


def decoding_spec(truncated: Literal["refuse", "fill"], max_pixels: int | None) -> Preprocessing:
    """The usual preprocessing, with what decides which pictures can be read."""
    usual = Preprocessing()
    return Preprocessing(truncated=truncated, max_pixels=max_pixels or usual.max_pixels)


def _require_outputs(folder: Path | None, plan_file: Path | None, overwrite: bool) -> None:
    if folder is not None:
        require_free(folder, replace_if=REPORT_FILE if overwrite else None)
        require_writable(folder / REPORT_FILE)
    if plan_file is None:
        return
    taken = [folder, folder / PAGE_FILE, folder / REPORT_FILE] if folder is not None else []
    if plan_file.resolve() in [path.resolve() for path in taken]:
        raise ConfigError(
            f"--fix and --out both name {plan_file}; name another file for the plan, say "
            f"{folder}/plan.yaml"
        )
    if plan_file.exists():
        if not overwrite:
            raise OutputError(f"{plan_file} exists; add --overwrite to replace it")
        if not is_plan(plan_file):
            raise OutputError(
                f"refused to replace {plan_file}: it cannot be read as a plan; choose another --fix"
            )
    require_writable(plan_file)
