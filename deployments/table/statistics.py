"""What the table has learned of each model from outcomes: totals, windows, error rate, accuracy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from datasketches import tdigest_double

from deployments.records.records import EvaluationRecord, OutcomeRecord
from deployments.records.snapshot import Estimate, Quantiles
from policies.outcome import Status
from policies.promotion.confidence import wilson

WINDOW_S: Final = 300.0
SLICES: Final = 6
COMPRESSION: Final = 100  # rank error about 3 % at the median, below 1 % at p99 (Dunning, Ertl 2019)


class _Slice:
    __slots__ = ("count", "digest", "epoch", "total")

    def __init__(self, epoch: int) -> None:
        self.epoch, self.count, self.total = epoch, 0, 0.0
        self.digest = tdigest_double(COMPRESSION)


class Window:
    """Sketched distribution of one quantity over the last WINDOW_S seconds, kept in SLICES slices."""

    __slots__ = ("_closed", "_slices")

    def __init__(self) -> None:
        self._slices: list[_Slice] = []
        self._closed: tdigest_double | None = None  # merge of all slices but the newest

    def add(self, value: float | None, now_s: float) -> None:
        """Counts one value measured now; None and values that are not finite are left out."""
        if value is None or not math.isfinite(value):
            return
        epoch = _epoch(now_s)
        if not self._slices or self._slices[-1].epoch < epoch:
            self._expire(now_s)
            self._slices.append(_Slice(epoch))
            self._closed = None
        newest = self._slices[-1]
        newest.digest.update(value)
        newest.count += 1
        newest.total += value

    def quantiles(self, now_s: float) -> Quantiles:
        """Percentiles of what was added during the window."""
        self._expire(now_s)
        count = sum(part.count for part in self._slices)
        if count == 0:
            return Quantiles()
        if self._closed is None:
            self._closed = tdigest_double(COMPRESSION)
            for part in self._slices[:-1]:
                self._closed.merge(part.digest)
        merged = tdigest_double(COMPRESSION)
        merged.merge(self._closed)
        merged.merge(self._slices[-1].digest)
        p50, p95, p99 = (float(merged.get_quantile(rank)) for rank in (0.5, 0.95, 0.99))
        return Quantiles(p50, p95, p99, sum(part.total for part in self._slices) / count, count)

    def mean(self, now_s: float) -> float:
        """Mean of what was added during the window, 0 where nothing was."""
        self._expire(now_s)
        count = sum(part.count for part in self._slices)
        return sum(part.total for part in self._slices) / count if count else 0.0

    def dump(self) -> list[tuple[int, int, float, bytes]]:
        """The slices, to be read by `load`."""
        return [(part.epoch, part.count, part.total, part.digest.serialize()) for part in self._slices]

    def load(self, slices: list[tuple[int, int, float, bytes]]) -> None:
        """Takes over the slices of a dump."""
        self._slices, self._closed = [], None
        for epoch, count, total, data in slices:
            part = _Slice(epoch)
            part.count, part.total, part.digest = count, total, tdigest_double.deserialize(data)
            self._slices.append(part)

    def _expire(self, now_s: float) -> None:
        oldest = _epoch(now_s) - SLICES
        while self._slices and self._slices[0].epoch <= oldest:
            self._slices.pop(0)
            self._closed = None


def _epoch(now_s: float) -> int:
    return int(now_s * SLICES / WINDOW_S)


QUANTITIES: Final = ("ttft_s", "tpot_s", "e2e_s", "queue_s", "output_tokens")
NONE: Final = Quantiles()
READ_S: Final = 1.0  # statistics of a model are read anew at most this often
IDLE_READ_S: Final = 10.0  # the same without new outcomes: old ones leave the window


@dataclass(frozen=True, slots=True)
class Statistics:
    """A reading of one model's statistics, with the names of ModelRow's fields."""

    ttft_s: Quantiles = NONE
    tpot_s: Quantiles = NONE
    e2e_s: Quantiles = NONE
    queue_s: Quantiles = NONE
    output_tokens: Quantiles = NONE
    error_rate: float = 0.0
    cost_usd: float = 0.0
    requests: int = 0
    accuracy: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(slots=True)
class _Scores:
    """Sums of one task's scores."""

    count: int = 0
    total: float = 0.0

    def add(self, score: float) -> None:
        self.count += 1
        self.total += score

    def merge(self, other: "_Scores") -> None:
        self.count += other.count
        self.total += other.total

    def estimate(self) -> Estimate:
        """Mean with its Wilson interval."""
        mean = self.total / self.count
        return Estimate(mean, *wilson(mean, self.count), self.count)


