"""What the server measures of itself, for Prometheus."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taxon.core.errors import ImageError
from taxon.core.predictions import Prediction
from taxon.serving.computing.engine import Answer
from taxon.serving.computing.workers import WorkerPool
from taxon.serving.logs import PatientHandler
from taxon.serving.models.table import ModelTable

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8, 16)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_LABELS = ("model",)  # and not the version: each exchange would leave its counters for ever


class ServerMetrics:
    """The metrics of one server, in a registry of their own.

    | name | of |
    |---|---|
    | `taxon_requests_total` | answered requests by route and status |
    | `taxon_request_seconds` | the time from headers to answer, by route |
    | `taxon_phase_seconds` | decode, queue and infer, a picture (infer: a batch) |
    | `taxon_batch_size` | pictures in a batch |
    | `taxon_pictures_total` | pictures by result: answered, unsure, out_of_scope, unreadable |
    | `taxon_predictions_total` | pictures by the class that was named |
    | `taxon_rejected_total` | refused requests by reason |
    | `taxon_queue_depth` | pictures admitted and not yet answered |
    | `taxon_drift_index` | population stability index against the calibration pictures |

    Args:
        labels: that every one of them bears beside its own.
    """

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self.registry = _Registry(labels or {})
        own = self.registry
        self._requests = Counter(
            "taxon_requests", "Answered requests", ("route", "status"), registry=own
        )
        self._seconds = Histogram(
            "taxon_request_seconds", "Headers to answer", ("route",), registry=own, buckets=_SECONDS
        )
        self._phases = Histogram(
            "taxon_phase_seconds",
            "Decoding and waiting of a picture, computing of a batch",
            (*_LABELS, "phase"),
            registry=own,
            buckets=_SECONDS,
        )
        self._batches = Histogram(
            "taxon_batch_size", "Pictures in a batch", _LABELS, registry=own, buckets=_SIZES
        )
        self._pictures = Counter(
            "taxon_pictures", "Pictures by result", (*_LABELS, "result"), registry=own
        )
        self._predictions = Counter(
            "taxon_predictions", "Pictures by named class", (*_LABELS, "label"), registry=own
        )
        self._rejected = Counter("taxon_rejected", "Refused requests", ("reason",), registry=own)
        self._errors = Counter("taxon_failures", "Failures of the server", ("kind",), registry=own)
        self._gauge(
            "taxon_log_lines_lost",
            "Lines of the log that could not be written",
            lambda: [({}, PatientHandler.dropped)],
        )

    def watch_pool(self, pool: WorkerPool) -> None:
        """Have the state of the computing processes read when Prometheus asks."""
        self._gauge(
            "taxon_workers",
            "Computing processes that run and have all models",
            lambda: [({}, pool.complete)],
        )
        self._gauge(
            "taxon_workers_lost",
            "Computing processes that ended and were replaced",
            lambda: [({}, pool.lost)],
        )

    def watch_table(self, table: ModelTable) -> None:
        """Have what the table knows read when Prometheus asks."""
        self._gauge(
            "taxon_queue_depth",
            "Pictures admitted and not yet answered",
            lambda: [({"model": name}, depth) for name, depth in depths(table).items()],
        )
        self._gauge(
            "taxon_model_info",
            "The models that are served",
            lambda: [
                (
                    {
                        "model": each.name,
                        "version": each.version,
                        "fingerprint": each.spec.fingerprint,
                    },
                    1,
                )
                for each in table
            ],
        )
        self._gauge(
            "taxon_models_refused",
            "Models whose newest state is refused; one too where a place cannot be looked at",
            lambda: [({}, len(table.refused) + (table.unseen is not None))],
        )
        self._gauge(
            "taxon_drift_index",
            "Population stability index against the calibration pictures",
            lambda: [
                ({"model": each.name, "version": each.version, "of": of}, value)
                for each in table
                if each.drift is not None
                for of, value in each.drift.report().index.items()
            ],
        )

    def _gauge(
        self, name: str, text: str, read: Callable[[], Iterable[tuple[dict[str, str], float]]]
    ) -> None:
        """Have a gauge read when it is asked for: pairs of labels and value."""
        self.registry.register(_Read(name, text, read))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a refused request."""
        self._rejected.labels(reason).inc()

    def failed(self, kind: str) -> None:
        """Count a failure of the server's own."""
        self._errors.labels(kind).inc()

    def computed(self, model: str, answer: Answer | ImageError) -> None:
        """Count how a picture was computed."""
        if isinstance(answer, ImageError):
            self._pictures.labels(model, "unreadable").inc()
            return
        row = answer.row
        if answer.decode_seconds:
            self._phases.labels(model, "decode").observe(answer.decode_seconds)
        self._phases.labels(model, "queue").observe(row.queue_seconds)
        if row.first:
            self._phases.labels(model, "infer").observe(row.infer_seconds)
            self._batches.labels(model).observe(row.batch_size)

    def predicted(self, model: str, prediction: Prediction) -> None:
        """Count what was said of a picture."""
        result = (
            "out_of_scope"
            if prediction.out_of_scope
            else "unsure"
            if prediction.unsure
            else "answered"
        )
        self._pictures.labels(model, result).inc()
        for label in prediction.labels:
            self._predictions.labels(model, label).inc()


class _Registry(CollectorRegistry):
    """A registry that puts further labels on what it hands out."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [
                sample._replace(labels={**self._labels, **sample.labels})
                for sample in family.samples
            ]
            yield family


class _Read(Collector):
    """A gauge whose values are read when Prometheus asks."""

    def __init__(
        self, name: str, text: str, read: Callable[[], Iterable[tuple[dict[str, str], float]]]
    ) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        values = list(self._read())
        labels = list(values[0][0]) if values else []
        family = GaugeMetricFamily(self._name, self._text, labels=labels)
        for given, value in values:
            family.add_metric([given[label] for label in labels], value)
        yield family


def depths(table: ModelTable) -> dict[str, int]:
    """Name -> pictures admitted and not yet answered, of all its versions."""
    found: collections.Counter[str] = collections.Counter()
    for model in table:
        found[model.name] += model.engine.depth
    return dict(found)
