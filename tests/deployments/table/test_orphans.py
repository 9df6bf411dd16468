"""What an ingress replica that died left open is ended as its engine saw it, and charged."""

from pathlib import Path

from deployments.records.decision_id import decision_id
from deployments.records.leases import Ask, Resource
from deployments.records.records import DecisionRecord, EngineRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.join import REPEATED
from deployments.table.orphans import LOST, ORPHAN_S
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from tests.clock import Clock

CARD = ModelCard("m", "simulated", "", 4096, prompt_usd_per_mtok=1.0, completion_usd_per_mtok=10.0)
ROW = ReplicaRow("r", "m", "http://127.0.0.1:1", ReplicaState.WARM)


def decision(name: str, ingress: str, clock: Clock) -> DecisionRecord:
    return DecisionRecord(
        name, clock.now_s, "k", "auto:p", "p", "m", "formula", 1.0, 0.0, 0, team="t", ingress=ingress
    )


async def test_only_requests_of_the_dead_are_ended_for_them(tmp_path: Path) -> None:
    clock = Clock(1_700_000_000.0)
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=clock)
    await table.register_model(CARD)
    await table.lease("dead", [Ask("key:k", Resource.USD, 10**9, window="1d", reserved=5_000)])
    for name in ("dead", "alive"):
        await table.report_ingress(name, 1, {}, [decision(f"d-{name}", name, clock)], [])
    ended = OutcomeRecord("d-ended", clock.now_s, "m", "r", Outcome(Status.OK))
    await table.report_ingress("dead", 2, {}, [decision("d-ended", "dead", clock)], [ended])
    engine = [EngineRecord(f"d-{name}", 100, 20) for name in ("dead", "alive", "unknown")]
    await table.push_replica(ROW, engine)
    for _ in range(2):
        clock.now_s += ORPHAN_S + 1.0
        await table.report_ingress("alive", 2, {}, [], [])
        await table._beat()
        await table.keep()
    outcomes = {d.decision_id: o.outcome for d, o in await table.transitions(0.0, 10) if o is not None}
    assert set(outcomes) == {"d-dead", "d-ended"}
    lost = outcomes["d-dead"]
    assert (lost.status, lost.error_code, lost.output_tokens) == (Status.CANCELLED, LOST, 20)
    spent = await table.spent(["key:k", "team:t", "profile:p"], "1d")
    assert {one.nano_usd for one in spent.values()} == {300_000}
    await table.close()


async def test_what_was_begun_for_a_request_that_was_repeated_costs_nothing(tmp_path: Path) -> None:
    """The last try is charged, be it that its ingress replica died too."""
    clock = Clock(1_700_000_000.0)
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=clock)
    await table.register_model(CARD)
    first, second, other = (decision_id(name * 24) for name in "aab")
    for name, ingress in ((first, "one"), (other, "one"), (second, "two")):
        await table.report_ingress(ingress, 1, {}, [decision(name, ingress, clock)], [])
        clock.now_s += 0.5
    await table.push_replica(ROW, [EngineRecord(name, 100, 20) for name in (first, second, other)])
    for _ in range(2):
        clock.now_s += ORPHAN_S + 1.0
        await table.report_ingress("alive", 2, {}, [], [])
        await table._beat()
        await table.keep()
    outcomes = {d.decision_id: o.outcome for d, o in await table.transitions(0.0, 10) if o is not None}
    assert {name: (o.error_code, o.output_tokens) for name, o in outcomes.items()} == {
        first: (REPEATED, 0),
        second: (LOST, 20),
        other: (LOST, 20),
    }
    assert (await table.spent(["key:k"], "1d"))["key:k"].nano_usd == 2 * 300_000
    await table.close()