class ModelStatistics:
    """Totals since the beginning and windows over the last minutes, of one model."""

    def __init__(self) -> None:
        self.changes = 0
        self.requests = 0
        self.statuses: dict[str, int] = {}
        self.cost_usd = 0.0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self._windows = {name: Window() for name in QUANTITIES}
        self._failed = Window()  # 1 for FAILED, 0 for OK
        self._scores: dict[str, dict[str, _Scores]] = {}  # by suite and task
        self._revisions: dict[str, tuple[str, str]] = {}

    def add(self, record: OutcomeRecord, now_s: float) -> None:
        """Counts one outcome, once."""
        outcome = record.outcome
        self.changes += 1
        self.requests += 1
        self.statuses[outcome.status.value] = self.statuses.get(outcome.status.value, 0) + 1
        self.cost_usd += outcome.cost_usd
        self.prompt_tokens += outcome.prompt_tokens
        self.output_tokens += outcome.output_tokens
        if outcome.status in (Status.OK, Status.FAILED):
            self._failed.add(float(outcome.status is Status.FAILED), now_s)
        if outcome.status is Status.OK:
            for name in ("tpot_s", "queue_s"):
                self._windows[name].add(getattr(outcome, name), now_s)
            asleep_s = record.ingress_s or 0.0  # what the model took to wake is not its latency
            for name in ("ttft_s", "e2e_s"):
                seconds = getattr(outcome, name)
                self._windows[name].add(seconds and seconds - asleep_s, now_s)
            if outcome.output_tokens > 0:
                self._windows["output_tokens"].add(float(outcome.output_tokens), now_s)

    def amend(self, before: OutcomeRecord, after: OutcomeRecord, now_s: float) -> None:
        """Counts what an engine's record added to an outcome that was counted before."""
        old, new = before.outcome, after.outcome
        self.changes += 1
        self.cost_usd += new.cost_usd - old.cost_usd
        self.prompt_tokens += new.prompt_tokens - old.prompt_tokens
        self.output_tokens += new.output_tokens - old.output_tokens
        if new.status is not Status.OK:
            return
        if old.queue_s is None:
            self._windows["queue_s"].add(new.queue_s, now_s)
        if old.output_tokens == 0 and new.output_tokens > 0:
            self._windows["output_tokens"].add(float(new.output_tokens), now_s)

    def add_score(self, record: EvaluationRecord) -> None:
        """Counts one graded answer. A new revision of the model or of the suite starts its scores anew."""
        self.changes += 1
        revision = (record.suite_revision, record.model_revision)
        if self._revisions.get(record.suite) != revision:
            self._revisions[record.suite], self._scores[record.suite] = revision, {}
        scores = self._scores[record.suite]
        for task in ("", record.task) if record.task else ("",):
            scores.setdefault(task, _Scores()).add(record.score)

    def _accuracy(self) -> dict[str, Estimate]:
        tasks: dict[str, _Scores] = {}
        for scores in self._scores.values():
            for task, sums in scores.items():
                tasks.setdefault(task, _Scores()).merge(sums)
        return {task: sums.estimate() for task, sums in tasks.items()}

    def read(self, now_s: float) -> Statistics:
        """The present reading."""
        return Statistics(
            **{name: window.quantiles(now_s) for name, window in self._windows.items()},
            error_rate=self._failed.mean(now_s),
            cost_usd=self.cost_usd,
            requests=self.requests,
            accuracy=self._accuracy(),
        )

    def dump(self) -> dict[str, Any]:
        """Everything but accuracy, which is read again from the evaluations."""
        return {
            "requests": self.requests,
            "statuses": self.statuses,
            "cost_usd": self.cost_usd,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "failed": self._failed.dump(),
            "windows": {name: window.dump() for name, window in self._windows.items()},
        }

    def load(self, dump: Mapping[str, Any]) -> None:
        """Takes over a dump."""
        self.requests, self.statuses = dump["requests"], dict(dump["statuses"])
        self.cost_usd = dump["cost_usd"]
        self.prompt_tokens, self.output_tokens = dump["prompt_tokens"], dump["output_tokens"]
        self._failed.load(dump["failed"])
        for name, window in self._windows.items():
            window.load(dump["windows"].get(name, []))


class TableStatistics:
    """Statistics by model; a checkpoint of them names the last outcome that it counts."""

    def __init__(self) -> None:
        self.sequence = 0
        self.models: dict[str, ModelStatistics] = {}
        self._readings: dict[str, tuple[float, int, Statistics]] = {}

    def of(self, model: str) -> ModelStatistics:
        """Statistics of a model, empty ones if nothing was counted yet."""
        return self.models.setdefault(model, ModelStatistics())

    def add(self, record: OutcomeRecord, now_s: float) -> None:
        """Counts a committed outcome."""
        self.of(record.model).add(record, min(record.finished_s, now_s))

    def read(self, model: str, now_s: float) -> Statistics:
        """Totals as of now, percentiles at most READ_S old: merging sketches is not free."""
        statistics = self.of(model)
        read_s, changes, reading = self._readings.get(model, (0.0, -1, Statistics()))
        pause_s = IDLE_READ_S if changes == statistics.changes else READ_S
        if changes < 0 or now_s - read_s >= pause_s:
            reading = statistics.read(now_s)
            self._readings[model] = (now_s, statistics.changes, reading)
        return replace(reading, requests=statistics.requests, cost_usd=statistics.cost_usd)

    def dump(self) -> bytes:
        """The checkpoint."""
        models = {name: statistics.dump() for name, statistics in self.models.items()}
        return msgspec.msgpack.encode({"sequence": self.sequence, "models": models})

    @classmethod
    def load(cls, data: bytes) -> "TableStatistics":
        """From a checkpoint."""
        statistics, dump = cls(), msgspec.msgpack.decode(data)
        statistics.sequence = dump["sequence"]
        for name, model in dump["models"].items():
            statistics.of(name).load(model)
        return statistics
