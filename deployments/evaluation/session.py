"""One evaluation from outside the cluster's own evaluator: as the command and the benchmarks run it."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from deployments.background import Background
from deployments.evaluation.client import EvaluationClient
from deployments.evaluation.endpoint import live_endpoint
from deployments.evaluation.pace import Pace
from deployments.evaluation.resource_use import ResourceUse
from deployments.evaluation.run import EvaluationRun, Progress, missing
from deployments.evaluation.settings import PaceSettings
from deployments.records.records import EvaluationRecord
from deployments.records.snapshot import ModelCard
from deployments.suites.suite import Suite
from deployments.table.api import TableApi
from deployments.table.follow import Follower


class UnknownModelError(ValueError):
    """A model that the pool does not have."""


@dataclass(slots=True)
class Session:
    """What to ask, whom, and how; `models` None is every model that can chat."""

    table: TableApi
    url: str | None  # without /v1; None is any live ingress replica
    key: str
    suites: Sequence[Suite]
    models: Sequence[str] | None = None
    pace: PaceSettings = field(default_factory=PaceSettings)
    again: bool = False  # ask also what was answered before
    give_up_s: float = 120.0
    use: ResourceUse = field(default_factory=ResourceUse)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.pace)

    async def run(self, on_progress: Callable[[Progress], None]) -> tuple[Progress, list[EvaluationRecord]]:
        """Ask what is missing; returns how far it came, and all answers to these suites by these models.

        Raises UnknownModelError, and what EvaluationRun raises.
        """
        pace = self._pace
        async with self._watched(pace):
            cards = self._cards(pace)
            suffix = f"@{time.time():.0f}" if self.again else ""

            def revision(card: ModelCard) -> str:
                return card.revision + suffix

            jobs = missing(self.suites, cards, revision, await self.table.evaluations(None, None))
            client = EvaluationClient(lambda: live_endpoint(self.url, pace.snapshot), self.key)
            run = EvaluationRun(self.table, client, cards, pace, self.give_up_s, on_progress)
            run.progress.planned = len(jobs)
            on_progress(run.progress)
            try:
                progress = await run.run(jobs)
            finally:
                await client.close()
        wanted = {(suite.name, suite.revision) for suite in self.suites}
        revisions = {(name, revision(card)) for name, card in cards.items()}
        records = [
            r
            for r in await self.table.evaluations(None, None)
            if (r.suite, r.suite_revision) in wanted and (r.model, r.model_revision) in revisions
        ]
        return progress, records

    def _cards(self, pace: Pace) -> dict[str, ModelCard]:
        rows = pace.snapshot.models if pace.snapshot is not None else {}
        able = {name: row.card for name, row in rows.items() if "chat" in row.card.capabilities}
        unknown = [name for name in self.models or () if name not in able]
        if unknown:
            served = ", ".join(f"'{name}'" for name in able)
            raise UnknownModelError(
                f"Model '{unknown[0]}' is not in the pool. In the pool: {served or 'none'}."
            )
        if not able:
            raise UnknownModelError("The pool has no model that can chat.")
        return {name: card for name, card in able.items() if self.models is None or name in self.models}

    @contextlib.asynccontextmanager
    async def _watched(self, pace: Pace) -> AsyncIterator[None]:
        """The pace follows the table's snapshots meanwhile; the first one is there before this begins."""
        follower = Follower(self.table)

        async def follow() -> None:
            snapshot = await follower.next()
            pace.see(snapshot)
            self.use.see(snapshot)

        await follow()
        background = Background("evaluation")
        background.repeat("snapshots", follow)
        try:
            yield
        finally:
            await background.close()
