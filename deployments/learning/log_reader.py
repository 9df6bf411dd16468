"""Reads the decision log forward: each request once, when its end is known and votes had time to come."""

from collections.abc import Collection, Mapping
from typing import Final

from deployments.learning.live_evidence import Finished, finished, votes_by_decision
from deployments.table.api import TableApi, Transition

PAGE: Final = 1_000
OPEN_S: Final = 900.0  # a decision without an outcome for so long will never have one


class LogReader:
    """Starts at `since_s` (creation of the decision); `fresh` gives what has ended since the last call."""

    def __init__(
        self, table: TableApi, since_s: float, target_s: float, settle_s: float, metrics: Collection[str]
    ) -> None:
        """Votes of `metrics` count, a request's end is known `settle_s` after it."""
        self.since_s = since_s
        self._table = table
        self._target_s = target_s
        self._settle_s = settle_s
        self._metrics = metrics
        self._after_s = since_s - 1e-3
        self._given: dict[str, float] = {}  # decision -> its creation, for those after the cursor

    @property
    def complete_s(self) -> float:
        """Every request that began until then has been given, or will never end."""
        return self._after_s

    async def fresh(self, now_s: float) -> list[Finished]:
        """Requests that ended, and were settled, since the last call, in order of their end."""
        ended: list[Transition] = []
        after_s, earliest_open_s = self._after_s, now_s
        while True:
            page = await self._table.transitions(after_s, PAGE)
            for record, result in page:
                after_s = max(after_s, record.created_s)
                if record.decision_id in self._given:
                    continue
                if result is not None and result.finished_s <= now_s - self._settle_s:
                    ended.append((record, result))
                    self._given[record.decision_id] = record.created_s
                elif result is not None or now_s - record.created_s < OPEN_S:
                    earliest_open_s = min(earliest_open_s, record.created_s)
            if len(page) < PAGE or after_s > now_s - self._settle_s:  # what began later is not settled
                break
        self._advance(min(after_s, earliest_open_s - 1e-3))
        return finished(ended, await self._votes(ended), self._target_s, with_shed=True)

    def _advance(self, after_s: float) -> None:
        self._after_s = max(self._after_s, after_s)
        self._given = {one: at_s for one, at_s in self._given.items() if at_s >= self._after_s}

    async def _votes(self, ended: list[Transition]) -> Mapping[str, float]:
        if not ended:
            return {}
        first_s = min(record.created_s for record, _ in ended)
        return votes_by_decision(await self._table.feedback_records(first_s), self._metrics)


async def newest(table: TableApi, after_s: float, limit: int) -> list[Transition]:
    """The newest `limit` decisions made after `after_s`, oldest first, read in pages."""
    after_s = max(after_s, await table.start_of_newest(limit))
    kept: list[Transition] = []
    while True:
        page = await table.transitions(after_s, PAGE)
        kept = (kept + page)[-limit:]
        if len(page) < PAGE:
            return kept
        after_s = page[-1][0].created_s
