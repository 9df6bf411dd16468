"""Sends a dispatched request to the pool: tries, deadlines, fallback before the first byte."""

import asyncio
import contextlib
import math
from collections.abc import Mapping

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
from serve_app.upstream.failures import ContextExceededError, TryFailedError, refused, refuses_usage
from serve_app.upstream.job import Job
from serve_app.upstream.losses import KEPT_S, MOST, Losses
from serve_app.upstream.outgoing import has_default_limit, hides_usage, outgoing
from serve_app.upstream.relay import Send, StreamRelay, interrupt, whole
from serve_app.upstream.replicas import PoolView, Upstreams
from serve_app.upstream.retry_budget import RetryBudget
from serve_app.upstream.transcript import Tokens
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
        self._without_usage: set[tuple[str, str]] = set()  # model, revision: knows no `stream_options`

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
        ask = Ask(job.call.prompt, job.key.cache_salt, job.dispatch.columns)
        plan = TryPlan(job.dispatch, self._settings.retries.per_request + 1)
        failure: TryFailedError | None = None
        while (model := plan.next()) is not None:
            place = self._placed(job, model, plan)
            if place is None:
                continue
            if failure is not None and not self._may_go_on(job, failure):
                break
            if place.in_line and not await self._has_waited(job, place):
                break
            choice = self._upstreams.pick_for(ask, model, plan.tried)
            if choice is None:
                continue
            row = choice.row
            if failure is not None:
                self._metrics.retried(row.model, failure.code)
            plan.tried.add(row.replica)
            self._metrics.placed(model, choice.cached_share)
            try:
                await self._traced(job, row, self._limit_s(job, plan, row), send)
                return
            except ContextExceededError as error:
                if self._leave_out_limit(job, row):
                    plan.again(row)
                    continue
                failure = error
                plan.too_short(model)
                self._go_on(job, row, error)
            except (TryFailedError, ApiError) as error:
                if self._leave_out_usage(job, row, error):
                    plan.again(row)
                    continue
                if isinstance(error, ApiError):
                    raise
                failure = error
                plan.failed()
                self._blame(job, row, error)
        raise self._give_up(job, failure)

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

    async def _traced(self, job: Job, row: ReplicaRow, limit_s: float, send: Send) -> None:
        """A try, in a span of its own where the request is traced."""
        if job.trace is None:
            return await self._try(job, row, limit_s, send)
        now_s = asyncio.get_running_loop().time()
        with job.trace.attempt(row.model, row.replica, job.result, now_s):
            await self._try(job, row, limit_s, send)

    async def _try(self, job: Job, row: ReplicaRow, limit_s: float, send: Send) -> None:
        loop = asyncio.get_running_loop()
        result, view = job.result, self._view
        result.attempts += 1
        result.model, result.replica = row.model, row.replica
        card = view.snapshot.models[row.model].card
        defaults = job.dispatch.profile.generation_defaults
        with_usage = (card.model, card.revision) not in self._without_usage
        body = outgoing(
            job.call,
            job.raw,
            card,
            defaults,
            job.key.cache_salt,
            with_limit=job.with_limit,
            with_usage=with_usage,
        )
        now_s = loop.time()
        if result.sent_s is None:
            result.sent_s = now_s
        view.begin(row.model, row.replica)
        attempt = None
        try:
            async with asyncio.timeout(None) as timer:
                attempt = Attempt(row, min(now_s + limit_s, job.deadline_s), timer)
                attempt.is_bound = limit_s == NEVER
                self.watch.attempts.add(attempt)
                await self._exchange(job, attempt, body, send)
        except TimeoutError:
            await self._timed_out(job, attempt, send)
        except asyncio.CancelledError:
            if not result.http_status:
                result.count(self._abandoned(job, row.model, loop.time() - now_s))
            raise
        finally:
            if attempt is not None:
                self.watch.attempts.discard(attempt)
            view.end(row.model, row.replica)

    def _abandoned(self, job: Job, model: str, elapsed_s: float) -> Tokens:
        """The client left before any token: what the engine has read, and written for a plain answer."""
        row, prompt = self._view.snapshot.models[model], job.dispatch.request.prompt
        writing_s = elapsed_s - row.ttft_s.p50
        if job.call.stream or not prompt.generates or not writing_s > 0 or not row.tpot_s.p50 > 0:
            return Tokens(job.prompt_tokens, 0, True)
        limit = row.card.context_tokens if prompt.max_tokens is None else prompt.max_tokens
        most = min(limit, row.card.context_tokens)
        return Tokens(job.prompt_tokens, min(int(writing_s / row.tpot_s.p50), most), True)

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
                await whole(response, job, send)
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

    async def _timed_out(self, job: Job, attempt: Attempt | None, send: Send) -> None:
        """A try that the watch ended. A client that does not read is left; nothing more can be told to it."""
        reason = attempt.reason if attempt is not None else "timeout"
        if not job.result.http_status:
            slow = reason == "timeout" and self._is_writing(job.result.model, job.result.replica)
            raise TryFailedError(reason, is_fault=not slow, lost=reason == "silent")
        if reason == "reader":
            job.result.status, job.result.error_code = Status.CANCELLED, "reader_stalled"
            return
        self._upstreams.ejections.failed(job.result.replica)
        await interrupt(job, send, reason)

    def _is_writing(self, model: str, replica: str) -> bool:
        """Whether tokens come out of a replica: one that is slow is not broken."""
        rows = self._upstreams.usable(model)
        return any(row.replica == replica and row.tokens_per_s > 0 for row in rows)

    def _leave_out_limit(self, job: Job, row: ReplicaRow) -> bool:
        """Whether the prompt may fit without the default limit on the answer, left out in the next try."""
        card, defaults = self._view.snapshot.models[row.model].card, job.dispatch.profile.generation_defaults
        left_out = job.with_limit and has_default_limit(job.call, card, defaults)
        job.with_limit = not left_out
        return left_out

    def _leave_out_usage(self, job: Job, row: ReplicaRow, error: TryFailedError | ApiError) -> bool:
        """Whether the model may answer where it is not asked for usage; its tokens are counted here then."""
        refusal = error if isinstance(error, ApiError) else error.refusal
        card = self._view.snapshot.models[row.model].card
        name = (card.model, card.revision)
        if refusal is None or name in self._without_usage or not hides_usage(job.call):
            return False
        if not refuses_usage(refusal):
            return False
        self._without_usage.add(name)
        self._metrics.degraded("usage refused")
        logger.warning(
            "'%s' refuses 'stream_options', its tokens are estimated: %s", *name[:1], refusal.message
        )
        return True

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
