"""Disk and memory over a simulated week at 10 requests/s: do retention and windows keep them flat?

The real table on its SQLite store, the real learner on the table, in one process and on a simulated clock.
Traffic, graded answers and the retention are divided by the same `--scale`, so that the store is filled
and emptied as often as in a real week. Each day every item is graded anew, every six hours a candidate is
trained (only its bytes are made up) and refused, and each day the ingress and model replicas are new ones.
"""

import argparse
import asyncio
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
from tqdm import tqdm

from deployments.learning.candidate_job import JobInput, JobResult
from deployments.learning.learner import Learner
from deployments.learning.settings import LearnerSettings
from deployments.records.records import (
    DecisionRecord,
    EngineRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
)
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.upkeep import Retention
from policies.promotion.gates import Verdict
from policies.promotion.rollout import YARDSTICK_SHARE, RolloutState
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.table.table import FEATURES, MODELS, decision, outcome
from serve_app.console.text_table import print_table

RATE_PER_S: Final = 10.0
DAYS: Final = 7
DAY_S: Final = 86_400.0
BATCH: Final = 250
LOOKS: Final = 12  # a day
ITEMS: Final = 320  # of the project's own suites
VOTING: Final = 0.05  # share of requests that get a vote
CHECKPOINT_BYTES: Final = 30_000
START_S: Final = 1_700_000_000.0
TARGET_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much the week is thinned out."""
    parser.add_argument("--scale", type=int, default=20, help="divides traffic and retention (default 20)")
    parser.add_argument("--rows", type=int, default=Retention().rows, help="retention before it is divided")


class Clock:
    """Wall time set by hand."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True)
class Look:
    """What one moment of the week takes; bytes of all the store's files, and of memory."""

    day: float
    disk: int
    memory: int
    rows: int
    snapshot: int


