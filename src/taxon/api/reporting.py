"""Write the report of an evaluation: what it needs of the pictures, the bundle and its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taxon.api.pictures import count_groups, own_manifest, thumbnails_of
from taxon.bundle import Bundle
from taxon.bundle.artefact import own_artefacts
from taxon.core.predictions import ImageBatch, PredictionTable
from taxon.data import Manifest, Record
from taxon.inference import Predictor
from taxon.preprocessing.decode import read_picture

if TYPE_CHECKING:
    from taxon.evaluation import Metrics
    from taxon.evaluation.report import DataFacts


def write_evaluation_report(
    path: Path,
    metrics: Metrics,
    table: PredictionTable,
    manifest: Manifest,
    bundle: Bundle,
    predictor: Predictor,
    *,
    explain: bool,
) -> tuple[str, ...]:
    """Write report.html and figures/ beside it.

    Args:
        manifest: the pictures that were scored.
        explain: show for some answers what the model looked at.

    Returns:
        plain sentences on what was left out or took long.
    """
    from taxon.evaluation import write_report
    from taxon.evaluation.explain import Explainer, Occlusion, choose_method

    explainer, failed = None, None
    if explain:
        method, failed = choose_method(bundle, predictor.backend)
        fallback = None if isinstance(method, Occlusion) else Occlusion(predictor.backend)
        explainer = Explainer(method, _prepared(manifest.records, predictor), fallback)
    notes = write_report(
        path,
        metrics,
        table,
        manifest.targets(),
        bundle.spec.label_space,
        bundle.spec.policy,
        history=bundle.info.provenance.history,
        thumbnails=thumbnails_of(manifest.records),
        explainer=explainer,
        data=_data_facts(bundle),
        artefacts=own_artefacts(bundle),
        figures=path.parent / "figures",
    )
    return (failed, *notes) if failed else notes


def _data_facts(bundle: Bundle) -> DataFacts:
    from taxon.evaluation.report import DataFacts

    manifest = own_manifest(bundle.path)
    if manifest is None:
        return DataFacts(parts={}, notes=bundle.info.provenance.notes)
    return DataFacts(
        parts=manifest.split_counts(),
        groups=count_groups(manifest.records),
        notes=bundle.info.provenance.notes,
    )


def _prepared(records: Sequence[Record], predictor: Predictor) -> Callable[[str], ImageBatch]:
    paths = {record.id: record.path for record in records}

    def load(picture: str) -> ImageBatch:
        return predictor.prepare(read_picture(paths[picture]), picture)

    return load
