"""Sends a dispatched request to the pool: tries, deadlines, fallback before the first byte."""

import asyncio
import contextlib
import math
from collections.abc import Mapping
from functools import partial

import aiohttp

from deployments.dispatch.masks import PASSING
from deployments.logger import get_logger
from deployments.records.operation import BACKLOG_HEADER
from deployments.records.snapshot import ReplicaRow, ReplicaState
from policies.observation import TTFT_S
from policies.outcome import Status
from policies.profile import is_auto
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError, deadline_exceeded, overloaded, unavailable
from serve_app.metrics import IngressMetrics
from serve_app.upstream.attempt import NEVER, Attempt, Watch
from serve_app.upstream.choice import Ask
from serve_app.upstream.failures import (
    OUTRUN,
    ContextExceededError,
    OutrunError,
    TryFailedError,
    refused,
)
from serve_app.upstream.hedge import Course, Hedges, Race
from serve_app.upstream.job import Job
from serve_app.upstream.losses import KEPT_S, MOST, Losses
from serve_app.upstream.outgoing import Outgoing
from serve_app.upstream.relay import Send, StreamRelay, interrupt, whole
from serve_app.upstream.replicas import PoolView, Upstreams
from serve_app.upstream.retry_budget import RetryBudget
from serve_app.upstream.try_plan import TryPlan
from serve_app.waiting.part import Parts
from serve_app.waiting.room import Place, RoomSettings, WaitingRoom

logger = get_logger(__name__)

_PATIENCE = 3.0  # times its predicted time the reading of a prompt may take


def _room_settings(settings: IngressSettings) -> RoomSettings:
    return RoomSettings(settings.dispatch.limits.in_flight_per_slot, settings.deadlines.silent_s)


