"""A round asks what is missing and nothing else, survives faults, gives way, and records every item once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.evaluation.client import EvaluationClient, EvaluationError
from deployments.evaluation.pace import Pace
from deployments.evaluation.run import (
    BACKOFF_S,
    EvaluationRun,
    Job,
    affordable,
    expected_tokens,
    missing,
    ungradable,
)
from deployments.evaluation.settings import PaceSettings
from deployments.records.records import EvaluationRecord
from deployments.records.snapshot import ModelRow, Snapshot
from deployments.suites.sandbox import sandbox
from deployments.suites.suite import Suite
from deployments.table.store.store import Store
from deployments.table.table import Table
from tests.deployments.fake_endpoint import KEY, FakeEndpoint, card, right, sums, warm

CARDS = {name: card(name) for name in ("good", "poor")}


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint(right) as running:
        yield running


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(Store(f"sqlite:///{tmp_path / 'store.sqlite3'}"))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return sums(tmp_path)


def idle(**in_flight: int) -> Snapshot:
    rows = {name: ModelRow(CARDS[name], (warm(name),), in_flight=in_flight.get(name, 0)) for name in CARDS}
    return Snapshot("b", 1, 0.0, rows)


def make(
    table: Any, endpoint: FakeEndpoint, give_up_s: float = 10.0, **pace: object
) -> tuple[EvaluationRun, Pace]:
    p = Pace(PaceSettings.model_validate({"concurrency": 2, "user_share": 0.0, **pace}), lambda: 0.0)
    p.see(idle())
    client = EvaluationClient(lambda: endpoint.url, KEY)
    return EvaluationRun(table, client, CARDS, p, give_up_s), p


def jobs(suite: Suite, records: list[EvaluationRecord] | None = None) -> list[Job]:
    return missing([suite], CARDS, lambda c: c.revision, records or [])


def identities(records: list[EvaluationRecord]) -> Counter[tuple[str, str]]:
    return Counter((r.item, r.model) for r in records)


async def test_every_model_is_asked_every_item_once(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    run, _ = make(table, endpoint)
    progress = await run.run(jobs(suite))
    records = await table.evaluations(None, None)
    assert set(identities(records).values()) == {1}
    assert len(records) == progress.done == 24
    scores = {m: sum(r.score for r in records if r.model == m) for m in CARDS}
    assert scores == {"good": 12.0, "poor": 6.0}
    assert set(endpoint.asked.values()) == {1}
    first = records[0]
    assert (first.suite_revision, first.model_revision, first.language) == (suite.revision, "r1", "en")
    assert first.cost_usd == pytest.approx((first.prompt_tokens + first.output_tokens) / 1e6)
    assert first.features


async def test_a_second_round_asks_nothing(table: Table, endpoint: FakeEndpoint, suite: Suite) -> None:
    await make(table, endpoint)[0].run(jobs(suite))
    assert jobs(suite, await table.evaluations(None, None)) == []


def test_items_that_this_machine_cannot_grade_are_left_out_and_named(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = replace(suite.items[0], id="code", grader="unit_test", extra={"test": "assert True"})
    mixed = replace(suite, items=(*suite.items, code))
    assert "code" in {job.item.id for job in jobs(mixed)}
    monkeypatch.setattr(sandbox, "unavailable", lambda: "this kernel has no Landlock")
    assert {job.item.id for job in jobs(mixed)} == {item.id for item in suite.items}
    [sentence] = ungradable([mixed, suite])
    assert "1 items" in sentence
    assert "Landlock" in sentence


async def test_a_changed_model_or_suite_is_asked_again_and_comes_first(
    table: Table, endpoint: FakeEndpoint, suite: Suite, tmp_path: Path
) -> None:
    await make(table, endpoint)[0].run(jobs(suite)[:20])
    records = await table.evaluations(None, None)
    changed = missing([suite], CARDS | {"poor": card("poor", "r2")}, lambda c: c.revision, records)
    assert [job.model for job in changed[:12]] == ["poor"] * 12
    assert [job.model for job in changed[12:]] == ["good", "good"]
    longer = sums(tmp_path, 13)
    assert len(missing([longer], CARDS, lambda c: c.revision, records)) == 26


async def test_failures_are_asked_again_and_counted_once(
    table: Table, endpoint: FakeEndpoint, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.evaluation.run.BACKOFF_S", (0.01, 0.02))
    faults: Counter[tuple[str, str]] = Counter()

    def fault(model: str, prompt: str) -> int | str | None:
        faults[model, prompt] += 1
        return {1: 503, 2: "cut"}.get(faults[model, prompt])

    endpoint.fault = fault
    progress = await make(table, endpoint)[0].run(jobs(suite))
    records = await table.evaluations(None, None)
    assert set(identities(records).values()) == {1}
    assert (len(records), progress.asked) == (24, 72)


async def test_an_item_a_model_cannot_take_counts_zero(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    endpoint.fault = lambda model, prompt: 400 if prompt == "2+1?" else None
    await make(table, endpoint)[0].run(jobs(suite))
    refused = [r for r in await table.evaluations(None, None) if r.item == "i2"]
    assert [(r.score, r.error) for r in refused] == [(0.0, "context_length_exceeded")] * 2


async def test_a_dead_model_is_left_and_the_others_end(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    assert BACKOFF_S[0] <= 1.0
    endpoint.fault = lambda model, prompt: 503 if model == "poor" else None
    progress = await make(table, endpoint, give_up_s=0.3)[0].run(jobs(suite))
    assert progress.left == {"poor": 12}
    assert {r.model for r in await table.evaluations(None, None)} == {"good"}


class FlakyTable:
    """A table that is away for a while, and one that answers too late: it recorded, and nobody heard."""

    def __init__(self, table: Table, failures: int) -> None:
        self.table, self.failures = table, failures

    async def record_evaluations(self, records: list[EvaluationRecord]) -> int:
        self.failures -= 1
        if self.failures >= 0 and self.failures % 2:
            raise ConnectionError("table is away")
        new = await self.table.record_evaluations(records)
        if self.failures >= 0:
            raise TimeoutError
        return new


async def test_a_table_that_is_away_loses_nothing(table: Table, endpoint: FakeEndpoint, suite: Suite) -> None:
    progress = await make(FlakyTable(table, 4), endpoint)[0].run(jobs(suite))
    records = await table.evaluations(None, None)
    assert set(identities(records).values()) == {1}
    assert (len(records), progress.done) == (24, 24)


async def test_a_table_that_stays_away_is_an_error(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    run, _ = make(FlakyTable(table, 10_001), endpoint, give_up_s=0.2)
    with pytest.raises(ExceptionGroup) as error:
        await run.run(jobs(suite))
    assert error.group_contains((ConnectionError, TimeoutError))


async def test_a_run_that_is_killed_is_resumed_by_the_next(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    endpoint.delay_s = 0.02
    run, _ = make(table, endpoint)
    task = asyncio.create_task(run.run(jobs(suite)))
    while sum(endpoint.finished.values()) < 10:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await make(table, endpoint)[0].run(jobs(suite, await table.evaluations(None, None)))
    records = await table.evaluations(None, None)
    assert set(identities(records).values()) == {1}
    assert len(records) == 24


async def test_it_waits_while_users_are_there_and_goes_on_after(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    run, pace = make(table, endpoint, shared_machine=True)
    pace.see(idle(poor=1))
    task = asyncio.create_task(run.run(jobs(suite)))
    await asyncio.sleep(0.3)
    assert not endpoint.asked
    assert run.progress.reasons == {"good": "users", "poor": "users"}
    pace.see(idle())
    assert (await task).done == 24


async def test_a_request_gives_way_to_users_and_is_asked_again(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    endpoint.delay_s = 30.0
    run, pace = make(table, endpoint)
    task = asyncio.create_task(run.run(jobs(suite)))
    while endpoint.active < 4:
        await asyncio.sleep(0.01)
    pace.see(idle(good=5, poor=5))
    while endpoint.active:
        await asyncio.sleep(0.01)
    assert run.progress.gave_way == 4
    endpoint.delay_s = 0.0
    pace.see(idle())
    assert (await task).done == 24
    assert set(identities(await table.evaluations(None, None)).values()) == {1}


async def test_a_refused_key_ends_the_round_with_its_reason(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    _, pace = make(table, endpoint)
    run = EvaluationRun(table, EvaluationClient(lambda: endpoint.url, "wrong"), CARDS, pace)
    with pytest.raises(ExceptionGroup) as error:
        await run.run(jobs(suite))
    assert error.group_contains(EvaluationError, match="refused the key")


async def test_stop_ends_early_and_records_what_was_answered(
    table: Table, endpoint: FakeEndpoint, suite: Suite
) -> None:
    endpoint.delay_s = 0.05
    run, _ = make(table, endpoint)
    task = asyncio.create_task(run.run(jobs(suite)))
    while not endpoint.finished:
        await asyncio.sleep(0.01)
    run.stop()
    progress = await task
    assert 0 < progress.done < 24
    assert len(await table.evaluations(None, None)) == progress.done


def test_a_budget_takes_the_longest_paired_beginning(suite: Suite) -> None:
    everything = jobs(suite)
    assert [(j.item.id, j.model) for j in everything[:4]] == [
        ("i0", "good"),
        ("i0", "poor"),
        ("i1", "good"),
        ("i1", "poor"),
    ]
    size = sum(expected_tokens(suite.items[0]))
    assert len(affordable(everything, CARDS, 3 * size, float("inf"))) == 3
    assert len(affordable(everything, CARDS, float("inf"), 2.5 * size / 1e6)) == 2
    assert affordable(everything, CARDS, float("inf"), float("inf")) == everything
    assert card("x", price=2.0).cost_usd(500_000, 250_000) == pytest.approx(1.5)
