"""One round of evaluation: asks what is still missing, grades it, and writes each answer down once."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from deployments.evaluation.client import Answer, TransientError
from deployments.evaluation.pace import Pace
from deployments.logger import get_logger
from deployments.records.records import EvaluationRecord
from deployments.records.snapshot import ModelCard
from deployments.suites import graders
from deployments.suites.item import Item
from deployments.suites.suite import Suite
from deployments.table.api import TableApi
from policies.prompt.features import extract, pack

logger = get_logger(__name__)

BATCH: Final = 16
FLUSH_S: Final = 1.0
WAIT_S: Final = 0.1  # between looks whether a model may be asked
BACKOFF_S: Final = (0.5, 10.0)
MAX_STORED_CHARACTERS: Final = 4000


class Asker(Protocol):
    """Whoever can ask a model: deployments.evaluation.client.EvaluationClient."""

    async def ask(self, model: str, item: Item) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One question still to ask."""

    suite: str
    suite_revision: str
    item: Item
    model: str
    model_revision: str


@dataclass(slots=True)
class Progress:
    """How far a round is. `left` counts, by model, what had to be left for the next round."""

    planned: int = 0
    done: int = 0
    asked: int = 0  # requests, repeats included
    gave_way: int = 0  # requests cut off for users
    left: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)  # model -> why it waits


def missing(
    suites: Iterable[Suite],
    cards: Mapping[str, ModelCard],
    revision_of: Callable[[ModelCard], str],
    records: Iterable[EvaluationRecord],
) -> list[Job]:
    """What was not asked yet, item by item so that a part of it is paired; never-asked models' first.

    Items that this machine cannot grade are left out, see `ungradable`.
    """
    done = {(r.suite, r.suite_revision, r.item, r.model, r.model_revision) for r in records}
    known = {(suite, revision, model, model_revision) for suite, revision, _, model, model_revision in done}
    jobs = []
    for suite in suites:
        for item in (item for item in suite.items if not graders.refusal(item)):
            for name, card in cards.items():
                job = Job(suite.name, suite.revision, item, name, revision_of(card))
                if (job.suite, job.suite_revision, item.id, name, job.model_revision) not in done:
                    jobs.append(job)
    return sorted(jobs, key=lambda j: (j.suite, j.suite_revision, j.model, j.model_revision) in known)


def ungradable(suites: Iterable[Suite]) -> list[str]:
    """One sentence for each suite with items that this machine cannot grade."""
    sentences = []
    for suite in suites:
        refusals = [reason for item in suite.items if (reason := graders.refusal(item))]
        if refusals:
            sentences.append(f"Suite '{suite.name}': {len(refusals)} items are not asked. {refusals[0]}")
    return sentences


def affordable(jobs: Sequence[Job], cards: Mapping[str, ModelCard], tokens: float, usd: float) -> list[Job]:
    """The longest beginning of `jobs` whose highest possible use stays within both budgets."""
    taken: list[Job] = []
    for job in jobs:
        size = expected_tokens(job.item)
        tokens -= sum(size)
        usd -= cards[job.model].cost_usd(*size)
        if tokens < 0 or usd < 0:
            break
        taken.append(job)
    return taken


def expected_tokens(item: Item) -> tuple[int, int]:
    """Prompt tokens (a generous estimate: half a token a character) and the most output tokens."""
    return sum(len(str(message["content"])) for message in item.messages) // 2 + 16, item.max_tokens


