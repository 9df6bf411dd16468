"""The newest decisions: each once, its end when it comes, and the day's cost."""

from dataclasses import replace
from typing import Any

import msgspec

from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.observation import MODEL_FIELDS, OBSERVATION_VERSION
from policies.outcome import Outcome, Status
from serve_app.dashboard.log_tail import LogTail

DAY_S = 86_400.0
NOW_S = 100 * DAY_S + 3_600.0


def row(accuracy: float, cost_usd: float) -> tuple[float, ...]:
    values = {"accuracy": accuracy, "cost_usd": cost_usd}
    return tuple(values.get(field.name, 0.0) for field in MODEL_FIELDS)


def decision(name: str, created_s: float) -> DecisionRecord:
    return DecisionRecord(
        name, created_s, "k", "auto", "", "small", "formula", 1.0, 0.0, 1,
        models=("small", "large"), rows=(row(0.3, 0.01), row(0.9, 0.5)), mask=(True, True), reasons={},
        features=b"secret", text="secret", observation_version=OBSERVATION_VERSION,
    )  # fmt: skip


class Log:
    """A table's log in a list."""

    def __init__(self) -> None:
        self.pairs: dict[str, tuple[DecisionRecord, OutcomeRecord | None]] = {}
        self.asked: list[list[str]] = []

    def add(self, name: str, created_s: float) -> None:
        self.pairs[name] = decision(name, created_s), None

    def end(self, name: str, finished_s: float) -> None:
        outcome = Outcome(Status.OK, e2e_s=1.0, cost_usd=0.02)
        self.pairs[name] = self.pairs[name][0], OutcomeRecord(name, finished_s, "small", "r", outcome)

    async def start_of_newest(self, count: int) -> float:
        return float("-inf")

    async def transitions(self, after_s: float, limit: int) -> list[Any]:
        newer = [pair for pair in self.pairs.values() if pair[0].created_s > after_s]
        return sorted(newer, key=lambda pair: pair[0].created_s)[:limit]

    async def transitions_of(self, names: list[str]) -> list[Any]:
        self.asked.append(names)
        return [self.pairs[name] for name in names]


async def test_each_decision_comes_once_and_its_end_when_it_is_there() -> None:
    log = Log()
    tail = LogTail(log, 100, lambda: NOW_S)  # type: ignore[arg-type]  # the part of a table that it asks
    log.add("a", NOW_S - 10)
    log.add("b", NOW_S - 5)
    assert await tail.read() == 2
    assert await tail.read() == 0
    log.end("a", NOW_S - 1)
    assert await tail.read() == 1
    assert [pair[0].decision_id for pair in tail.finished] == ["a"]
    assert log.asked[-1] == ["a", "b"]
    await tail.read()
    assert log.asked[-1] == ["b"]


async def test_no_text_is_kept() -> None:
    log = Log()
    log.add("a", NOW_S - 10)
    tail = LogTail(log, 100, lambda: NOW_S)  # type: ignore[arg-type]
    await tail.read()
    found = tail.find("a")
    assert found is not None
    assert "secret" not in msgspec.json.encode(found[0]).decode()
    assert found[0].text is None


async def test_only_the_newest_are_kept() -> None:
    log = Log()
    for number in range(1500):
        log.add(f"d{number}", NOW_S - 2000 + number)
    tail = LogTail(log, 100, lambda: NOW_S)  # type: ignore[arg-type]
    await tail.read()
    assert len(tail) == 100
    assert tail.newest(1)[0][0].decision_id == "d1499"


async def test_the_days_cost_is_set_against_two_simple_rules() -> None:
    log = Log()
    for name, finished_s in (("yesterday", NOW_S - 2 * DAY_S), ("one", NOW_S - 50), ("two", NOW_S - 40)):
        log.add(name, finished_s - 1)
        log.end(name, finished_s)
    tail = LogTail(log, 100, lambda: NOW_S)  # type: ignore[arg-type]
    await tail.read()
    today = replace(tail.today)
    assert (today.requests, today.since_s) == (2, 100 * DAY_S)
    assert (today.spent_usd, today.best_usd, today.cheapest_usd) == (0.04, 1.0, 0.02)
