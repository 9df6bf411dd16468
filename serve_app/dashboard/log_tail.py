"""The newest decisions with what came of them, kept up to date for all viewers, and what today has cost."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.table.api import TableApi, Transition
from policies.observation import MODEL_COLUMN

_PAGE: Final = 500
_OVERLAP_S: Final = 2.0  # ingress replicas report a little out of order
_OPEN_S: Final = 900.0  # a decision without an outcome for so long will never have one
_MOST_OPEN: Final = 500
_DAY_S: Final = 86_400.0
_ACCURACY, _COST = MODEL_COLUMN["accuracy"], MODEL_COLUMN["cost_usd"]


@dataclass(slots=True)
class DayCost:
    """What the requests that the policy decided cost on one day (UTC), and what two simple rules would.

    `since_s` is later than the day's begin where the dashboard did not see all of it.
    """

    day: int
    since_s: float
    requests: int = 0
    spent_usd: float = 0.0
    best_usd: float = 0.0  # always the model of the highest predicted accuracy
    cheapest_usd: float = 0.0

    def add(self, decision: DecisionRecord, outcome: OutcomeRecord) -> None:
        """One finished request."""
        allowed = [row for row, may in zip(decision.rows, decision.mask, strict=True) if may]
        if not allowed or not decision.is_dispatched:
            return
        self.requests += 1
        self.spent_usd += outcome.outcome.cost_usd
        self.best_usd += max(allowed, key=lambda row: row[_ACCURACY])[_COST]
        self.cheapest_usd += min(row[_COST] for row in allowed)


class LogTail:
    """`read` looks for what is new; nobody else asks the table for it."""

    def __init__(self, table: TableApi, most: int, wall: Callable[[], float] = time.time) -> None:
        self._table, self._most, self._wall = table, most, wall
        self._kept: dict[str, Transition] = {}  # by id, in the order of arrival
        self._open: dict[str, float] = {}  # id -> when it was decided
        self._after_s: float | None = None
        self.finished: list[Transition] = []  # what ended since the last `read`
        self.today = DayCost(int(wall() // _DAY_S), wall())

    def __len__(self) -> int:
        return len(self._kept)

    def newest(self, count: int | None = None) -> list[Transition]:
        """The newest decisions, newest first."""
        found = sorted(self._kept.values(), key=lambda pair: -pair[0].created_s)
        return found[:count]

    def since(self, at_s: float) -> Iterator[Transition]:
        """Decisions whose end was at or after `at_s`."""
        return (pair for pair in self._kept.values() if pair[1] is not None and pair[1].finished_s >= at_s)

    def find(self, decision_id: str) -> Transition | None:
        """A decision that is at hand."""
        return self._kept.get(decision_id)

    async def read(self) -> int:
        """Take up new decisions and new ends; returns how many. Raises what the table raised."""
        self.finished = []
        changed = await self._read_new() + await self._read_ends()
        while len(self._kept) > self._most:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._open.pop(oldest, None)
        return changed

    async def _read_new(self) -> int:
        if self._after_s is None:
            self._after_s = await self._table.start_of_newest(self._most)
            self._begin_day(max(self._after_s, 0.0))
        count = 0
        while True:
            page = await self._table.transitions(self._after_s, _PAGE)
            new = [pair for pair in page if pair[0].decision_id not in self._kept]
            for pair in new:
                self._take(pair)
            count += len(new)
            if page:
                self._after_s = page[-1][0].created_s
            if len(page) < _PAGE:
                self._after_s = min(self._after_s, self._wall() - _OVERLAP_S)
                return count

    async def _read_ends(self) -> int:
        now_s = self._wall()
        self._open = {one: at_s for one, at_s in self._open.items() if now_s - at_s < _OPEN_S}
        asked = list(self._open)[-_MOST_OPEN:]
        if not asked:
            return 0
        ended = [pair for pair in await self._table.transitions_of(asked) if pair[1] is not None]
        for pair in ended:
            self._take(pair)
        return len(ended)

    def _take(self, pair: Transition) -> None:
        decision, outcome = pair
        self._kept[decision.decision_id] = msgspec.structs.replace(decision, features=b"", text=None), outcome
        if outcome is None:
            self._open[decision.decision_id] = decision.created_s
            return
        self._open.pop(decision.decision_id, None)
        self.finished.append((decision, outcome))
        if int(outcome.finished_s // _DAY_S) > self.today.day:
            self._begin_day(outcome.finished_s // _DAY_S * _DAY_S)
        if int(outcome.finished_s // _DAY_S) == self.today.day:
            self.today.add(decision, outcome)

    def _begin_day(self, since_s: float) -> None:
        day = int(self._wall() // _DAY_S)
        self.today = DayCost(day, max(day * _DAY_S, since_s))
