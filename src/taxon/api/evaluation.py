"""Evaluate: measure a model on pictures that it has never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxon.api.card import is_of_own_test, write_card
from taxon.api.gating import bounds_of, with_gates
from taxon.api.pictures import group_numbers, still_there
from taxon.api.reporting import write_evaluation_report
from taxon.api.scored import ALL, choose_pictures, default_folder
from taxon.api.slicing import extra_columns, slice_columns
from taxon.bundle import Bundle, read_bundle
from taxon.bundle.hub import local_folder, require_changeable, require_out
from taxon.bundle.layout import METRICS_FILE, REPORT_FILE, REPORT_FOLDER
from taxon.core.errors import CheckFailed, ConfigError, nearest
from taxon.core.files import remove_file, require_free, require_writable, write_json
from taxon.core.predictions import PredictionTable
from taxon.data import Columns, Manifest, data_path
from taxon.data.annotations import unknown_in_words
from taxon.data.manifest import SPLIT_WORDS
from taxon.inference import Predictor, load_predictor
from taxon.inference.load import BackendName
from taxon.inference.table import predict_table, write_table
from taxon.training import Listener, silent

if TYPE_CHECKING:
    from taxon.evaluation import Metrics
    from taxon.evaluation.gates import Bound, GateResult


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        metrics: the content of metrics.json.
        table: the predictions, a row a picture.
        folder: where metrics.json and report/ were written.
        notes: what was left out, and why.
        gates: whether each gate was met.
    """

    metrics: Metrics
    table: PredictionTable
    folder: Path
    notes: tuple[str, ...]
    gates: tuple[GateResult, ...] = ()

    @property
    def report(self) -> Path:
        """The report, one self-contained HTML file."""
        return self.folder / REPORT_FILE


class GatesMissed(CheckFailed):
    """Figures missed their gates; `evaluation` holds what was measured and written all the same."""

    def __init__(self, evaluation: Evaluation) -> None:
        missed = [result.words for result in evaluation.gates if not result.met]
        number = f"{len(missed)} of {len(evaluation.gates)} gates missed"
        super().__init__(f"{number}: {'; '.join(missed)}")
        self.evaluation = evaluation


def evaluate(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    columns: Columns | None = None,
    ordered: Sequence[str] | None = None,
    slice_by: str | Sequence[str] = (),
    gate: str | Path | Mapping[str, Any] | None = None,
    backend: BackendName = "auto",
    overwrite: bool = False,
    explain: bool = True,
    refit: Sequence[str] | None = None,
    listener: Listener = silent,
) -> Evaluation:
    """Measure a model folder, and write metrics.json and report/.

    The figures of the model's own test part go into its card too, where they are written into the
    model folder; those of other parts and data do not. Pictures are sliced by their
    brightness, sharpness and resolution in any case.

    Args:
        path: the model folder, or `hf:user/name[@revision]`, which needs `data` and `out`.
        data: a labelled data set; None takes the part `split` of the model's own manifest.
            Pictures that the run trained, selected or calibrated on are left out and counted.
        split: `test`, `val` (`validation`), `calibration`, `train` or `all`. Without `data`
            the default is `test`. With `data`, None scores all that the run has not seen, a
            part needs data that name their parts, and `all` scores seen pictures too.
        out: where to write; None writes into the model folder, of another part than `test` into
            `evaluations/own-PART` in it, with `data` into `evaluations/DATA` (`DATA-SPLIT`,
            `DATA-2`, ...), so that neither the run's own figures nor those of other data are lost.
        ordered: all classes from the lowest to the highest, for the quadratically weighted kappa.
            None takes classes that are whole numbers in the order of these.
        slice_by: columns of the table `data` whose values are scored apart, or `group`, `split`.
        gate: floors and ceilings, in a YAML file or as a mapping (`taxon.evaluation.gates`):
            `{"top1": 0.85, "macro_f1": {"low": 0.75}, "per_class.*.recall": 0.7}`.
        overwrite: replace what an earlier evaluation wrote to `out`.
        explain: show in the report what the model looked at, for at most 24 answers and for at
            most about a minute.
        refit: fit the decision policy anew first, with these `decision.key=value` overrides, as
            `refit_policy` does; None leaves it.
        listener: told what the fit found.

    Raises:
        GatesMissed: a `CheckFailed`: a figure missed its gate; all is written nevertheless.
        ConfigError: an order that is not the classes; a gate that names no figure.
        OutputError: `out` holds something that may not be replaced.
        DataError: no pictures to score, or classes that the model does not have.
    """
    from taxon.evaluation.gates import check_gates

    slice_by = (slice_by,) if isinstance(slice_by, str) else slice_by
    plan = _plan(path, data, split, out, ordered, slice_by, gate, overwrite)
    if refit is not None:
        require_changeable(plan.bundle.path, path)
        from taxon.api.refitting import refit_policy

        refit_policy(plan.bundle.path, overrides=refit, listener=listener)
        plan = replace(plan, bundle=read_bundle(plan.bundle.path))
    scored = _score(plan, split, columns, ordered, slice_by, backend)
    gates = check_gates(plan.bounds, scored.metrics)
    scored = replace(scored, metrics=with_gates(scored.metrics, gates))
    notes = _write(plan, scored, explain=explain)
    evaluation = Evaluation(scored.metrics, scored.table, plan.folder, notes, gates)
    if not all(result.met for result in gates):
        raise GatesMissed(evaluation)
    return evaluation


