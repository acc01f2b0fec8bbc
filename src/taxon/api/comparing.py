"""Compare: is one model better than another, on pictures that neither has seen?"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxon.api.common_pictures import ALL, Run, choose_pictures, open_run, require_same_classes
from taxon.api.pictures import group_numbers, still_there, thumbnails_of
from taxon.bundle.hub import local_folder
from taxon.bundle.layout import COMPARISONS_FOLDER
from taxon.core.files import (
    numbered,
    remove_file,
    require_free,
    require_writable,
    write_json,
    write_text,
)
from taxon.core.versions import taxon_version
from taxon.data import Columns, Manifest, data_path
from taxon.data.annotations import unknown_in_words
from taxon.inference import load_predictor
from taxon.inference.load import BackendName
from taxon.inference.table import predict_table

if TYPE_CHECKING:
    from taxon.evaluation.comparison import Answers, PairedMetrics

COMPARISON_FILE = "compare.json"
CHANGED_FILE = "changed.csv"
PAGE_FILE = "compare.html"


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        metrics: the content of compare.json.
        folder: where compare.json, changed.csv and compare.html were written.
        notes: what was left out, and why.
    """

    metrics: PairedMetrics
    folder: Path
    notes: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page, one self-contained HTML file."""
        return self.folder / PAGE_FILE


def compare(
    run_a: str | Path,
    run_b: str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    columns: Columns | None = None,
    backend: BackendName = "auto",
    overwrite: bool = False,
) -> Comparison:
    """Say whether B is better than A on the same pictures, and write what changed.

    Both runs answer with their own preprocessing and policy.

    Args:
        run_a, run_b: model folders, exported artefacts alone, or `hf:user/name[@revision]`, with
            the same classes.
        data: a labelled data set; None takes the pictures in the test part of both runs, matched
            by sha256. What either run trained, selected or calibrated on is left out and counted.
        split: a part (`test`, `val`, ...), with `data` of those that neither has seen; `all`
            scores seen pictures too. Without `data`, another part than `test` flatters both.
        out: where to write; None writes to `comparisons/RUN_A` in the model folder B
            (`RUN_A-DATA`, `RUN_A-2`, ...), for an artefact alone in the current folder.
        overwrite: replace what an earlier comparison wrote to `out`.

    Raises:
        OutputError: `out` holds something that may not be replaced.
        DataError: another task or other classes, or no pictures that neither has seen.
        BundleError: one of them cannot be loaded.
    """
    from taxon.evaluation.comparison import compare_answers

    source = None if data is None else data_path(data)
    a, b = open_run(local_folder(run_a)), open_run(local_folder(run_b))
    require_same_classes(a, b)
    if out is not None:
        folder = Path(out)
        require_free(folder, replace_if=PAGE_FILE if overwrite else None)
    else:
        folder = _default_folder(a, b, source, split)
    require_writable(folder / PAGE_FILE)
    manifest, notes = choose_pictures(a, b, source, split, columns)
    manifest, gone = still_there(manifest, hint=f"taxon compare {a.shown} {b.shown} DATA")
    notes += gone
    if unknown := unknown_in_words(manifest):
        notes.append(f"{unknown}: no figure counts them")
    answers_a, engine_a = _answer(a, manifest, backend)
    answers_b, engine_b = _answer(b, manifest, backend)
    metrics = compare_answers(
        answers_a,
        answers_b,
        manifest.targets(),
        b.spec.label_space,
        groups=group_numbers(manifest.records),
        about={
            "a": _about_run(a, engine_a),
            "b": _about_run(b, engine_b),
            **_about_pictures(source, split),
            "left_out": notes,
            "taxon": taxon_version(),
        },
    )
    _write(folder, metrics, manifest, taxonomy=b.spec.label_space.is_taxonomy)
    return Comparison(metrics, folder, tuple(notes))


def _write(folder: Path, metrics: PairedMetrics, manifest: Manifest, *, taxonomy: bool) -> None:
    from taxon.evaluation.comparison import write_page

    # It goes first and comes last: whoever finds it finds the page and the table of the same runs.
    remove_file(folder / COMPARISON_FILE)
    write_page(
        folder / PAGE_FILE, metrics, taxonomy=taxonomy, thumbnails=thumbnails_of(manifest.records)
    )
    write_text(folder / CHANGED_FILE, _changed_rows(metrics))
    write_json(folder / COMPARISON_FILE, metrics.as_json())


def _default_folder(a: Run, b: Run, data: Path | None, split: str | None) -> Path:
    """A folder by the names of A and of the data, numbered where another comparison has it."""
    home = b.path if b.manifest is not None else Path()
    words = [
        a.name,
        *([data.resolve().stem] if data is not None else []),
        *([split] if split else []),
    ]
    folder = home / COMPARISONS_FOLDER / "-".join(words)
    return numbered(folder, lambda folder: _is_free_for(folder, a, b, data))


def _is_free_for(folder: Path, a: Run, b: Run, data: Path | None) -> bool:
    """Whether a folder holds no comparison yet, or an older one of the same runs and data."""
    file = folder / COMPARISON_FILE
    if not file.exists():
        return True
    try:
        about = json.loads(file.read_text("utf-8"))["about"]
        compared = about["a"]["path"], about["b"]["path"], about.get("data_path")
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # damaged, or by an older version: left as it is
    wanted = data if data is None else str(data.resolve())
    return bool(compared == (str(a.path.resolve()), str(b.path.resolve()), wanted))


def _answer(run: Run, manifest: Manifest, backend: BackendName) -> tuple[Answers, str]:
    """A run's answers, and the name of what computed them."""
    from taxon.evaluation.comparison import Answers

    predictor = load_predictor(run.path, backend=backend)
    table = predict_table(predictor, manifest.records)
    return Answers(table, run.spec.label_space, run.spec.policy), predictor.backend.name


def _about_run(run: Run, engine: str) -> dict[str, Any]:
    found = {
        "name": run.name,
        "path": str(run.path.resolve()),
        "backbone": run.spec.backbone,
        "fingerprint": run.spec.fingerprint,
        "computed_with": engine,
    }
    if run.provenance is not None:
        found["trained"] = run.provenance.created
        found["command"] = run.provenance.command
        found["data_fingerprint"] = run.provenance.data_fingerprint
    return found


def _about_pictures(data: Path | None, split: str | None) -> dict[str, str]:
    if data is None:
        part = "all pictures of both" if split == ALL else f"{split or 'test'} part of both"
        return {"data": "the runs' own manifests", "part": part}
    chosen = {None: "unseen pictures", ALL: "all pictures"}.get(split, f"unseen {split} pictures")
    return {"data": str(data), "data_path": str(data.resolve()), "part": f"{chosen} of {data}"}


def _changed_rows(metrics: PairedMetrics) -> str:
    """The changed pictures as CSV; several tags are joined by `|`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["id", "change", "truth", "answer_a", "confidence_a", "answer_b", "confidence_b"]
    )
    for picture in metrics.changed:
        writer.writerow(
            [
                picture.id,
                picture.change,
                "|".join(picture.truth),
                "|".join(picture.answer_a),
                f"{picture.confidence_a:.6f}",
                "|".join(picture.answer_b),
                f"{picture.confidence_b:.6f}",
            ]
        )
    return stream.getvalue()
