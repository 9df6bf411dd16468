"""Gauges of the whole pool, as the performance table knows it."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from deployments.metrics.meter import Meter
from deployments.records.snapshot import ModelRow, ReplicaState
from policies.promotion.rollout import RolloutState

ALL_TASKS: Final = "all"


class PoolGauges:
    """Sets the gauges; for a model that has left they go to 0, because a gauge cannot be taken back."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._models: set[str] = set()

    def measure(self, models: Mapping[str, ModelRow], rollout: RolloutState) -> None:
        """Take over what the table says now."""
        self._models |= models.keys()
        for model in self._models:
            self._load(model, models.get(model))
        candidate = rollout.candidate
        on_trial = candidate is not None and candidate.on_trial
        self._meter.gauge("fastserve_policy_version", ("active",), rollout.active or 0)
        self._meter.gauge("fastserve_policy_version", ("candidate",), candidate.version if candidate else 0)
        self._meter.gauge("fastserve_candidate_share", (), candidate.share if candidate and on_trial else 0.0)

    def _load(self, model: str, row: ModelRow | None) -> None:
        replicas = row.replicas if row is not None else ()
        self._meter.gauge("fastserve_served", (model,), float(row is not None))
        self._meter.gauge("fastserve_asleep", (model,), float(row is not None and row.ready_in_s > 0.0))
        states = Counter(replica.state for replica in replicas)
        for state in ReplicaState:
            self._meter.gauge("fastserve_replicas", (model, state.value), states[state])
        self._meter.gauge("fastserve_running", (model,), sum(one.running for one in replicas))
        self._meter.gauge("fastserve_waiting", (model,), sum(one.waiting for one in replicas))
        self._meter.gauge("fastserve_slots", (model,), sum(one.slots for one in replicas))
        self._meter.gauge("fastserve_cache_use", (model,), max((one.kv_use for one in replicas), default=0.0))
        for task, estimate in row.accuracy.items() if row is not None else ():
            self._meter.gauge("fastserve_accuracy", (model, task or ALL_TASKS), estimate.mean)