class Forwarder:
    """The tries of all requests of one ingress."""

    def __init__(
        self, view: PoolView, upstreams: Upstreams, settings: IngressSettings, metrics: IngressMetrics
    ) -> None:
        self._view = view
        self._upstreams = upstreams
        self.watch = Watch(upstreams, lambda: self._settings.deadlines.silent_s)
        self.budget = RetryBudget(settings.retries)
        self.losses = Losses(upstreams.row)
        self._metrics = metrics
        self._settings = settings
        parts = Parts(view, upstreams.slots, upstreams.ejections.current)
        self.room = WaitingRoom(view, parts.of, metrics, _room_settings(settings))
        self._hedges = Hedges(view, upstreams, self.room, self.budget, self.losses, metrics)
        self._outgoing = Outgoing(metrics)

    def reconfigure(self, settings: IngressSettings) -> None:
        """Take new deadlines and retry limits at once."""
        self._settings = settings
        self.budget.settings = settings.retries
        self.room.settings = _room_settings(settings)

    def pick(self, model: str) -> ReplicaRow | None:
        """The replica of `model` to ask for what is no generation."""
        return self._upstreams.pick(model)

    async def post(self, row: ReplicaRow, path: str, body: bytes, name: str) -> aiohttp.ClientResponse:
        """One question to one replica, tried once. Raises aiohttp.ClientError or OSError."""
        return await self._upstreams.post(row, path, body, name)

    def usable(self, model: str) -> bool:
        """Whether a replica of `model` can be asked now."""
        return bool(self._upstreams.usable(model))

    def may_come_back(self, model: str) -> bool:
        """Whether a replica that was warm is still listed: of `model`, of any where it is not one's name."""
        models = self._view.snapshot.models
        named = (models[model],) if model in models else ()
        rows = models.values() if is_auto(model) else named
        return any(one.state is ReplicaState.WARM for row in rows for one in row.replicas)

    def refusal(self, model: str) -> ApiError | None:
        """What the replicas of `model` said before they were left alone; None unless all said something."""
        ejections = self._upstreams.ejections
        said = [ejections.refusal(row.replica) for row in self._upstreams.usable(model)]
        return said[-1] if said and all(said) else None

    def enter(self, job: Job) -> None:
        """Take a place at the chosen model. Raises ApiError (429) where no more requests may wait for it."""
        job.place = self.room.enter(job.visit(job.dispatch.decision.model))
        if job.priority == "batch":
            job.headers.append((b"x-fastserve-priority", b"batch"))

    async def run(self, job: Job, send: Send) -> None:
        """Try until one replica answers, and relay its answer.

        Raises ApiError while nothing was sent, asyncio.CancelledError when the client leaves. What came
        of it stands in `job.result` either way.
        """
        try:
            await self._tries(job, send)
        finally:
            if job.place is not None:
                job.place.leave()

    async def _tries(self, job: Job, send: Send) -> None:
        self.budget.request()
        self._hold_back(job)
        course = self._course(job, send)
        plan = course.plan
        while (model := plan.next()) is not None:
            place = self._placed(job, model, plan)
            if place is None:
                continue
            if plan.failure is not None and not self._may_go_on(job, plan.failure):
                break
            if place.in_line and not await self._has_waited(job, place):
                break
            choice = self._upstreams.pick_for(course.ask, model, plan.tried)
            if choice is None:
                continue
            if plan.failure is not None:
                self._metrics.retried(model, plan.failure.code)
            plan.tried.add(choice.row.replica)
            self._metrics.placed(model, choice.cached_share)
            if await self._is_answered(course, choice.row):
                return
        raise self._give_up(job, plan.failure)

    def _course(self, job: Job, send: Send) -> Course:
        plan = TryPlan(job.dispatch, self._settings.retries.per_request + 1)
        return Course(
            job,
            Ask(job.call.prompt, job.key.cache_salt, job.dispatch.columns),
            plan,
            partial(self._attempt, job, plan),
            partial(self._traced, job, send),
            partial(self._judge, job),
        )

    async def _is_answered(self, course: Course, row: ReplicaRow) -> bool:
        """Whether a replica answers, or another one beside it. Raises ApiError where none is to be asked."""
        race = Race(self._hedges, course, row)
        try:
            await race.run()
        except (TryFailedError, ApiError) as error:
            self._failed(course, row, error)
            return await race.answered()
        finally:
            race.close()
        return True

    def _failed(self, course: Course, row: ReplicaRow, error: TryFailedError | ApiError) -> None:
        """A try gave no answer: what follows from it. Raises ApiError where no other would give one."""
        job, plan, card = course.job, course.plan, self._view.snapshot.models[row.model].card
        if isinstance(error, ContextExceededError):
            if self._outgoing.leave_out_limit(job, card):
                return plan.again(row)
            plan.too_short(row.model)
            self._go_on(job, row, error)
        elif self._outgoing.leave_out_usage(job, card, error):
            return plan.again(row)
        elif isinstance(error, ApiError):
            raise error
        else:
            plan.failed()
            self._blame(job, row, error)
        plan.failure = error
        return None

    def _placed(self, job: Job, model: str, plan: TryPlan) -> Place | None:
        """The request's place at `model`, for which it gives up the one at the model before.

        None where no more may wait there, or no replica is left to try.
        """
        if plan.tried and self._upstreams.pick(model, plan.tried) is None:
            return None
        if job.place is not None and job.place.visit.model == model:
            return job.place
        if job.place is not None:
            job.place.leave()
            job.place = None
        with contextlib.suppress(ApiError):
            job.place = self.room.enter(job.visit(model))
        return job.place

    async def _has_waited(self, job: Job, place: Place) -> bool:
        """Wait for a slot; whether it came in time. Raises ApiError where another took the place."""
        try:
            job.result.waited_s += await place.wait()
        except TimeoutError:
            job.result.shed()
            return False
        except ApiError:
            job.result.shed()
            raise
        return True

    def _may_go_on(self, job: Job, failure: TryFailedError) -> bool:
        """Whether there is time, and the pool can bear one more try: a prompt too long for one model is no
        sign of trouble, and costs no budget."""
        now_s = asyncio.get_running_loop().time()
        if failure.lost:
            self._hold_back(job)
        return now_s < job.deadline_s and (isinstance(failure, ContextExceededError) or self.budget.allow())

    def _hold_back(self, job: Job) -> None:
        """Raises ApiError (503) for a prompt under which as many replicas were lost as one may take along."""
        if self.losses.count(job) < MOST:
            return
        if not job.result.attempts:
            job.result.status = Status.REJECTED  # no model had the chance to fail
        self._metrics.degraded("prompt held back")
        logger.warning("'%s' is held back: %d replicas were lost under its prompt.", job.decision_id, MOST)
        message = (
            f"{MOST} replicas were lost while they had this prompt. It is sent to no other one for "
            f"{KEPT_S:.0f} s."
        )
        raise unavailable(message, "prompt_held_back", may_retry=False)

    def _attempt(self, job: Job, plan: TryPlan, row: ReplicaRow) -> Attempt:
        now_s, limit_s = asyncio.get_running_loop().time(), self._limit_s(job, plan, row)
        attempt = Attempt(row, min(now_s + limit_s, job.deadline_s), since_s=now_s)
        attempt.is_bound = limit_s == NEVER
        return attempt

    async def _traced(self, job: Job, send: Send, attempt: Attempt) -> None:
        """A try, in a span of its own where the request is traced."""
        if job.trace is None:
            return await self._try(job, send, attempt)
        row = attempt.row
        with job.trace.attempt(row.model, row.replica, job.result, attempt.since_s):
            await self._try(job, send, attempt)

    async def _try(self, job: Job, send: Send, attempt: Attempt) -> None:
        row, card = attempt.row, self._view.snapshot.models[attempt.row.model].card
        body = self._outgoing.of(job, card)
        if job.result.sent_s is None:
            job.result.sent_s = asyncio.get_running_loop().time()
        self._view.begin(row.model, row.replica)
        try:
            async with asyncio.timeout(None) as attempt.timer:
                self.watch.attempts.add(attempt)
                await self._exchange(job, attempt, body, send)
        except TimeoutError:
            await self._timed_out(job, attempt, send)
        finally:
            attempt.is_over = True
            self.watch.attempts.discard(attempt)
            self._view.end(row.model, row.replica)

    def _limit_s(self, job: Job, plan: TryPlan, row: ReplicaRow) -> float:
        """How long the try may take, beyond what reading the prompt is predicted to take; where no other
        could follow it, slow is better than nothing."""
        upstreams = self._upstreams
        avoided = plan.tried | upstreams.ejections.current()
        rows = (row for model in plan.others for row in upstreams.usable(model))
        if all(row.replica in avoided for row in rows):
            return NEVER
        deadlines, dispatch = self._settings.deadlines, job.dispatch
        reading_s = float(dispatch.observation.rows[dispatch.columns.index[row.model], TTFT_S])
        limit_s = deadlines.first_byte_s if job.call.stream else deadlines.try_s
        return limit_s + _PATIENCE * max(reading_s, 0.0)

    async def _exchange(self, job: Job, attempt: Attempt, body: bytes, send: Send) -> None:
        """Send the request, relay the answer; the connection is closed unless the answer came to its end."""
        row = attempt.row
        try:
            more: Mapping[str, str] = self._backlog(row.model)
            if job.trace is not None:
                more = {**job.trace.headers, **more}
            response = await self._upstreams.post(row, job.call.path, body, job.decision_id, more)
        except aiohttp.ClientConnectorError:
            raise TryFailedError("unreachable", gone=True) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TryFailedError(f"broken:{type(error).__name__}", lost=True) from None
        try:
            if response.status != 200:
                await self._refusal(row.model, response)
            if job.call.stream and response.content_type == "text/event-stream":
                await StreamRelay(attempt, response, job, self._settings.deadlines).run(send)
            else:
                await whole(attempt, response, job, send)
        finally:
            response.close()  # a no-op once the answer was read to its end; else the engine aborts
        self._learn(job, row)

    def _learn(self, job: Job, row: ReplicaRow) -> None:
        """What an answer that has begun says of its replica and of its prompt."""
        if job.result.status is Status.OK:
            self._upstreams.ejections.succeeded(row.replica)
            self.losses.answered(job)
        elif job.result.status is Status.FAILED:
            self._upstreams.ejections.failed(row.replica)
            if ":broken" in (job.result.error_code or ""):
                self.losses.add(job, row)

    def _backlog(self, model: str) -> dict[str, str]:
        """Tells a replica how many requests wait for each like it: by that the model is scaled."""
        if not self.room.backlog(model):
            return {}
        replicas = max(len(self._upstreams.usable(model)), 1)
        beyond = self._view.in_flight(model) - self._upstreams.slots(model)
        return {BACKLOG_HEADER: str(max(math.ceil(beyond / replicas), 0))}

    async def _refusal(self, model: str, response: aiohttp.ClientResponse) -> None:
        """An answer that is no answer: the caller's fault is passed on, anything else is a failed try."""
        try:
            body = await response.read()
        except (aiohttp.ClientError, ConnectionError):
            body = b""
        raise refused(model, response.status, body, response.headers)

    async def _timed_out(self, job: Job, attempt: Attempt, send: Send) -> None:
        """A try that was ended. A client that does not read is left; nothing more can be told to it."""
        reason = attempt.reason or "timeout"
        if reason == OUTRUN:
            raise OutrunError
        if not attempt.has_begun:
            slow = reason == "timeout" and self._upstreams.is_writing(attempt.row)
            raise TryFailedError(reason, is_fault=not slow, lost=reason == "silent")
        if reason == "reader":
            job.result.status, job.result.error_code = Status.CANCELLED, "reader_stalled"
            return
        self._upstreams.ejections.failed(attempt.row.replica)
        await interrupt(job, send, reason)

    def _go_on(self, job: Job, row: ReplicaRow, error: ContextExceededError) -> None:
        """The prompt is too long for a model, which is nobody's failure: another may have the room."""
        job.result.fallbacks.append(row.model)
        job.dispatch.too_short.append(row.model)
        job.result.error_code = error.code
        self._count_fallback(job, row, error)
        logger.info("'%s' is too long for '%s': %s", job.decision_id, row.model, error.refusal.message)

    def _count_fallback(self, job: Job, row: ReplicaRow, error: TryFailedError) -> None:
        """Where another model may follow, which a named one without a chain never lets."""
        if len(job.dispatch.chain) != 1:
            self._metrics.fell_back(row.model, error.code)

    def _blame(self, job: Job, row: ReplicaRow, error: TryFailedError) -> None:
        job.result.fallbacks.append(row.model)
        job.result.error_code = error.code
        self._count_fallback(job, row, error)
        self._judge(job, row, error)

    def _judge(self, job: Job, row: ReplicaRow, error: TryFailedError) -> None:
        """What a try that failed says of its replica, and of the prompt."""
        if error.lost:
            self.losses.add(job, row, is_dead=error.dead)
        ejections = self._upstreams.ejections
        out = error.is_fault and ejections.failed(row.replica, gone=error.gone, refusal=error.refusal)
        if error.busy and error.retry_after_s:
            ejections.rest(row.replica, error.retry_after_s, error.refusal)
        logger.warning(
            "Try at replica '%s' of '%s' failed for '%s': %s%s",
            row.replica,
            row.model,
            job.decision_id,
            error.code,
            "; ejected" if out else "",
        )

    def _give_up(self, job: Job, failure: TryFailedError | None) -> ApiError:
        """No replica answered: what the client is told."""
        result = job.result
        if asyncio.get_running_loop().time() >= job.deadline_s:
            return deadline_exceeded(job.limit_s)
        if isinstance(failure, ContextExceededError):
            return self._too_long(job, failure)
        if failure is None:
            return unavailable(f"Model '{job.dispatch.decision.model}' has no healthy replica.")
        if failure.busy:
            result.shed()
        if job.dispatch.is_named and failure.refusal is not None:
            return failure.refusal
        if failure.busy:
            message = "All replicas that could answer are full."
            return overloaded(message, "overloaded", failure.retry_after_s)
        message = f"No replica answered after {result.attempts} tries."
        return unavailable(
            message, "upstream_failed", failure.retry_after_s, may_retry=not failure.is_lasting
        )

    def _too_long(self, job: Job, failure: ContextExceededError) -> ApiError:
        """Every model that was tried is too short. Where one with more room is away, waiting may help."""
        dispatch = job.dispatch
        columns, reasons = dispatch.columns, dispatch.reasons
        tried = max(columns.context_tokens[columns.index[model]] for model in dispatch.too_short)
        least = max(tried, dispatch.request.prompt.likely_tokens)
        for model, why in reasons.items():
            if why in PASSING and columns.context_tokens[columns.index[model]] > least:
                return unavailable(f"The prompt is too long for all models but '{model}', which is {why}.")
        job.result.status = Status.REJECTED
        return failure.refusal
