"""The endpoint itself: what each route does, without knowing Serve or how bytes reach it."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from deployments.dispatch.dispatched import Dispatched
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import NoModelError
from deployments.dispatch.request import DispatchRequest, UnknownModelError
from deployments.records.records import DecisionRecord, OutcomeRecord
from policies.outcome import Status
from policies.profile import UnknownProfileError, is_auto
from serve_app.access.feedback_tokens import FeedbackTokens
from serve_app.access.keys import Key, KeyRing
from serve_app.access.limits import Limiter
from serve_app.body.calls import Call, Calls
from serve_app.body.preferences import Preferences, take
from serve_app.body.strict_json import Body, parse
from serve_app.config import IngressSettings
from serve_app.http.errors import (
    ApiError,
    bad_request,
    forbidden,
    model_not_allowed,
    model_not_found,
    overloaded,
    profile_not_found,
    unauthorized,
)
from serve_app.http.request import Request, Send, send_json
from serve_app.metrics import IngressMetrics
from serve_app.routes import models
from serve_app.routes.refusals import refusal
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.job import Job
from serve_app.upstream.outgoing import check_fits
from serve_app.upstream.replicas import TablePort

logger = logging.getLogger("ray.serve")

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
_RETRY_LATER_S = 1.0


class Endpoint:
    """One ingress replica's routes over a dispatcher, a forwarder and its copy of the table."""

    def __init__(
        self,
        view: TablePort,
        dispatcher: Dispatcher,
        forwarder: Forwarder,
        keys: KeyRing,
        settings: IngressSettings,
        metrics: IngressMetrics,
        *,
        max_in_flight: int = 2048,
    ) -> None:
        self.view = view
        self.dispatcher = dispatcher
        self.forwarder = forwarder
        self.keys = keys
        self.limiter = Limiter()
        self.active = 0
        self.calls = Calls(settings.caps)
        self.settings = settings
        self._max_in_flight = max_in_flight
        self._metrics = metrics
        self._tokens: tuple[str, FeedbackTokens] | None = None

    def reconfigure(self, settings: IngressSettings) -> None:
        """Take new settings at once; requests in flight keep what they began with."""
        self.dispatcher.reconfigure(settings.dispatch)
        self.forwarder.reconfigure(settings)
        self.calls = Calls(settings.caps)
        self.settings = settings

    @property
    def feedback_tokens(self) -> FeedbackTokens | None:
        """Signs votes with the pool's secret; None before the table gave it."""
        secret = self.view.secret
        if not secret:
            return None
        if self._tokens is None or self._tokens[0] != secret:
            self._tokens = (secret, FeedbackTokens(secret))
        return self._tokens[1]

    @property
    def is_ready(self) -> bool:
        """Whether the table was heard and at least one model can answer."""
        return any(self.forwarder.usable(model) for model in self.view.snapshot.models)

    def authorize(self, request: Request, role: str) -> Key:
        """The caller's key. Raises ApiError (401, 403)."""
        key = self.keys.find(request.headers.get(b"authorization"))
        if key is None:
            raise unauthorized()
        if role not in key.roles:
            raise forbidden(role)
        return key

    async def models(self, request: Request, send: Send) -> None:
        """GET /v1/models and /v1/models/{id}."""
        key = self.authorize(request, "infer")
        profiles, allowed = self.settings.dispatch.profiles, key.limits.models
        name = request.path.removeprefix("/v1/models").strip("/")
        if name:
            body = models.one(self.view.snapshot, profiles, allowed, name)
        else:
            body = models.listing(self.view.snapshot, profiles, allowed)
        await send_json(send, body)

    async def explain(self, request: Request, send: Send) -> None:
        """POST /v1/dispatch/explain: the candidates for this body, nothing generated."""
        key = self.authorize(request, "infer")
        request.require_json()
        body = parse(request.body)
        call = self.calls.completion(body) if "prompt" in body else self.calls.chat(body)
        wishes = take(call, request.headers)
        asked = self._asked(key, call, wishes, _new_id())
        try:
            explained = self.dispatcher.explained(asked)
        except (UnknownModelError, UnknownProfileError) as error:
            raise self._unknown(call.model, error) from None
        await send_json(send, explained)

    async def generate(self, request: Request, build: Callable[[Body], Call], send: Send) -> None:
        """POST to a model: parse, admit, dispatch, forward, record."""
        began_s = asyncio.get_running_loop().time()
        try:
            key, call, wishes = self._admit(request, build)
            expected = (call.prompt_tokens or len(call.text) // 4) + (call.max_tokens or 0)
            self.limiter.enter(key, expected)
        except ApiError as error:
            self._metrics.refused("", _OPERATIONS[request.path], error.code or "")
            raise
        self.active += 1
        job: Job | None = None
        cost_usd = 0.0
        try:
            job = self._dispatch(request, key, call, wishes, began_s)
            await self.forwarder.run(job, send)
        except ApiError as error:
            if job is not None:
                _blame(job, error)
            else:
                self._metrics.refused(call.model, _OPERATIONS[call.path], error.code or "")
            raise
        except asyncio.CancelledError:
            if job is not None and job.result.status is not Status.OK:
                job.result.status, job.result.error_code = Status.CANCELLED, "client_left"
            raise
        finally:
            self.active -= 1
            if job is not None:
                cost_usd = self._record(job)
            used = job.result.prompt_tokens + job.result.output_tokens if job is not None else 0
            self.limiter.leave(key, expected, used, cost_usd)

    def _admit(self, request: Request, build: Callable[[Body], Call]) -> tuple[Key, Call, Preferences]:
        """Who asks for what. Raises ApiError for a caller or a body that is not let in."""
        key = self.authorize(request, "infer")
        request.require_json()
        if self.active >= self._max_in_flight:
            message = f"This ingress already has {self.active} requests."
            raise overloaded(message, "overloaded", _RETRY_LATER_S)
        call = build(parse(request.body))
        return key, call, take(call, request.headers)

    def _dispatch(self, request: Request, key: Key, call: Call, wishes: Preferences, began_s: float) -> Job:
        """Choose a model and log the choice. Raises ApiError."""
        decision_id = _new_id()
        asked = self._asked(key, call, wishes, decision_id)
        models = self.view.snapshot.models
        named = not is_auto(call.model)
        if named and call.model in models:
            check_fits(call, models[call.model].card)
        try:
            dispatched = self.dispatcher.dispatch(asked)
        except (UnknownModelError, UnknownProfileError) as error:
            raise self._unknown(call.model, error) from None
        except NoModelError as error:
            raise refusal(
                error, call.model, {m: row.card.context_tokens for m, row in models.items()}
            ) from None
        self._log_soon(dispatched.record)
        limit_s = self.settings.deadlines.request_s
        if wishes.deadline_s is not None:
            limit_s = min(limit_s, wishes.deadline_s)
        chosen = dispatched.decision.model
        return Job(
            call=call,
            raw=request.body,
            decision_id=decision_id,
            models=(chosen,) if named else (chosen, *dispatched.ranking),
            named=named,
            began_s=began_s,
            limit_s=limit_s,
            defaults=dispatched.profile.generation_defaults,
            cache_salt=key.cache_salt,
            headers=self._headers(key, dispatched),
        )

    def _log_soon(self, record: DecisionRecord) -> None:
        """Log the choice two turns of the loop from now: in the first the request goes to the engine."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._log, record)

    def _log(self, record: DecisionRecord) -> None:
        self.view.record_decision(record)
        self._metrics.decided(record)

    def _asked(self, key: Key, call: Call, wishes: Preferences, decision_id: str) -> DispatchRequest:
        """The request as dispatch reads it. Raises ApiError for models the caller may not or cannot mean."""
        allowed = key.limits.models
        if wishes.models is not None:
            for model in wishes.models:
                if model not in self.view.snapshot.models:
                    raise bad_request(
                        f"Model '{model[:64]}' is not served.", "fastserve.models", "model_not_found"
                    )
            allowed = tuple(m for m in wishes.models if allowed is None or m in allowed)
        if allowed is not None and not is_auto(call.model) and call.model not in allowed:
            raise model_not_allowed(call.model)
        return DispatchRequest(
            decision_id=decision_id,
            requested=call.model,
            text=call.text,
            turns=call.turns,
            max_tokens=self._binding(call),
            needs=call.needs,
            weights=wishes.weights,
            allowed=allowed,
            max_latency_s=wishes.max_latency_s,
            max_cost_usd=wishes.max_cost_usd,
            key_id=key.key_id,
            session=wishes.session,
            prompt_tokens=call.prompt_tokens,
            structured=bool(call.needs & {"json", "tools"}),
        )

    def _binding(self, call: Call) -> int | None:
        """`max_tokens` where it can bind: at or over the longest context it never does."""
        if call.max_tokens is None:
            return None
        rows = self.view.snapshot.models
        row = rows.get(call.model)
        longest = (
            row.card.context_tokens if row else max((r.card.context_tokens for r in rows.values()), default=0)
        )
        return call.max_tokens if call.max_tokens < longest else None

    def _headers(self, key: Key, dispatched: Dispatched) -> list[tuple[bytes, bytes]]:
        decision_id = dispatched.record.decision_id
        headers = [
            (b"x-fastserve-decision-id", decision_id.encode()),
            (b"x-fastserve-policy", str(dispatched.decision.decider).encode()),
        ]
        tokens = self.feedback_tokens if self.settings.feedback_tokens else None
        if tokens is not None:
            headers.append((b"x-fastserve-feedback-token", tokens.issue(decision_id, key.key_id).encode()))
        if self.view.lagging:
            headers.append((b"x-fastserve-degraded", b"table"))
        return headers

    def _record(self, job: Job) -> float:
        """Take the outcome to the log; returns its cost in dollars."""
        result = job.result
        loop_s, wall_s = asyncio.get_running_loop().time(), time.time()
        row = self.view.snapshot.models.get(result.model)
        cost_usd = 0.0
        if row is not None:
            cost_usd = 1e-6 * (
                result.prompt_tokens * row.card.prompt_usd_per_mtok
                + result.output_tokens * row.card.completion_usd_per_mtok
            )
        record = OutcomeRecord(
            decision_id=job.decision_id,
            finished_s=wall_s,
            model=result.model or job.models[0],
            replica=result.replica,
            outcome=result.outcome(job.began_s, loop_s, cost_usd),
            fallbacks=tuple(result.fallbacks),
            ingress_s=None if result.sent_s is None else result.sent_s - job.began_s,
        )
        self.view.record_outcome(record)
        self.dispatcher.finished(record)
        self._metrics.finished(record, job.call.model, _OPERATIONS[job.call.path])
        return cost_usd

    def _unknown(self, model: str, error: UnknownModelError | UnknownProfileError) -> ApiError:
        if isinstance(error, UnknownProfileError):
            return profile_not_found(error.name, error.known)
        return model_not_found(model, error.served)


def _blame(job: Job, error: ApiError) -> None:
    """Whose fault an answer without a first byte is."""
    job.result.error_code = job.result.error_code or error.code
    if error.status < 500:
        job.result.status = Status.REJECTED
    job.result.http_status = error.status
    error.headers.setdefault("x-fastserve-decision-id", job.decision_id)
    if job.result.fallbacks:
        error.headers.setdefault("x-fastserve-fallbacks", ",".join(job.result.fallbacks))


def _new_id() -> str:
    return f"d-{secrets.token_hex(16)}"
