"""Features for an audit: of a pretrained backbone, of a trained model, or stored ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.api.batching import Engine, embed
from taxon.api.feature_sources import require_same_model
from taxon.api.features import ensure_features
from taxon.api.stored_features import stored_features
from taxon.core.errors import Interrupted, LostProcessError, WeightsError
from taxon.data import Manifest
from taxon.preprocessing import Preprocessing

if TYPE_CHECKING:
    from taxon.core.predictions import FloatArray

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


@dataclass(frozen=True)
class Engines:
    """What computes for an audit.

    Attributes:
        engine: `local`: this machine; `ray`: a Ray cluster, at `address`.
        device: of a backbone that has no artefact.
        progress, tell: told what is being done.
    """

    engine: Engine = "local"
    address: str | None = None
    device: str = "auto"
    progress: Progress | None = None
    tell: Callable[[str], None] | None = None


def embed_with_parts(folder: Path, manifest: Manifest) -> Embedding:
    """Features that `taxon embed` wrote.

    Raises:
        DataError: parts that cannot be used, or that lack a picture.
    """
    features = stored_features(folder, manifest.records)
    return Embedding(features, f"{folder.name} (stored)")


def embed_with_model(model: Path, manifest: Manifest, engines: Engines) -> Embedding:
    """Features of a trained model that knows nothing of the data set, by an engine.

    Raises:
        BundleError: no model that gives features.
        DataError: a picture that the model's preprocessing refuses.
    """
    from taxon.inference import load_embedder

    with TemporaryDirectory(prefix="taxon-audit-") as scratch:
        table, out = Path(scratch) / "pictures.parquet", Path(scratch) / "features"
        paths = dict.fromkeys(str(record.path) for record in manifest.records)
        pq.write_table(pa.table({"path": list(paths)}), table)
        done = 0

        def count(pictures: int, _errors: int) -> None:
            nonlocal done
            done += pictures
            if engines.progress is not None:
                engines.progress("features", done, len(paths))

        try:
            embed(
                model,
                table,
                out,
                engine=engines.engine,
                address=engines.address,
                progress=count,
                tell=engines.tell,
            )
        except (Interrupted, LostProcessError) as error:
            raise type(error)(
                "the features were not finished and are not kept; `taxon embed` goes on after an "
                "interruption: give the folder that it writes to --features"
            ) from error
        features = stored_features(out, manifest.records)
    spec = load_embedder(model).spec.preprocessing
    return Embedding(features, model.name, spec)


def embed_with_backbone(
    manifest: Manifest,
    model: str | None,
    weights: str | Path | None,
    decoding: Preprocessing,
    engines: Engines,
) -> Embedding:
    """Features of a pretrained backbone, where there is one."""
    if str(weights) == "none":
        return Embedding(None, "no backbone was wanted (--weights none)")
    from taxon.models.backbones import create_backbone, preprocessing_of
    from taxon.models.features import extract_features
    from taxon.models.weights import load_pretrained
    from taxon.models.zoo import default_backbone
    from taxon.training.device import choose_device

    where = choose_device(engines.device)
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
        progress=part_of(engines.progress, "features"),
    )
    return Embedding(features, backbone.name, spec)


def embed_with_run(
    run: Path, manifest: Manifest, seed: int, engines: Engines, stored: Path | None = None
) -> Embedding:
    """Features of a trained model, and probabilities that judge its labels.

    Held-out pictures are judged by the model itself, training pictures by a probe on its features
    that never saw them. The backbone did see them: what it learnt by heart stays hidden.

    Args:
        stored: parts that `taxon embed` wrote with this model; None: the features are computed.

    Raises:
        DataError: the parts are of another model, cannot be used, or lack a picture.
    """
    import numpy as np

    from taxon.auditing import out_of_fold_probabilities
    from taxon.bundle import read_bundle
    from taxon.inference import load_predictor
    from taxon.inference.table import predict_table

    bundle = read_bundle(run)
    spec = bundle.spec.preprocessing
    if stored is not None:
        features = _stored_of_run(run, stored, manifest, engines)
    else:
        from taxon.models.features import extract_features
        from taxon.models.restore import restore_classifier
        from taxon.training.device import choose_device

        features = extract_features(
            restore_classifier(bundle).spec,
            manifest.records,
            spec,
            device=choose_device(engines.device),
            progress=part_of(engines.progress, "features"),
        )
    probabilities = out_of_fold_probabilities(manifest, features, seed=seed)
    unseen = [i for i, record in enumerate(manifest.records) if record.split != "train"]
    if unseen:
        table = predict_table(load_predictor(run), [manifest.records[i] for i in unseen])
        probabilities[np.array(unseen)] = table.probabilities
    return Embedding(features, f"{run.name} ({bundle.info.backbone})", spec, probabilities)


def _stored_of_run(run: Path, folder: Path, manifest: Manifest, engines: Engines) -> FloatArray:
    from taxon.inference import load_embedder

    features = stored_features(folder, manifest.records)
    ensure_features(run, tell=engines.tell)
    paths = [str(record.path) for record in manifest.records]
    require_same_model(load_embedder(run), paths, features, folder)
    return features


def part_of(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The listener of one thing that is done."""
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)
