"""A system clock that is set back an hour: nothing is lost, and nobody who is gone stays."""

from dataclasses import replace

from deployments.dispatch.columns import is_usable
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.steady_clock import SteadyClock
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from tests.clock import Clock

HOUR_S = 3_600.0


def clocks() -> tuple[Clock, Clock, SteadyClock]:
    wall, monotonic = Clock(1_000_000.0), Clock(50.0)
    return wall, monotonic, SteadyClock(wall, monotonic)


def test_it_is_the_system_s_clock_while_that_goes_on() -> None:
    wall, monotonic, steady = clocks()
    for _ in range(5):
        wall.now_s += 7.0
        monotonic.now_s += 7.0
        assert steady() == wall.now_s
    wall.now_s += HOUR_S
    assert steady() == wall.now_s


def test_set_back_it_goes_on_at_half_the_pace_until_both_agree() -> None:
    wall, monotonic, steady = clocks()
    before = steady()
    wall.now_s -= HOUR_S
    assert steady() == before
    for _ in range(10):
        wall.now_s += 100.0
        monotonic.now_s += 100.0
        steady()
    assert steady() == before + 500.0
    wall.now_s += 2 * HOUR_S - 1_000.0
    monotonic.now_s += 2 * HOUR_S - 1_000.0
    assert steady() == wall.now_s
    wall.now_s += 1.0
    monotonic.now_s += 1.0
    assert steady() == wall.now_s


async def test_the_table_with_a_clock_that_is_set_back_an_hour(tmp_path) -> None:
    wall, monotonic, steady = clocks()
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=steady)

    def passes(seconds: float) -> None:
        wall.now_s += seconds
        monotonic.now_s += seconds

    async def answered(name: str) -> None:
        decision = DecisionRecord(name, steady(), "k", "auto", "", "m", "priced", 1.0, 0.0, 1)
        ended = Outcome(Status.OK, 0.1, 0.01, 0.5, prompt_tokens=3, output_tokens=7, cost_usd=0.25)
        record = OutcomeRecord(name, steady(), "m", "r1", ended, accounts=("key:k",))
        await table.report_ingress("i", 1, {"m": 1}, [decision], [record])

    try:
        await table.register_model(ModelCard("m", "simulated", "", 4096))
        rows = [ReplicaRow(name, "m", "", ReplicaState.WARM) for name in ("r1", "gone")]
        for row in rows:
            await table.push_replica(row, [])
        await answered("before")
        seen_s = (await table.transitions(0.0, 10))[-1][0].created_s
        wall.now_s -= HOUR_S
        passes(4.0)
        await table.push_replica(replace(rows[0], running=1), [])
        replicas = table._build(9).models["m"].replicas
        usable = {one.replica: is_usable(one, steady()) for one in replicas}
        assert usable == {"r1": True, "gone": False}  # it fell silent with the clock
        passes(4.0)
        await answered("after")
        assert [one.decision_id for one, _ in await table.transitions(seen_s, 10)] == ["after"]
        spent = (await table.spent(["key:k"], "1d"))["key:k"]
        assert (spent.requests, spent.nano_usd) == (2, 500_000_000)
        passes(60.0)
        await table._beat()
        assert not table._rows._replicas
    finally:
        await table.close()
