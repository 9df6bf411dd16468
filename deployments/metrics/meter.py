"""Where metrics go: to Ray's Prometheus exporter, or into memory for tests."""

import sys
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from functools import cache
from importlib import import_module
from typing import Any, Final

from deployments.logger import get_logger
from deployments.metrics.names import BY_NAME, METRICS, Kind, Metric

logger = get_logger(__name__)

OTHER: Final = "other"
LABEL_SETS: Final = 500  # distinct label values of one metric at most, then `other`
FLUSH_S: Final = 0.5  # between two times at which counters go to Ray

Labels = tuple[str, ...]


class Meter(ABC):
    """Records values of the metrics in `METRICS`; their labels are given in order, as strings.

    Raises KeyError for an unknown metric, ValueError for a wrong number of labels. Whatever callers send,
    the number of series stays bounded: beyond LABEL_SETS new label values read `other`.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[Labels, Labels]] = {metric.name: {} for metric in METRICS}

    @abstractmethod
    def _record(self, metric: Metric, value: float, labels: Labels) -> None: ...

    def count(self, name: str, labels: Labels = (), value: float = 1.0) -> None:
        """Adds to a counter; 0 is no event."""
        if value > 0:
            self._record(BY_NAME[name], value, self._bounded(name, labels))

    def observe(self, name: str, labels: Labels, value: float | None) -> None:
        """Adds one value to a histogram; None was not measured."""
        if value is not None:
            self._record(BY_NAME[name], value, self._bounded(name, labels))

    def gauge(self, name: str, labels: Labels, value: float) -> None:
        """Sets a gauge."""
        self._record(BY_NAME[name], value, self._bounded(name, labels))

    def _bounded(self, name: str, labels: Labels) -> Labels:
        known = self._known[name]
        found = known.get(labels)
        if found is not None:
            return found
        if len(labels) != len(BY_NAME[name].labels):
            raise ValueError(f"Metric '{name}' has labels {BY_NAME[name].labels}, {len(labels)} were given.")
        if len(known) >= LABEL_SETS:
            return (OTHER,) * len(labels)
        known[labels] = labels
        return labels


class MemoryMeter(Meter):
    """Keeps values where a test can read them."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, dict[Labels, float]] = defaultdict(dict)
        self.observed: dict[str, dict[Labels, list[float]]] = defaultdict(dict)

    def _record(self, metric: Metric, value: float, labels: Labels) -> None:
        if metric.kind is Kind.HISTOGRAM:
            self.observed[metric.name].setdefault(labels, []).append(value)
        elif metric.kind is Kind.COUNTER:
            self.values[metric.name][labels] = self.values[metric.name].get(labels, 0.0) + value
        else:
            self.values[metric.name][labels] = value

    def value(self, name: str, *labels: str) -> float:
        """A counter's or gauge's value, 0 if it was never recorded."""
        return self.values[BY_NAME[name].name].get(labels, 0.0)


def process_meter() -> Meter:
    """A RayMeter in a process of a Ray cluster, elsewhere (in a test) a MemoryMeter."""
    ray = sys.modules.get("ray")
    return ray_meter() if ray is not None and ray.is_initialized() else MemoryMeter()


@cache
def ray_meter() -> "RayMeter":
    """The one of this process."""
    return RayMeter()


class RayMeter(Meter):
    """Records through Ray; ray.serve.metrics adds deployment, replica and application in a Serve replica.

    Counters are summed here and handed over now and then: one call of Ray's takes 10 us, and a request
    counts a dozen times.
    """

    def __init__(self) -> None:
        super().__init__()
        self._metrics: dict[str, Any] = {}
        self._tags: dict[tuple[str, Labels], dict[str, str]] = {}
        self._sums: dict[tuple[str, Labels], float] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self._flusher: threading.Thread | None = None

    def _record(self, metric: Metric, value: float, labels: Labels) -> None:
        if metric.kind is Kind.COUNTER:
            self._add((metric.name, labels), value)
        else:
            self._hand_over(metric, value, labels)

    def _add(self, key: tuple[str, Labels], value: float) -> None:
        with self._lock:
            self._sums[key] = self._sums.get(key, 0.0) + value
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush_for_ever, name="meter", daemon=True)
                self._flusher.start()

    def _flush_for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(FLUSH_S):
            self.flush()

    def flush(self) -> None:
        """Hand over what was counted since the last time; what Ray does not take is kept for the next."""
        with self._lock:
            sums, self._sums = self._sums, {}
        for (name, labels), value in sums.items():
            try:
                self._hand_over(BY_NAME[name], value, labels)
            except Exception:
                self._add((name, labels), value)
                if name not in self._refused:  # it is tried twice a second
                    self._refused.add(name)
                    logger.exception("Ray did not take the metric '%s'; it is offered again.", name)
            else:
                self._refused.discard(name)

    def _hand_over(self, metric: Metric, value: float, labels: Labels) -> None:
        record = self._metrics.get(metric.name) or self._make(metric)
        tags = self._tags.get((metric.name, labels))
        if tags is None:
            tags = self._tags[metric.name, labels] = dict(zip(metric.labels, labels, strict=True))
        record(value, tags)

    def _make(self, metric: Metric) -> Any:
        serve = "ray.serve" in sys.modules  # the table's actor is no replica: it need not import it
        metrics: Any = import_module("ray.serve.metrics" if serve else "ray.util.metrics")
        if metric.kind is Kind.COUNTER:
            record = metrics.Counter(metric.name, metric.meaning, metric.labels).inc
        elif metric.kind is Kind.GAUGE:
            record = metrics.Gauge(metric.name, metric.meaning, metric.labels).set
        else:
            buckets = list(metric.buckets)
            record = metrics.Histogram(metric.name, metric.meaning, buckets, metric.labels).observe
        self._metrics[metric.name] = record
        return record