@dataclass(frozen=True)
class _Plan:
    """What is asked for, understood and allowed, before anything is computed or changed.

    Attributes:
        source: the data set; None: the run's own manifest.
        folder: where the figures go.
        bounds: the gates.
        extra: columns of the table, for slices.
    """

    bundle: Bundle
    source: Path | None
    folder: Path
    bounds: tuple[Bound, ...]
    extra: tuple[str, ...]


def _plan(
    path: str | Path,
    data: str | Path | None,
    split: str | None,
    out: str | Path | None,
    ordered: Sequence[str] | None,
    slice_by: Sequence[str],
    gate: str | Path | Mapping[str, Any] | None,
    overwrite: bool,
) -> _Plan:
    from taxon.evaluation.order import class_order

    if split is not None and split != ALL and split not in SPLIT_WORDS:
        allowed = [*SPLIT_WORDS, ALL]
        raise ConfigError(
            f"unknown part '{split}'; allowed: {', '.join(allowed)}.{nearest(split, allowed)}"
        )
    source = None if data is None else data_path(data)
    model = local_folder(path)
    if out is None:
        require_out(model, path)
    bundle = read_bundle(model)
    class_order(bundle.spec.label_space, ordered)
    bounds = bounds_of(gate, bundle.spec.label_space)
    extra = extra_columns(slice_by, bundle.path, data)
    if out is not None:
        folder = Path(out)
        require_free(folder, replace_if=REPORT_FILE if overwrite else None)
    else:
        folder = default_folder(bundle, source, split)
    require_writable(folder / REPORT_FILE)
    return _Plan(bundle, source, folder, bounds, extra)


@dataclass(frozen=True)
class _Scored:
    """The pictures, the answers to them, and how good these are."""

    manifest: Manifest
    predictor: Predictor
    table: PredictionTable
    metrics: Metrics
    notes: tuple[str, ...]


def _score(
    plan: _Plan,
    split: str | None,
    columns: Columns | None,
    ordered: Sequence[str] | None,
    slice_by: Sequence[str],
    backend: BackendName,
) -> _Scored:
    from taxon.evaluation import compute_metrics

    bundle, source = plan.bundle, plan.source
    columns = replace(columns or Columns(), extra=plan.extra) if plan.extra else columns
    manifest, notes = choose_pictures(bundle, source, split, columns)
    manifest, changed = still_there(manifest, hint="taxon evaluate RUN DATA")
    notes += changed
    if unknown := unknown_in_words(manifest):
        notes.append(f"{unknown}: no figure counts them")
    slices, said = slice_columns(manifest, slice_by, plan.extra, bundle.spec.preprocessing)
    predictor = load_predictor(bundle.path, backend=backend)
    table = predict_table(predictor, manifest.records)
    metrics = compute_metrics(
        table,
        manifest.targets(),
        bundle.spec.label_space,
        bundle.spec.policy,
        groups=group_numbers(manifest.records),
        ordered=ordered,
        slices=slices,
        about=_about(bundle, source, split, predictor.backend.name, notes, said),
    )
    return _Scored(manifest, predictor, table, metrics, (*notes, *said))


def _write(plan: _Plan, scored: _Scored, *, explain: bool) -> tuple[str, ...]:
    """Write the table, the report, metrics.json and, of the own test part, the card; return what
    is to be said."""
    bundle, folder, metrics = plan.bundle, plan.folder, scored.metrics
    # Last written and first removed: whoever finds it finds the report and the table of it too.
    remove_file(folder / METRICS_FILE)
    write_table(
        scored.table,
        folder / REPORT_FOLDER / "predictions.parquet",
        bundle.spec.label_space,
        bundle.spec.policy,
        scored.manifest.targets(),
    )
    notes = list(scored.notes)
    notes += write_evaluation_report(
        folder / REPORT_FILE,
        metrics,
        scored.table,
        scored.manifest,
        bundle,
        scored.predictor,
        explain=explain,
    )
    write_json(folder / METRICS_FILE, metrics.as_json())
    if folder == bundle.path and is_of_own_test(metrics, bundle):
        notes += write_card(bundle)
    return tuple(notes)


def _about(
    bundle: Bundle,
    data: Path | None,
    split: str | None,
    backend: str,
    notes: list[str],
    slices: list[str],
) -> dict[str, Any]:
    provenance = bundle.info.provenance
    return {
        "model": bundle.info.name,
        "backbone": bundle.info.backbone,
        "fingerprint": bundle.info.fingerprint,
        "data_fingerprint": provenance.data_fingerprint,
        "data": str(data) if data is not None else "the run's own manifest",
        **({} if data is None else {"data_path": str(data.resolve())}),
        "part": split or ("test" if data is None else f"unseen pictures of {data}"),
        "computed_with": backend,
        "command": provenance.command,
        "trained": provenance.created,
        "versions": provenance.versions,
        "left_out": list(notes),
        **({"slices": list(slices)} if slices else {}),
    }