class Week:
    """The table, the learner, and all that talks to them."""

    def __init__(self, folder: str, args: argparse.Namespace) -> None:
        self.clock = Clock()
        self.rows = args.rows // args.scale
        self.items = max(ITEMS // args.scale, 1)
        self.per_s = RATE_PER_S / args.scale
        self.path = Path(folder, "store.sqlite3")
        self.table = Table(
            Store(f"sqlite:///{self.path}"), retention=Retention(rows=self.rows), clock=self.clock
        )
        self.learner = Learner(LearnerSettings(target_s=TARGET_S), self.table, _refused, self.clock)
        self.rng = random.Random(0)
        self.sent = 0
        self.looks: list[Look] = []

    async def live(self) -> None:
        """All seven days, in ticks of one report each."""
        for number in range(MODELS):
            await self.table.register_model(ModelCard(f"model-{number}", "simulated", "", 8192))
        tick_s = BATCH / self.per_s
        ticks = int(DAYS * DAY_S / tick_s)
        learned = graded = -1
        for tick in tqdm(range(ticks), "week", unit="report"):
            hour = int(tick * tick_s // 3600)
            await self._traffic(hour // 24, tick_s)
            if tick == 0:
                await self._promote_first()
            if hour // 24 > graded:
                graded = hour // 24
                await self.table.record_evaluations(list(self._graded(graded)))
            await self.learner.watch()
            if hour // 6 > learned:
                learned = hour // 6
                await self.learner.learn()
            await self.table.keep()
            if tick % max(ticks // (DAYS * LOOKS), 1) == 0:
                await self._look(tick * tick_s / DAY_S)

    async def _traffic(self, day: int, tick_s: float) -> None:
        """One report: decisions spread over the tick, their outcomes, engine records and some votes."""
        gap_s = tick_s / BATCH
        decisions, outcomes = [], []
        for number in range(BATCH):
            made = decision(f"d-{self.sent + number}", f"key-{self.rng.randrange(50)}")
            at_s = self.clock.now_s + number * gap_s
            policy = "formula" if self.rng.random() < YARDSTICK_SHARE else "learned@1"
            decisions.append(msgspec.structs.replace(made, created_s=at_s, policy=policy))
            outcomes.append(self._ended(decisions[-1]))
        self.sent += BATCH
        self.clock.now_s += tick_s
        for model in range(MODELS):
            name = f"model-{model}"
            row = ReplicaRow(f"{name}-r{day}", name, "http://127.0.0.1:1", ReplicaState.WARM, slots=64)
            engine = [_engine(one) for one in outcomes if one.model == name]
            await self.table.push_replica(row, engine)
        await self.table.report_ingress(f"ingress-{day}", self.sent, {}, decisions, outcomes)
        for one in decisions:
            if self.rng.random() < VOTING:
                score = float(self.rng.random() < 0.7)
                vote = FeedbackRecord(one.decision_id, one.key_id, "quality", score, self.clock.now_s)
                await self.table.feedback(vote)

    def _ended(self, record: DecisionRecord) -> OutcomeRecord:
        usual = outcome(record)
        measured = replace(
            usual.outcome, ttft_s=self.rng.lognormvariate(-2.3, 0.5), e2e_s=self.rng.lognormvariate(0.2, 0.5)
        )
        return replace(usual, finished_s=record.created_s + (measured.e2e_s or 0.0), outcome=measured)

    async def _promote_first(self) -> None:
        """From the first report on a learned version is active, so that its alarms read every outcome."""
        state = RolloutState(
            active=1,
            last_version=1,
            promoted_s=self.clock.now_s,
            trained_s=self.clock.now_s,
        )
        await self.table.put_artifact("policy:1", "1", os.urandom(CHECKPOINT_BYTES))
        await self.table.set_rollout(state)

    def _graded(self, day: int) -> Iterator[EvaluationRecord]:
        for item in range(self.items):
            for model in range(MODELS):
                yield EvaluationRecord(
                    "suite", "1", f"item-{item}", "task", "", f"model-{model}", f"revision@{day}",
                    score=self.rng.random(), features=FEATURES, output_tokens=60, e2e_s=1.0,
                    finished_s=self.clock.now_s, answer="An answer of usual length. " * 8,
                )  # fmt: skip

    async def _look(self, day: float) -> None:
        rows = (await self.table.status())["store"]["rows"]
        encoded = await self.table.snapshot_bytes("", 0, 0.0)
        self.looks.append(Look(day, self._disk(), _resident(), rows["decisions"], len(encoded)))

    def _disk(self) -> int:
        parts = (Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(part.stat().st_size for part in parts if part.exists())

    async def counted(self) -> int:
        """Outcomes in the table's statistics."""
        statuses = (await self.table.status())["statuses"].values()
        return sum(sum(by_status.values()) for by_status in statuses)


async def _refused(data: JobInput, settings: LearnerSettings) -> JobResult:
    """A candidate of usual size that the first gate refuses."""
    verdict = Verdict(
        "A", False, "worse by 0.0100", {"gain.mean": -0.01, "gain.low": -0.02, "gain.high": 0.0}
    )
    return JobResult(os.urandom(CHECKPOINT_BYTES), [verdict], ITEMS)


def _engine(one: OutcomeRecord) -> EngineRecord:
    return EngineRecord(one.decision_id, 300, 60, 0.01, 0.05, one.outcome.ttft_s, 0.02, one.outcome.e2e_s)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(args: argparse.Namespace) -> Report:
    """Live through the week and hold its last day against its first."""
    with tempfile.TemporaryDirectory() as folder:
        week, found = asyncio.run(_play(folder, args))
    days = [_day(week.looks, day) for day in range(DAYS)]
    full = next(day for day, looks in enumerate(days) if min(look.rows for look in looks) >= week.rows)
    print_table(
        ("day", "disk MB", "memory MB", "decisions kept", "snapshot bytes"),
        [(day + 1, _most(looks, "disk") / 1e6, _most(looks, "memory") / 1e6, _most(looks, "rows"),
          _most(looks, "snapshot")) for day, looks in enumerate(days)],
        title=f"most of each day; {week.sent} requests, {week.rows} kept",
    )  # fmt: skip
    bars = (
        bar("week.disk_growth", _most(days[-1], "disk") / _most(days[full], "disk"), "<=", 1.1),
        bar("week.memory_growth", _most(days[-1], "memory") / _most(days[1], "memory"), "<=", 1.05),
        bar("week.rows_of_retention", max(look.rows for look in week.looks) / week.rows, "<=", 1.01),
        bar("week.outcomes_miscounted", abs(found["counted"] - week.sent), "<=", 0),
    )
    return Report("week", bars, {**found, "looks": [asdict(look) for look in week.looks]})


async def _play(folder: str, args: argparse.Namespace) -> tuple[Week, dict[str, Any]]:
    week = Week(folder, args)
    try:
        await week.live()
        rows = (await week.table.status())["store"]["rows"]
        events = len(await week.table.policy_events())
        found = {"sent": week.sent, "counted": await week.counted(), "rows at the end": rows}
        return week, {**found, "policy events": events, "turnovers of the store": week.sent / week.rows}
    finally:
        await week.table.close()


def _day(looks: Sequence[Look], day: int) -> list[Look]:
    return [look for look in looks if day <= look.day < day + 1]


def _most(looks: Sequence[Look], what: str) -> int:
    return max(getattr(look, what) for look in looks)
