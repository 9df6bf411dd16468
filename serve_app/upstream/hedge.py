"""A second try beside one that is late, at another replica of its model: the first token wins."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from deployments.logger import get_logger
from deployments.records.snapshot import ModelRow, ReplicaRow
from policies.observation import E2E_S, TTFT_S
from serve_app.http.errors import ApiError
from serve_app.metrics import IngressMetrics
from serve_app.upstream.attempt import Attempt
from serve_app.upstream.choice import Ask
from serve_app.upstream.failures import OUTRUN, ContextExceededError, OutrunError, TryFailedError
from serve_app.upstream.job import Job
from serve_app.upstream.lateness import Kind, Lateness
from serve_app.upstream.losses import Losses
from serve_app.upstream.replicas import PoolView, Upstreams
from serve_app.upstream.retry_budget import RetryBudget
from serve_app.upstream.transcript import Tokens
from serve_app.upstream.try_plan import TryPlan
from serve_app.waiting.room import Place, WaitingRoom

logger = get_logger(__name__)

AGAIN_S: Final = 0.1  # between two looks at a try that is late
_HEARD_S: Final = 0.4  # a replica with an older report may stand still, whatever it said


@dataclass(frozen=True, slots=True)
class Course:
    """What all tries of one request have in common.

    `attempt` makes a try at a replica, `run` runs it and raises as it fails, `failed` is told of one that
    failed beside another.
    """

    job: Job
    ask: Ask
    plan: TryPlan
    attempt: Callable[[ReplicaRow], Attempt]
    run: Callable[[Attempt], Coroutine[Any, Any, None]]
    failed: Callable[[ReplicaRow, TryFailedError], None]


class Hedges:
    """Which tries may have another one beside them, when, and where."""

    def __init__(
        self,
        view: PoolView,
        upstreams: Upstreams,
        room: WaitingRoom,
        budget: RetryBudget,
        losses: Losses,
        metrics: IngressMetrics,
    ) -> None:
        self.view, self.upstreams, self.metrics = view, upstreams, metrics
        self.lateness = Lateness()
        self._room, self._budget, self._losses = room, budget, losses

    def kind(self, course: Course, model: ModelRow) -> Kind | None:
        """What a try at `model` is compared with; None where no other may run beside it.

        What an engine keeps may not be made twice, and an endpoint elsewhere, which every replica asks alike,
        would be paid twice.
        """
        job = course.job
        if not self._budget.settings.hedging or not course.plan.may_repeat or job.priority == "batch":
            return None
        if len(model.replicas) < 2 or model.card.engine == "openai" or job.call.body.get("store"):
            return None
        return model.card.model, job.call.path, job.call.stream

    def limit_s(self, kind: Kind, course: Course) -> float:
        """How long a try may take, to its first token or to the end of a plain answer, before it is late."""
        return self.lateness.limit_s(kind, _predicted_s(kind, course.job))

    def second(self, kind: Kind, course: Course, first: Attempt) -> tuple[ReplicaRow, Place] | None:
        """Where another try may begin now, with its place; None where it is no use, or nothing is free."""
        job = course.job
        ends_s = asyncio.get_running_loop().time() + _predicted_s(kind, job)
        if ends_s >= job.deadline_s or not self._budget.has_room_to_hedge or self._losses.count(job):
            return None
        if not job.call.stream and self._is_writing(first.row):
            return None
        if not self._room.has_slot(first.row.model):
            return None
        row = self.upstreams.pick_free(course.ask, first.row.model, course.plan.tried)
        if row is None:
            return None
        self._budget.hedge()
        return row, self._room.enter(job.visit(row.model))

    def _is_writing(self, row: ReplicaRow) -> bool:
        """Whether a replica works, so that a plain answer which is late may only be long."""
        return self.upstreams.is_writing(row) and row.replica not in self.upstreams.silent(_HEARD_S)


class Race:
    """The try at a replica, and once it is late another one beside it, at most."""

    def __init__(self, hedges: Hedges, course: Course, row: ReplicaRow) -> None:
        self._hedges, self._course = hedges, course
        self._first = course.attempt(row)
        self._first.race = self
        self._second: Attempt | None = None
        self._model = hedges.view.snapshot.models[row.model]
        self._kind = hedges.kind(course, self._model)
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None
        self._winner: Attempt | None = None
        self._place: Place | None = None  # of the second try
        self._task: asyncio.Task[bool] | None = None  # the same

    async def run(self) -> None:
        """Until one of the tries has answered. Raises as the first try fails."""
        job, row = self._course.job, self._first.row
        job.result.sent_to(row.model, row.replica)
        if self._kind is not None:
            self._wait(self._hedges.limit_s(self._kind, self._course))
        try:
            await self._course.run(self._first)
        except OutrunError:
            await self.answered()
        except asyncio.CancelledError:
            if not job.result.http_status:
                job.result.count(self._in_vain(self._first))
            raise
        finally:
            self._stop_waiting()

    async def answered(self) -> bool:
        """Whether the second try, where there is one, answers after all."""
        return self._task is not None and await self._task

    def close(self) -> None:
        """End what still runs: the request is over."""
        self._stop_waiting()
        self._first.race = None  # no circle of references is left
        second, task = self._second, self._task
        if second is None or task is None or task.done():
            return
        if self._winner is None:
            self._count(second, "left")
        task.cancel()

    def won(self, attempt: Attempt) -> None:
        """A try has its first token. Raises OutrunError where the other one was first."""
        if self._winner is not None:
            raise OutrunError
        self._winner = attempt
        self._stop_waiting()
        if self._kind is not None and not self._is_late:
            self._hedges.lateness.was(self._kind, late=False)
        if attempt is self._second:
            self._take_over(attempt)
        elif self._second is not None and not self._second.is_over:
            self._outrun(self._second, "lost")

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The first try is late: send another one, or look again soon."""
        course, kind = self._course, self._kind
        assert kind is not None, "it may have another one beside it"
        if not self._is_late:
            self._is_late = True
            self._hedges.lateness.was(kind, late=True)
        found = self._hedges.second(kind, course, self._first)
        if found is None:
            self._wait(AGAIN_S)
            return
        self._timer = None
        row, place = found
        course.plan.tried.add(row.replica)
        course.job.result.hedges += 1
        self._second, self._place = course.attempt(row), place
        self._second.race = self
        self._task = asyncio.create_task(self._beside(self._second), name="hedge")
        self._task.add_done_callback(lambda _: self._leave(place))

    async def _beside(self, attempt: Attempt) -> bool:
        """Run the second try; whether it answered."""
        if attempt.reason:  # outrun before it began
            return False
        try:
            await self._course.run(attempt)
        except (OutrunError, ApiError):  # what is wrong with the request, the first one is told too
            return False
        except TryFailedError as error:
            self._hedges.metrics.hedged(attempt.row.model, "failed")
            if not isinstance(error, ContextExceededError):
                self._course.failed(attempt.row, error)
            return False
        return True

    def _take_over(self, attempt: Attempt) -> None:
        """The second try answers: the request is at its replica now, and holds its slot."""
        job, place = self._course.job, self._place
        job.result.replica = attempt.row.replica
        if job.place is not None:
            job.place.leave()
        job.place = place
        if self._first.is_over:  # it has failed meanwhile, and was judged for that
            self._hedges.metrics.hedged(attempt.row.model, "won")
            return
        self._outrun(self._first, "won")
        late = self._first.row
        out = self._hedges.upstreams.ejections.failed(late.replica)
        logger.info(
            "'%s' was late at replica '%s' of '%s'%s: '%s' answers.",
            job.decision_id,
            late.replica,
            late.model,
            ", which is ejected" if out else "",
            attempt.row.replica,
        )

    def _outrun(self, loser: Attempt, result: str) -> None:
        loser.expire(OUTRUN, asyncio.get_running_loop().time())
        self._count(loser, result)

    def _count(self, loser: Attempt, result: str) -> None:
        """Note what a try has cost that gives no answer, and how the race ended."""
        tokens = self._in_vain(loser)
        self._course.job.result.hedged_tokens += tokens.prompt + tokens.output
        self._hedges.metrics.hedged(loser.row.model, result)

    def _in_vain(self, attempt: Attempt) -> Tokens:
        """What an engine has read, and written of a plain answer, that nobody got."""
        job, row = self._course.job, self._model
        prompt = job.dispatch.request.prompt
        writing_s = asyncio.get_running_loop().time() - attempt.since_s - row.ttft_s.p50
        if job.call.stream or not prompt.generates or not writing_s > 0 or not row.tpot_s.p50 > 0:
            return Tokens(job.prompt_tokens, 0, True)
        limit = row.card.context_tokens if prompt.max_tokens is None else prompt.max_tokens
        most = min(limit, row.card.context_tokens)
        return Tokens(job.prompt_tokens, min(int(writing_s / row.tpot_s.p50), most), True)

    def _leave(self, place: Place) -> None:
        """Give the second try's slot back, unless the request has it now, and gives it back itself."""
        if self._course.job.place is not place:
            place.leave()


def _predicted_s(kind: Kind, job: Job) -> float:
    """Seconds to the first token of a stream, to the end of a plain answer."""
    model, _, is_stream = kind
    dispatch = job.dispatch
    column = TTFT_S if is_stream else E2E_S
    return float(dispatch.observation.rows[dispatch.columns.index[model], column])
