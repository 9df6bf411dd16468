"""Sends a dispatched request to the pool: tries, deadlines, fallback before the first byte."""

import asyncio

import aiohttp

from deployments.dispatch.masks import PASSING
from deployments.logger import get_logger
from deployments.records.snapshot import ReplicaRow
from policies.outcome import Status
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError, deadline_exceeded, overloaded, unavailable
from serve_app.metrics import IngressMetrics
from serve_app.upstream.attempt import NEVER, Attempt, Watch
from serve_app.upstream.failures import ContextExceededError, TryFailedError, refused
from serve_app.upstream.job import Job
from serve_app.upstream.outgoing import has_default_limit, outgoing
from serve_app.upstream.relay import Send, StreamRelay, interrupt, whole
from serve_app.upstream.replicas import PoolView, Upstreams
from serve_app.upstream.retry_budget import RetryBudget
from serve_app.upstream.transcript import Tokens
from serve_app.upstream.try_plan import TryPlan

logger = get_logger(__name__)


class Forwarder:
    """The tries of all requests of one ingress."""

    def __init__(
        self, view: PoolView, upstreams: Upstreams, settings: IngressSettings, metrics: IngressMetrics
    ) -> None:
        self._view = view
        self._upstreams = upstreams
        self.watch = Watch(upstreams, lambda: self._settings.deadlines.silent_s)
        self.budget = RetryBudget(settings.retries)
        self._metrics = metrics
        self._settings = settings

    def reconfigure(self, settings: IngressSettings) -> None:
        """Take new deadlines and retry limits at once."""
        self._settings = settings
        self.budget.settings = settings.retries

    def usable(self, model: str) -> bool:
        """Whether a replica of `model` can be asked now."""
        return bool(self._upstreams.usable(model))

    def refusal(self, model: str) -> ApiError | None:
        """What the replicas of `model` said before they were left alone; None unless all said something."""
        ejections = self._upstreams.ejections
        said = [ejections.refusal(row.replica) for row in self._upstreams.usable(model)]
        return said[-1] if said and all(said) else None

    async def run(self, job: Job, send: Send) -> None:
        """Try until one replica answers, and relay its answer.

        Raises ApiError while nothing was sent, asyncio.CancelledError when the client leaves. What came
        of it stands in `job.result` either way.
        """
        self.budget.request()
        plan = TryPlan(job.dispatch, self._settings.retries.per_request + 1)
        failure: TryFailedError | None = None
        while (model := plan.next()) is not None:
            row = self._upstreams.pick(model, plan.tried)
            if row is None:
                continue
            if failure is not None and not self._may_go_on(job, failure):
                break
            if failure is not None:
                self._metrics.retried(row.model, failure.code)
            plan.tried.add(row.replica)
            try:
                await self._try(job, row, self._limit_s(job, plan), send)
                return
            except ContextExceededError as error:
                if self._leave_out_limit(job, row):
                    plan.again(row)
                    continue
                failure = error
                plan.too_short(model)
                self._go_on(job, row, error)
            except TryFailedError as error:
                failure = error
                plan.failed()
                self._blame(job, row, error)
        raise self._give_up(job, failure)

    def _may_go_on(self, job: Job, failure: TryFailedError) -> bool:
        """Whether there is time, and the pool can bear one more try: a prompt too long for one model is no
        sign of trouble, and costs no budget."""
        now_s = asyncio.get_running_loop().time()
        return now_s < job.deadline_s and (isinstance(failure, ContextExceededError) or self.budget.allow())

    async def _try(self, job: Job, row: ReplicaRow, limit_s: float, send: Send) -> None:
        loop = asyncio.get_running_loop()
        result, view = job.result, self._view
        result.attempts += 1
        result.model, result.replica = row.model, row.replica
        card = view.snapshot.models[row.model].card
        defaults = job.dispatch.profile.generation_defaults
        body = outgoing(job.call, job.raw, card, defaults, job.cache_salt, with_limit=job.with_limit)
        now_s = loop.time()
        if result.sent_s is None:
            result.sent_s = now_s
        view.begin(row.model, row.replica)
        attempt = None
        try:
            async with asyncio.timeout(None) as timer:
                attempt = Attempt(row, min(now_s + limit_s, job.deadline_s), timer)
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
        if job.call.stream or "embeddings" in prompt.needs or not writing_s > 0 or not row.tpot_s.p50 > 0:
            return Tokens(job.prompt_tokens, 0, True)
        most = min(prompt.max_tokens or row.card.context_tokens, row.card.context_tokens)
        return Tokens(job.prompt_tokens, min(int(writing_s / row.tpot_s.p50), most), True)

    def _limit_s(self, job: Job, plan: TryPlan) -> float:
        """How long the try may take: where no other could follow it, slow is better than nothing."""
        upstreams = self._upstreams
        avoided = plan.tried | upstreams.ejections.current()
        rows = (row for model in plan.others for row in upstreams.usable(model))
        if all(row.replica in avoided for row in rows):
            return NEVER
        deadlines = self._settings.deadlines
        return deadlines.first_byte_s if job.call.stream else deadlines.try_s

    async def _exchange(self, job: Job, attempt: Attempt, body: bytes, send: Send) -> None:
        """Send the request, relay the answer; the connection is closed unless the answer came to its end."""
        row = attempt.row
        try:
            response = await self._upstreams.post(row, job.call.path, body, job.decision_id)
        except aiohttp.ClientConnectorError:
            raise TryFailedError("unreachable", gone=True) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TryFailedError(f"broken:{type(error).__name__}") from None
        try:
            if response.status != 200:
                await self._refusal(row.model, response)
            if job.call.stream and response.content_type == "text/event-stream":
                await StreamRelay(attempt, response, job, self._settings.deadlines).run(send)
            else:
                await whole(response, job, send)
        finally:
            response.close()  # a no-op once the answer was read to its end; else the engine aborts
        if job.result.status is Status.OK:
            self._upstreams.ejections.succeeded(row.replica)
        elif job.result.status is Status.FAILED:
            self._upstreams.ejections.failed(row.replica)

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
            raise TryFailedError(reason, is_fault=not slow)
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

    def _go_on(self, job: Job, row: ReplicaRow, error: ContextExceededError) -> None:
        """The prompt is too long for a model, which is nobody's failure: another may have the room."""
        job.result.fallbacks.append(row.model)
        job.dispatch.too_short.append(row.model)
        job.result.error_code = error.code
        if not job.dispatch.is_named:
            self._metrics.fell_back(row.model, error.code)
        logger.info("'%s' is too long for '%s': %s", job.decision_id, row.model, error.refusal.message)

    def _blame(self, job: Job, row: ReplicaRow, error: TryFailedError) -> None:
        job.result.fallbacks.append(row.model)
        job.result.error_code = error.code
        if not job.dispatch.is_named:
            self._metrics.fell_back(row.model, error.code)
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
            result.status = Status.REJECTED
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
