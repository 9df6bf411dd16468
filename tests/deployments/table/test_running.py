"""Replicas that are paid by the hour are billed for the time that they run, and for no other."""

from pathlib import Path

from deployments.records.records import OutcomeRecord
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.running import running_account
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from serve_app.access.idle import idle_costs
from tests.clock import Clock

HOURLY = ModelCard("hourly", "simulated", "", 4096, usd_per_hour=3.6)
BY_TOKEN = ModelCard("by-token", "simulated", "", 4096, completion_usd_per_mtok=1.0)


async def test_the_cost_of_idle_replicas_is_what_tokens_do_not_pay(tmp_path: Path) -> None:
    clock = Clock(1_700_000_000.0)
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=clock)
    for card in (HOURLY, BY_TOKEN):
        await table.register_model(card)
    for _ in range(10):
        for number, model in enumerate(("hourly", "hourly", "by-token")):
            await table.push_replica(
                ReplicaRow(f"r{number}", model, "http://127.0.0.1:1", ReplicaState.WARM), []
            )
        clock.now_s += 5.0
        await table.keep()
    record = OutcomeRecord("d", clock.now_s, "hourly", "r0", Outcome(Status.OK, cost_usd=0.03))
    await table.report_ingress("i", 1, {}, [], [record])
    [row] = await idle_costs(table, "1d")
    assert (row["model"], row["running_usd"], row["cost_usd"], row["idle_usd"]) == ("hourly", 0.1, 0.03, 0.07)
    clock.now_s += 3_600.0  # the table was away: nobody knows who ran meanwhile
    await table.keep()
    after = (await table.spent([running_account("hourly")], "1d"))[running_account("hourly")]
    assert after.nano_usd <= 100_000_000 + 2 * 60_000_000
    await table.close()
