from pathlib import Path

from deployments.learning.log_reader import newest
from deployments.records.records import DecisionRecord
from deployments.table.store.store import Store
from deployments.table.table import Table


async def test_only_the_newest_decisions_are_read(tmp_path: Path) -> None:
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=lambda: 9.0)
    made = [DecisionRecord(f"d{n}", float(n), "k", "auto", "", "m", "formula", 1.0, 0.0, n) for n in range(9)]
    await table.report_ingress("i", 1, {}, made, [])
    for after_s, limit, first in ((-1.0, 100, 0), (-1.0, 3, 6), (7.0, 3, 8)):
        found = await newest(table, after_s, limit)
        assert [record.decision_id for record, _ in found] == [f"d{n}" for n in range(first, 9)]
    await table.close()
