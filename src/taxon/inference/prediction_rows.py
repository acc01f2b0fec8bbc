"""Predictions as an Arrow table, a row a picture; the same from every command and engine."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from taxon.core.predictions import Prediction

_TOP = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
PREDICTION_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("labels", pa.list_(pa.string())),
        ("unsure", pa.bool_()),
        ("out_of_scope", pa.bool_()),
        ("prediction_set", pa.list_(pa.string())),
        ("taxonomy", pa.list_(pa.string())),
        ("top", _TOP),
        ("error", pa.string()),
    ]
)


def prediction_rows(predictions: Sequence[Prediction]) -> pa.Table:
    """Return a table with the fields of `Prediction`."""
    columns = {
        name: [getattr(prediction, name) for prediction in predictions]
        for name in PREDICTION_SCHEMA.names
        if name != "top"
    }
    columns["top"] = [
        [{"label": each.label, "probability": each.probability} for each in prediction.top]
        for prediction in predictions
    ]
    return pa.table({name: columns[name] for name in PREDICTION_SCHEMA.names}, PREDICTION_SCHEMA)
