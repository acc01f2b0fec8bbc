"""What is done with predictions: a table, JSON lines, CSV, Parquet, or sorted copies."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from taxon.core.errors import ConfigError, DataError
from taxon.core.files import atomic_file, write_text
from taxon.core.labels import SEPARATOR
from taxon.core.predictions import Prediction

UNSURE_FOLDER = "unsure"
UNTAGGED_FOLDER = "untagged"
OUT_OF_SCOPE_FOLDER = "out-of-scope"
_LIST_SEPARATOR = "|"
# What no file system of ours takes in a name, path separators and drive letters among them.
_UNSAFE = re.compile(r'[<>:"\\|?*\x00-\x1f]')


def write_predictions(
    predictions: Sequence[Prediction], format_name: str, out: Path | None
) -> None:
    """Write predictions to a file, or to standard output.

    Args:
        format_name: `table`, `jsonl`, `csv` or `parquet`.

    Raises:
        ConfigError: Parquet without a file.
        OutputError: the file cannot be written.
    """
    if format_name == "parquet":
        if out is None:
            raise ConfigError("--format parquet is binary; name a file with --out")
        _write_parquet(predictions, out)
        return
    text = _TEXT_FORMATS[format_name](predictions)
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(out, text)


def _json_lines(predictions: Sequence[Prediction]) -> str:
    return "".join(
        json.dumps(prediction.model_dump(mode="json"), ensure_ascii=False) + "\n"
        for prediction in predictions
    )


def _flat_rows(predictions: Sequence[Prediction]) -> list[dict[str, object]]:
    """One flat row a picture: lists joined by `|`, the top classes as `label=probability`."""
    return [
        {
            "path": prediction.path,
            "label": prediction.label,
            "confidence": prediction.confidence,
            "labels": _LIST_SEPARATOR.join(prediction.labels),
            "unsure": prediction.unsure,
            "out_of_scope": prediction.out_of_scope,
            "prediction_set": _LIST_SEPARATOR.join(prediction.prediction_set or ()),
            "taxonomy": prediction.taxonomy[-1] if prediction.taxonomy else "",
            "top": _LIST_SEPARATOR.join(
                f"{scored.label}={scored.probability:.6f}" for scored in prediction.top
            ),
            "error": prediction.error or "",
        }
        for prediction in predictions
    ]


def _csv_text(predictions: Sequence[Prediction]) -> str:
    stream = io.StringIO()
    rows = _flat_rows(predictions)
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _table_text(predictions: Sequence[Prediction]) -> str:
    lines = []
    width = max(len(prediction.path) for prediction in predictions)
    for prediction in predictions:
        if prediction.error is not None:
            answer = f"error: {prediction.error}"
        elif prediction.out_of_scope:
            answer = f"(out of scope)   {_top(prediction, 0, 2)}"
        elif prediction.label is None:
            unsure = " (unsure)" if prediction.unsure else ""
            answer = f"{', '.join(prediction.labels) or '(no tag)'}{unsure}"
        else:
            others = _top(prediction, 1, 3)
            unsure = " (unsure)" if prediction.unsure else ""
            answer = f"{prediction.label} {prediction.confidence:.2f}{unsure}   {others}"
        lines.append(f"{prediction.path:<{width}}  {answer}\n")
    return "".join(lines)


def _top(prediction: Prediction, first: int, last: int) -> str:
    """Some of the most probable classes, with their probabilities."""
    shown = prediction.top[first:last]
    return "  ".join(f"{scored.label} {scored.probability:.2f}" for scored in shown)


_TEXT_FORMATS: dict[str, Callable[[Sequence[Prediction]], str]] = {
    "table": _table_text,
    "jsonl": _json_lines,
    "csv": _csv_text,
}


def _write_parquet(predictions: Sequence[Prediction], out: Path) -> None:
    import pyarrow.parquet as pq

    from taxon.inference.prediction_rows import prediction_rows

    with atomic_file(out) as temporary:
        pq.write_table(prediction_rows(predictions), temporary)


def sort_copies(predictions: Sequence[Prediction], folder: Path) -> int:
    """Copy each picture into the folder of its class; return the number of copies.

    A picture with several tags is copied for each, one with none into `untagged`, an unsure one
    into `unsure`, one of something else into `out-of-scope`, one that cannot be read nowhere. A
    name that exists gets a number.

    Raises:
        OutputError: a copy cannot be written.
    """
    count = 0
    for prediction in predictions:
        if prediction.error is not None:
            continue
        for name in _folders(prediction):
            _copy(Path(prediction.path), folder.joinpath(*_safe_parts(name)))
            count += 1
    return count


def _folders(prediction: Prediction) -> tuple[str, ...]:
    if prediction.out_of_scope:
        return (OUT_OF_SCOPE_FOLDER,)
    if prediction.unsure:
        return (UNSURE_FOLDER,)
    return prediction.labels or (UNTAGGED_FOLDER,)


def _safe_parts(label: str) -> list[str]:
    """A label as folder names below the target: a model from elsewhere may hold any text."""
    parts = [_UNSAFE.sub("_", part).rstrip(". ") for part in label.split(SEPARATOR) if part]
    if not all(parts) or not parts:
        raise DataError(f"the class '{label}' cannot be a folder's name")
    return parts


def _copy(source: Path, folder: Path) -> None:
    target, number = folder / source.name, 1
    while target.exists():
        number += 1
        target = folder / f"{source.stem}-{number}{source.suffix}"
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)
