"""What the log reader gives to the canary and the alarms: each request once, for the version that decided."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from deployments.learning.live_evidence import compared
from deployments.learning.log_reader import LogReader, newest
from deployments.learning.settings import LEARNED_METRICS
from deployments.records.records import DecisionRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from tests.deployments.traffic import decision, outcome

NOW_S = 1_000.0


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=lambda: NOW_S)
    yield table
    await table.close()


async def report(table: Table, *decisions: DecisionRecord, ended: bool = True) -> None:
    outcomes = [outcome(record, record.created_s + 1.0) for record in decisions]
    await table.report_ingress("i", 1, {}, list(decisions), outcomes if ended else [])


def reader(table: Table, settle_s: float = 0.0) -> LogReader:
    return LogReader(table, 0.0, target_s=5.0, settle_s=settle_s, metrics=LEARNED_METRICS)


@pytest.mark.parametrize(
    ("policy", "is_candidate"),
    [
        ("learned@7", True),
        ("learned@7;sticky", True),
        ("learned@6", False),
        ("learned@77", False),
        ("formula;sticky", False),
        ("formula;fallback=error", False),
    ],
)
async def test_a_request_counts_for_the_version_that_decided_it(
    table: Table, policy: str, is_candidate: bool
) -> None:
    await report(table, decision("d", 10.0, policy))
    (request,) = await reader(table).fresh(NOW_S)
    assert compared(request, 7, np.array([0.5, 0.5])).tested is is_candidate


async def test_a_named_request_says_nothing_about_the_policy(
    table: Table,
) -> None:
    named = [decision(f"d{n}", 10.0 + n, "named", requested=r) for n, r in enumerate(("small", "automat"))]
    await report(table, *named, decision("a", 20.0), decision("p", 21.0, requested="auto:support"))
    assert [one.record.decision_id for one in await reader(table).fresh(NOW_S)] == ["a", "p"]


async def test_only_the_newest_decisions_are_read(tmp_path: Path) -> None:
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=lambda: 9.0)
    made = [DecisionRecord(f"d{n}", float(n), "k", "auto", "", "m", "formula", 1.0, 0.0, n) for n in range(9)]
    await table.report_ingress("i", 1, {}, made, [])
    for after_s, limit, first in ((-1.0, 100, 0), (-1.0, 3, 6), (7.0, 3, 8)):
        found = await newest(table, after_s, limit)
        assert [record.decision_id for record, _ in found] == [f"d{n}" for n in range(first, 9)]
    await table.close()
