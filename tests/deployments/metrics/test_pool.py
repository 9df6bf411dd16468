"""Gauges of the pool say what the table says, also of models that have left."""

from deployments.metrics.meter import MemoryMeter
from deployments.metrics.pool import PoolGauges
from deployments.records.snapshot import Estimate, ModelCard, ModelRow, ReplicaRow, ReplicaState
from policies.promotion.rollout import Candidate, RolloutState, Stage


def replica(name: str, state: ReplicaState, **load: float) -> ReplicaRow:
    return ReplicaRow(name, "m", "http://127.0.0.1:1", state, **load)  # type: ignore[arg-type]


def test_a_model_is_counted_and_goes_to_zero_when_it_leaves() -> None:
    meter = MemoryMeter()
    gauges = PoolGauges(meter)
    replicas = (
        replica("a", ReplicaState.WARM, running=3, waiting=2, slots=4, kv_use=0.25),
        replica("b", ReplicaState.STALLED, running=1, slots=4, kv_use=0.5),
    )
    accuracy = {"": Estimate(0.6, 0.5, 0.7, 40), "math": Estimate(0.4, 0.3, 0.5, 20)}
    card = ModelCard("m", "simulated", "", 4096)
    gauges.measure({"m": ModelRow(card, replicas, accuracy=accuracy)}, RolloutState())
    assert meter.value("fastserve_served", "m") == 1
    assert {state: meter.value("fastserve_replicas", "m", state) for state in ReplicaState} == {
        "warm": 1,
        "stalled": 1,
        "cold": 0,
        "draining": 0,
    }
    names = ("running", "waiting", "slots", "cache_use")
    load = {name: meter.value(f"fastserve_{name}", "m") for name in names}
    assert load == {"running": 4, "waiting": 2, "slots": 8, "cache_use": 0.5}
    assert meter.values["fastserve_accuracy"] == {("m", "all"): 0.6, ("m", "math"): 0.4}
    gauges.measure({}, RolloutState())
    assert not any(meter.values["fastserve_replicas"].values())
    assert meter.value("fastserve_slots", "m") == 0


def test_the_rollout_shows_who_serves_and_who_is_on_trial() -> None:
    meter = MemoryMeter()
    gauges = PoolGauges(meter)
    gauges.measure({}, RolloutState())
    assert meter.values["fastserve_policy_version"] == {("active",): 0, ("candidate",): 0}
    gauges.measure({}, RolloutState(active=3, candidate=Candidate(4, Stage.CANARY, share=0.05)))
    assert meter.values["fastserve_policy_version"] == {("active",): 3, ("candidate",): 4}
    assert meter.value("fastserve_candidate_share") == 0.05
    gauges.measure({}, RolloutState(active=4, candidate=Candidate(4, Stage.PROMOTED, share=0.05)))
    assert meter.value("fastserve_candidate_share") == 0