class EvaluationRun:
    """Works through jobs with a few requests at once per model; see `run`."""

    def __init__(
        self,
        table: TableApi,
        client: Asker,
        cards: Mapping[str, ModelCard],
        pace: Pace,
        give_up_s: float = 300.0,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.progress = Progress()
        self._table, self._client, self._cards, self._pace = table, client, cards, pace
        self._give_up_s = give_up_s
        self._on_progress = on_progress
        self._graded: list[EvaluationRecord] = []
        self._grading = asyncio.Semaphore(2)
        self._written = asyncio.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Ask nothing more; `run` returns when what is under way is answered and recorded."""
        self._stopped = True

    async def run(self, jobs: Sequence[Job]) -> Progress:
        """Ask, grade and record all jobs; returns when each is in the table or its model was given up.

        Raises EvaluationError where the key is refused, and what the table raised if it stays away for
        longer than `give_up_s`. What is recorded stays recorded: the next run asks only for the rest.
        """
        self.progress.planned = len(jobs)
        queues: dict[str, deque[Job]] = {}
        for job in jobs:
            queues.setdefault(job.model, deque()).append(job)
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write())
            asking = [
                group.create_task(self._ask_model(model, queue))
                for model, queue in queues.items()
                for _ in range(self._pace.settings.concurrency)
            ]
            await asyncio.gather(*asking)
            writer.cancel()
        await self._flush()
        return self.progress

    async def _ask_model(self, model: str, queue: deque[Job]) -> None:
        """One of a model's askers. A model that gives no answer for `give_up_s` is left for later."""
        alive_s, backoff_s = time.monotonic(), BACKOFF_S[0]
        while queue and not self._stopped:
            reason = self._pace.why_not(model)
            if reason is not None:
                self.progress.reasons[model] = reason
                if reason == "users":
                    alive_s = time.monotonic()  # waiting for users is no fault of the model
                elif time.monotonic() - alive_s > self._give_up_s:
                    return self._leave(model, queue)
                await asyncio.sleep(WAIT_S)
                continue
            self.progress.reasons.pop(model, None)
            job = queue.popleft()
            try:
                answer = await self._ask(job)
            except TransientError as error:
                queue.appendleft(job)
                self.progress.reasons[model] = str(error)
                if time.monotonic() - alive_s > self._give_up_s:
                    return self._leave(model, queue)
                await asyncio.sleep(max(error.retry_after_s, backoff_s))
                backoff_s = min(2 * backoff_s, BACKOFF_S[1])
                continue
            alive_s, backoff_s = time.monotonic(), BACKOFF_S[0]
            if answer is None:
                queue.appendleft(job)
            else:
                await self._grade(job, answer)

    async def _ask(self, job: Job) -> Answer | None:
        """The answer; None where users came and the request gave way."""
        self.progress.asked += 1
        self._pace.begin(job.model)
        asking = asyncio.create_task(self._client.ask(job.model, job.item))
        try:
            while True:
                await asyncio.wait([asking], timeout=WAIT_S)
                if asking.done():
                    return asking.result()
                if self._pace.settings.give_way and self._pace.why_not(job.model) == "users":
                    self.progress.gave_way += 1
                    return None
        finally:
            asking.cancel()
            self._pace.end(job.model)

    def _leave(self, model: str, queue: deque[Job]) -> None:
        self.progress.left[model] += len(queue)
        reason = self.progress.reasons.get(model, "no answer")
        logger.warning("Evaluation leaves %d items of '%s' for later: %s", len(queue), model, reason)
        queue.clear()

    async def _grade(self, job: Job, answer: Answer) -> None:
        async with self._grading:
            record = await asyncio.to_thread(evaluation_record, job, answer, self._cards[job.model])
        self._graded.append(record)
        if len(self._graded) >= BATCH:
            await self._flush()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        """Records what is graded. The table may be away for a while; recording twice counts once."""
        started_s, backoff_s = time.monotonic(), BACKOFF_S[0]
        async with self._written:
            while self._graded:
                batch = self._graded[:BATCH]
                try:
                    await asyncio.shield(self._table.record_evaluations(batch))
                except Exception as error:  # table unreachable: keep the graded answers, retry
                    if time.monotonic() - started_s > self._give_up_s:
                        raise
                    logger.warning("Table does not take evaluations (%d kept): %s", len(self._graded), error)
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_S[1])
                    continue
                del self._graded[: len(batch)]
                self.progress.done += len(batch)
                self._on_progress(self.progress)


def evaluation_record(job: Job, answer: Answer, card: ModelCard) -> EvaluationRecord:
    """The graded answer. An item that the endpoint refuses for this model counts 0."""
    item = job.item
    grade = graders.grade(item, answer.text)
    question = "\n".join(str(message["content"]) for message in item.messages)
    return EvaluationRecord(
        suite=job.suite,
        suite_revision=job.suite_revision,
        item=item.id,
        task=item.task,
        profile=item.profile,
        model=job.model,
        model_revision=job.model_revision,
        score=grade.score,
        squared_error=grade.squared_error,
        features=pack(extract(question, turns=len(item.messages))),
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        ttft_s=answer.ttft_s,
        tpot_s=answer.tpot_s,
        e2e_s=answer.e2e_s,
        cost_usd=card.cost_usd(answer.prompt_tokens, answer.output_tokens),
        error=answer.error,
        finished_s=time.time(),
        language=item.language,
        answer=answer.text[:MAX_STORED_CHARACTERS].encode("utf-8", "replace").decode(),
    )
