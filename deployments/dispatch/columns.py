"""Turns a table snapshot into the columns that every observation starts from, once a snapshot."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from deployments.dispatch.names import aliases
from deployments.records.snapshot import Estimate, ModelRow, ReplicaRow, ReplicaState, Snapshot
from policies.arrays import F64, Bools
from policies.latency.model import BoundLatency, LatencyModel, LiveLoad
from policies.observation import MODEL_COLUMN, MODEL_FIELDS

SILENT_S = 1.5  # a replica that has not pushed for so long counts as unhealthy
STALE_S = 1.0  # a snapshot older than this says nothing about silence: the table may be the silent one
_PRIOR_STD = 0.25  # of an accuracy that nobody has measured
_MISSING_TPOT_S = 0.03


@dataclass(frozen=True, slots=True)
class Columns:
    """What one snapshot says of M models, as arrays [M], models in alphabetical order."""

    snapshot: Snapshot
    models: tuple[str, ...]
    index: dict[str, int]
    rows: F64  # [M, F], the live columns of a request still open
    usable: Bools
    ready_in_s: F64  # above 0: the model sleeps, and serves so long after it is asked for
    capabilities: tuple[frozenset[str], ...]
    context_tokens: F64
    tokenizers: tuple[str, ...]
    least_context_tokens: float
    most_context_tokens: float
    weighted: Bools  # w_i > 0
    evaluated: F64  # mean score by evaluation, NaN where there is none
    by_task: tuple[Mapping[str, Estimate], ...]  # the same by task, with how much is behind it
    requests: F64  # outcomes in all
    prompt_usd_per_mtok: F64
    completion_usd_per_mtok: F64
    priced: bool
    cheapest_usd_per_mtok: float  # least completion price above 0; infinite where all are free
    latency: BoundLatency
    aliases: Mapping[str, str]  # further name -> model
    valid_until_s: float  # snapshot age at which the next usable replica falls silent
    kept: dict[object, object] = field(default_factory=dict)  # static masks, see deployments.dispatch.masks


class Observer:
    """Keeps the columns of the newest snapshot; `ejected` names replicas that this ingress avoids."""

    def __init__(self, ejected: Callable[[], frozenset[str]] = frozenset) -> None:
        self._ejected = ejected
        self._key: tuple[object, ...] = ()
        self._columns: Columns | None = None

    def forget(self) -> None:
        """Make the columns again for the next request."""
        self._columns = None

    def columns(self, snapshot: Snapshot, age_s: float, latency: LatencyModel) -> Columns:
        """The columns of `snapshot`, which was received `age_s` ago; made again only when something moved."""
        stale = age_s > STALE_S
        silence_s = 0.0 if stale else age_s
        ejected = self._ejected()
        key = (snapshot.boot_id, snapshot.version, stale, id(latency), ejected)
        columns = self._columns
        if columns is None or key != self._key or silence_s > columns.valid_until_s:
            columns = _build(snapshot, silence_s, ejected, latency)
            self._key, self._columns = key, columns
        return columns


def is_usable(replica: ReplicaRow, taken_at_s: float, age_s: float = 0.0) -> bool:
    """WARM, and not silent at `age_s` after the snapshot was taken."""
    return replica.state == ReplicaState.WARM and taken_at_s - replica.pushed_at_s + age_s <= SILENT_S


def _build(snapshot: Snapshot, age_s: float, ejected: frozenset[str], latency: LatencyModel) -> Columns:
    models = tuple(sorted(snapshot.models))
    table = [snapshot.models[model] for model in models]
    ready = [
        [r for r in row.replicas if is_usable(r, snapshot.taken_at_s, age_s) and r.replica not in ejected]
        for row in table
    ]
    rows = np.zeros((len(models), len(MODEL_FIELDS)))
    for i, (row, replicas) in enumerate(zip(table, ready, strict=True)):
        rows[i] = _row(row, replicas)
    prompt_usd = np.array([row.card.prompt_usd_per_mtok for row in table])
    completion_usd = np.array([row.card.completion_usd_per_mtok for row in table])
    live = _live(models, table, ready, rows)
    context = np.array([float(row.card.context_tokens) for row in table])
    waits = [SILENT_S - snapshot.taken_at_s + r.pushed_at_s for replicas in ready for r in replicas]
    return Columns(
        snapshot=snapshot,
        models=models,
        index={model: i for i, model in enumerate(models)},
        rows=rows,
        aliases=aliases(snapshot.models),
        usable=np.array([bool(replicas) for replicas in ready], dtype=bool),
        ready_in_s=np.array([row.ready_in_s for row in table]),
        capabilities=tuple(row.card.capabilities for row in table),
        context_tokens=context,
        tokenizers=tuple(row.card.tokenizer for row in table),
        least_context_tokens=float(context.min(initial=math.inf)),
        most_context_tokens=float(context.max(initial=0.0)),
        weighted=np.array([row.card.weight > 0.0 for row in table], dtype=bool),
        evaluated=np.array([row.accuracy[""].mean if "" in row.accuracy else math.nan for row in table]),
        by_task=tuple(row.accuracy for row in table),
        requests=np.array([float(row.requests) for row in table]),
        prompt_usd_per_mtok=prompt_usd,
        completion_usd_per_mtok=completion_usd,
        priced=bool(prompt_usd.any() or completion_usd.any()),
        cheapest_usd_per_mtok=float(completion_usd[completion_usd > 0.0].min(initial=math.inf)),
        latency=latency.bind(live),
        valid_until_s=min(waits, default=math.inf),
    )


def _row(row: ModelRow, ready: list[ReplicaRow]) -> F64:
    """[F] the fields that a snapshot alone determines."""
    values = np.zeros(len(MODEL_FIELDS))
    accuracy, std = _accuracy(row.accuracy.get(""), row.card.accuracy_prior)
    tpot_s = row.tpot_s.mean if row.tpot_s.count else _MISSING_TPOT_S
    for name, value in (
        ("weight", row.card.weight),
        ("accuracy", accuracy),
        ("accuracy_std", std),
        ("tpot_s", tpot_s),
        ("waiting", sum(r.waiting for r in ready)),
        ("slots", sum(r.slots for r in ready)),
        ("kv_use", sum(r.kv_use for r in ready) / max(len(ready), 1)),
        ("error_rate", row.error_rate),
        ("replicas", len(ready)),
        ("cold", 0.0 if any(r.state == ReplicaState.WARM for r in row.replicas) else 1.0),
    ):
        values[MODEL_COLUMN[name]] = value
    return values


def _accuracy(estimate: Estimate | None, prior: float) -> tuple[float, float]:
    """Mean and standard error: from the evaluation's 95 % interval, else from the card."""
    if estimate is None or not estimate.count:
        return prior, _PRIOR_STD
    return estimate.mean, (estimate.high - estimate.low) / 3.92


def _live(
    models: tuple[str, ...], table: list[ModelRow], ready: list[list[ReplicaRow]], rows: F64
) -> LiveLoad:
    return LiveLoad(
        models=models,
        slots=rows[:, MODEL_COLUMN["slots"]],
        replicas=rows[:, MODEL_COLUMN["replicas"]],
        running=np.array([float(sum(r.running for r in replicas)) for replicas in ready]),
        waiting=rows[:, MODEL_COLUMN["waiting"]],
        cold=rows[:, MODEL_COLUMN["cold"]],
        ttft_s=np.array([row.ttft_s.p50 for row in table]),
        queue_s=np.array([row.queue_s.p50 for row in table]),
        tpot_s=np.array([row.tpot_s.mean for row in table]),
        output_tokens=np.array([row.output_tokens.mean for row in table]),
        count=np.array([float(row.ttft_s.count) for row in table]),
        ready_in_s=np.array([row.ready_in_s for row in table]),
    )
