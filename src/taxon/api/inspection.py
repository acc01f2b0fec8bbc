"""Audit: look at a data set before training on it, or at the data of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taxon.bundle.layout import BUNDLE_FILE, MANIFEST_FILE
from taxon.core.errors import ConfigError, OutputError, WeightsError
from taxon.core.files import require_free, require_writable, write_json
from taxon.core.limits import require_seed
from taxon.data import Columns, Manifest, data_path, load_manifest
from taxon.data.plan_file import is_plan, write_plan
from taxon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from taxon.auditing import AuditReport
    from taxon.core.predictions import FloatArray

REPORT_FILE = "audit.json"
PAGE_FILE = "audit.html"

# Called with what is being done, and (done, total) of it.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Embedding:
    """Features of a data set's pictures, and the preprocessing they came through.

    Attributes:
        features: float32 [N, F], or None where there is no backbone at hand.
        source: which backbone made them, or why there are none.
        spec: the preprocessing that a model would use.
        probabilities: float32 [N, C] of a model that never saw the pictures; None without one.
    """

    features: FloatArray | None
    source: str
    spec: Preprocessing | None = None
    probabilities: FloatArray | None = None


def audit(
    data: str | Path,
    *,
    out: str | Path | None = None,
    fix: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    columns: Columns | None = None,
    seed: int = 0,
    truncated: Literal["refuse", "fill"] = "refuse",
    max_pixels: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AuditReport:
    """Look into every picture of a data set and say what is wrong with it.

    Label issues, drift and the second look at near-duplicates need features of a pretrained
    backbone; where there is none at hand the report lists them as not run, with the reason.

    Args:
        data: a data set, or a model folder, whose own data are then looked at with its backbone.
        out: a folder for audit.json and audit.html; None writes nothing.
        fix: a YAML file for the plan: what to drop, regroup and relabel. Edit it, then apply it
            with `split`.
        model, weights: the backbone, as in `train`. With both None timm's published weights are
            used if they can be had; `weights="none"` leaves features out.
        truncated, max_pixels: what counts as readable, as in `train`'s preprocessing.
        overwrite: replace what an earlier audit wrote to `out` and `fix`.

    Raises:
        ConfigError: a seed or outputs that cannot be used.
        DataError: no data set there.
        WeightsError: `weights` names a file that cannot be used.
    """
    from taxon.auditing import NextCommands, run_audit, write_page

    require_seed(seed)
    folder = None if out is None else Path(out)
    plan_file = None if fix is None else Path(fix)
    _require_outputs(folder, plan_file, overwrite)
    source = data_path(data)
    is_run = (source / BUNDLE_FILE).is_file()
    if is_run and (model is not None or weights is not None):
        raise ConfigError(f"{source} is a model: its own backbone is used; leave the options out")
    listed = source / MANIFEST_FILE if is_run else source
    decoding = decoding_spec(truncated, max_pixels)
    manifest = load_manifest(listed, columns, spec=decoding, progress=_part(progress, "pictures"))
    if is_run:
        embedding = _embed_with_run(source, manifest, device, seed, progress)
    else:
        embedding = _embed(manifest, model, weights, device, decoding, progress)
    report = run_audit(
        manifest,
        features=embedding.features,
        features_from=embedding.source,
        spec=embedding.spec,
        probabilities=embedding.probabilities,
        seed=seed,
    )
    commands = NextCommands(
        audited=str(data),
        data=str(listed),
        columns=columns or Columns(),
        decoding=decoding,
        model=model,
        weights=None if weights is None else str(weights),
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


def _embed(
    manifest: Manifest,
    model: str | None,
    weights: str | Path | None,
    device: str,
    decoding: Preprocessing,
    progress: Progress | None,
) -> Embedding:
    """Features of a pretrained backbone, where there is one."""
    if str(weights) == "none":
        return Embedding(None, "no backbone was wanted (--weights none)")
    from taxon.models.backbones import create_backbone, preprocessing_of
    from taxon.models.features import extract_features
    from taxon.models.weights import load_pretrained
    from taxon.models.zoo import default_backbone
    from taxon.training.device import choose_device

    where = choose_device(device)
    name = model or default_backbone(where, pretrained=True)[0]
    backbone = create_backbone(name)
    try:
        backbone, _ = load_pretrained(backbone, weights or "hub")
    except WeightsError as error:
        if weights is not None:
            raise
        return Embedding(None, f"no pretrained backbone at hand ({error})")
    same = {"truncated": decoding.truncated, "max_pixels": decoding.max_pixels}
    spec = preprocessing_of(backbone.settings).model_copy(update=same)
    # The whole picture counts here, not only its centre.
    features = extract_features(
        backbone,
        manifest.records,
        spec.model_copy(update={"resize": "squash"}),
        device=where,
        progress=_part(progress, "features"),
    )
    return Embedding(features, backbone.name, spec)


def _embed_with_run(
    run: Path, manifest: Manifest, device: str, seed: int, progress: Progress | None
) -> Embedding:
    """Features of a trained model, and probabilities that judge its labels.

    Held-out pictures are judged by the model itself, training pictures by a probe on its features
    that never saw them. The backbone did see them: what it learnt by heart stays hidden.
    """
    import numpy as np

    from taxon.auditing import out_of_fold_probabilities
    from taxon.bundle import read_bundle
    from taxon.inference import load_predictor
    from taxon.inference.table import predict_table
    from taxon.models.features import extract_features
    from taxon.models.restore import restore_classifier
    from taxon.training.device import choose_device

    bundle = read_bundle(run)
    spec = bundle.spec.preprocessing
    features = extract_features(
        restore_classifier(bundle).spec,
        manifest.records,
        spec,
        device=choose_device(device),
        progress=_part(progress, "features"),
    )
    probabilities = out_of_fold_probabilities(manifest, features, seed=seed)
    unseen = [i for i, record in enumerate(manifest.records) if record.split != "train"]
    if unseen:
        table = predict_table(load_predictor(run), [manifest.records[i] for i in unseen])
        probabilities[np.array(unseen)] = table.probabilities
    return Embedding(features, f"{run.name} ({bundle.info.backbone})", spec, probabilities)


def _part(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
