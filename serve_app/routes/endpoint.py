"""The endpoint itself: a request from its key to its outcome, without knowing Serve or how bytes reach it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Container, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import orjson

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import Preferences, Prompt
from deployments.dispatch.tokenizers import Tokenizers
from deployments.keys.entries import Role
from deployments.keys.key import Key
from deployments.records.decision_id import REQUEST_HEADER, request_name
from deployments.records.leases import accounts_of
from deployments.steady_clock import wall_s
from policies.outcome import Status
from policies.profile import is_auto, selected_profile
from serve_app.access.feedback_tokens import FeedbackTokens
from serve_app.access.keys import KeyRing
from serve_app.access.limits import Budgets, Limiter, Reservation
from serve_app.access.prices import dollar_limit
from serve_app.body.calls import Call, Calls
from serve_app.body.preferences import take
from serve_app.body.strict_json import parse
from serve_app.config import IngressSettings
from serve_app.http.errors import (
    ApiError,
    forbidden,
    keys_unavailable,
    overloaded,
    unauthorized,
)
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.chooser import Chooser
from serve_app.routes.report import Reporter
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.job import Job, Result, Trace
from serve_app.upstream.replicas import PoolView

_OF_THE_MODEL = frozenset({402, 404})  # what an upstream says of its account and of its models
_RETRY_LATER_S = 1.0
_CHAT = "/v1/chat/completions"
_REQUEST = REQUEST_HEADER.encode()
_PAUSE_S = 0.05  # between two looks at replicas that have fallen silent
_WAKE_PAUSE_S = 0.2  # the same for a model that wakes, which takes longer


class RequestTrace(Trace, Protocol):
    """The trace of one request as the endpoint sees it."""

    async def dispatched(self, choosing: Awaitable[Job], requested: str) -> Job:
        """The choice of a model, in a span of its own."""


class Tracer(Protocol):
    """serve_app.tracing.Tracing, which is imported only where it is switched on."""

    def request(self, path: str, headers: Mapping[bytes, bytes]) -> AbstractContextManager[RequestTrace]:
        """The span of one HTTP request."""


class Grading(Protocol):
    """serve_app.grading.Grader, as the endpoint knows it."""

    def offer(self, job: Job) -> None:
        """A request that has ended."""


class Endpoint:
    """One ingress replica's way of a request over a dispatcher, a forwarder and its copy of the table."""

    def __init__(
        self,
        view: PoolView,
        dispatcher: Dispatcher,
        forwarder: Forwarder,
        keys: KeyRing,
        settings: IngressSettings,
        reporter: Reporter,
        limiter: Limiter,
        *,
        max_in_flight: int = 2048,
        configured: Container[str] = frozenset(),
    ) -> None:
        """`configured` holds the models that the pool is to have, cold ones included."""
        self.view = view
        self.dispatcher = dispatcher
        self.forwarder = forwarder
        self.keys = keys
        self.limiter = limiter
        self.tokenizers = Tokenizers()
        self.active = 0  # requests under way
        self._active: Counter[str] = Counter()  # the same by key
        self.calls = Calls(settings.caps)
        self.settings = settings
        self.tracing: Tracer | None = None
        self.grader: Grading | None = None
        self.configured = configured
        self._chooser = Chooser(dispatcher, view.ingress, configured)
        self._reporter = reporter
        self._max_in_flight = max_in_flight
        self._tokens: tuple[str, FeedbackTokens] | None = None

    def reconfigure(self, settings: IngressSettings) -> None:
        """Take new settings at once; requests in flight keep what they began with."""
        self._reporter.reconfigure(settings)  # first: it is the only one that may refuse
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
        """Whether the table was heard and at least one model can answer, be it that it wakes for that."""
        rows = self.view.snapshot.models.items()
        return any(row.ready_in_s > 0.0 or self.forwarder.usable(model) for model, row in rows)

    def authorize(self, request: Request, *roles: Role) -> Key:
        """The caller's key, which has one of `roles`. Raises ApiError (401, 403, 503)."""
        key = self.keys.find(request.credential)
        if key is None:
            raise keys_unavailable() if self.keys.problem else unauthorized()
        if key.roles.isdisjoint(roles):
            raise forbidden(roles)
        return key

    def admit(self, request: Request, *roles: Role) -> Key:
        """The key of one who may send a body, by the head alone. Raises ApiError (401, 403, 429)."""
        key: Key | None = None
        try:
            key = self.authorize(request, *roles)
            self._require_room(key)
        except ApiError as error:
            self._reporter.refused(request.path, error, key)
            raise
        return key

    async def explain(self, request: Request, send: Send) -> None:
        """POST /v1/dispatch/explain: the candidates for this body, nothing generated; counts as a request."""
        key = self.authorize(request, "infer", "read")
        request.require_json()
        reservation = await self.limiter.enter(key, 0)
        try:
            body = parse(request.body)
            is_text = body.get("prompt") is not None
            call = self.calls.completion(body) if is_text else self.calls.chat(body)
            preferences = take(call, request.headers)
            call.model = self._chooser.real_name(key, call.model)
            call.prompt = await self._counted(call)
            dispatch = self._chooser.explain(key, call, preferences, self._dollar_limit(key, call))
        finally:
            self.limiter.settle(reservation, 0, 0.0)
        await send_json(send, dispatch.explanation())

    async def generate(self, request: Request, send: Send) -> None:
        """POST to a model: parse, admit, dispatch, forward, record."""
        if self.tracing is None:
            await self._generate(request, send, None)
            return
        with self.tracing.request(request.path, request.headers) as trace:
            await self._generate(request, send, trace)

    async def ask(self, key: Key, body: dict[str, Any]) -> Any:
        """A chat that the pool itself asks, as from any caller but by a key that nobody holds; its JSON.

        Raises ApiError.
        """
        parts: list[bytes] = []

        async def keep(message: dict[str, Any]) -> None:
            parts.append(message.get("body", b""))

        await self._generate(Request("POST", _CHAT, {}, orjson.dumps(body)), keep, None, key)
        return orjson.loads(b"".join(parts))

    async def _generate(
        self, request: Request, send: Send, trace: RequestTrace | None, own: Key | None = None
    ) -> None:
        began_s = asyncio.get_running_loop().time()
        key = own
        try:
            key = key or self.authorize(request, "infer")
            call, preferences = self._read(request, key)
            reservation = await self._reserve(key, call, request_name(request.headers.get(_REQUEST)))
        except ApiError as error:
            self._reporter.refused(request.path, error, key)
            raise
        self.active += 1
        self._active[key.key_id] += 1
        job: Job | None = None
        try:
            call.prompt = await self._counted(call)
            choosing = self._chosen(request, reservation, call, preferences, began_s)
            job = await (choosing if trace is None else trace.dispatched(choosing, call.model))
            job.trace = trace
            await self.forwarder.run(job, send)
        except ApiError as error:
            if job is not None:
                _blame(job, error)
            else:
                self._reporter.refused(call.path, error, key, call.model)
            raise
        except asyncio.CancelledError:
            if job is not None and job.result.status is not Status.OK:
                job.result.status, job.result.error_code = Status.CANCELLED, "client_left"
            raise
        finally:
            self._ended(key)
            self._settle(job, reservation)

    async def _counted(self, call: Call) -> Prompt:
        """The prompt with its tokens, where they decide which models can take it."""
        chat = call.body if call.path == _CHAT else None
        return await self.tokenizers.counted(self.view.snapshot, call.model, call.prompt, chat)

    async def _reserve(self, key: Key, call: Call, name: str) -> Reservation:
        """Take the part of the key's limits of the request `name`. Raises ApiError (429, 503)."""
        profile = selected_profile(call.model) if is_auto(call.model) else ""
        tokens = call.prompt.estimated_tokens + (call.prompt.max_tokens or 0)
        budgets = self._budgets(key, profile)
        try:
            accounts = accounts_of(key.key_id, key.team, profile)
            return await self.limiter.enter(key, tokens, accounts, budgets, name)
        except ApiError as error:
            error.headers |= self._told(key, budgets)
            raise

    def _dollar_limit(self, key: Key, call: Call) -> str:
        profile = selected_profile(call.model) if is_auto(call.model) else ""
        return dollar_limit(key, self.settings, profile)

    def _budgets(self, key: Key, profile: str) -> Budgets:
        """All that limits the dollars of a request, by account."""
        team, settings = self.settings.teams.get(key.team), self.settings.dispatch.profiles.get(profile)
        found = {
            f"key:{key.key_id}": key.limits.dollars,
            f"team:{key.team}": team.budget if team is not None else None,
            f"profile:{profile}": settings.budget if settings is not None else None,
        }
        return tuple((account, budget) for account, budget in found.items() if budget is not None)

    def _told(self, key: Key, budgets: Budgets) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.limiter.headers(key, budgets)}

    def _settle(self, job: Job | None, reservation: Reservation) -> None:
        """Record the outcome, and charge the key for what it used: nothing where it was refused."""
        outcome = self._reporter.finished(job).outcome if job is not None else None
        if job is not None and self.grader is not None:
            self.grader.offer(job)
        if job is not None and job.result.fallbacks and job.result.model:
            self.dispatcher.answered(job.dispatch, job.result.model)
        used = outcome.prompt_tokens + outcome.output_tokens if outcome is not None else 0
        if outcome is None or (outcome.status is Status.REJECTED and not used):
            self.limiter.refund(reservation)
        else:
            self.limiter.settle(reservation, used, outcome.cost_usd)

    def _read(self, request: Request, key: Key) -> tuple[Call, Preferences]:
        """What is asked for. Raises ApiError for a body that is not let in."""
        request.require_json()
        self._require_room(key)
        call = self.calls.build(request.path, parse(request.body))
        call.model = self._chooser.real_name(key, call.model)
        return call, take(call, request.headers)

    def _require_room(self, key: Key) -> None:
        """Raises ApiError (429) where there are too many requests, unless the key has less than its part."""
        if self.active < self._max_in_flight:
            return
        own = self._active[key.key_id]
        if (own + 1) * (len(self._active) + (not own)) > self._max_in_flight:
            message = f"This ingress already has {self.active} requests, {own} of this key."
            raise overloaded(message, "overloaded", _RETRY_LATER_S)

    def _ended(self, key: Key) -> None:
        self.active -= 1
        self._active[key.key_id] -= 1
        if not self._active[key.key_id]:
            del self._active[key.key_id]

    async def _chosen(
        self, request: Request, reservation: Reservation, call: Call, preferences: Preferences, began_s: float
    ) -> Job:
        """The job, once a replica may take it: one that fell silent may only pause, one that sleeps wakes.

        Raises ApiError.
        """
        limit_s = preferences.deadline_s or self.settings.deadlines.request_s
        while True:
            try:
                return await self._job(request, reservation, call, preferences, began_s)
            except ApiError as error:
                waited_s = asyncio.get_running_loop().time() - began_s
                if not error.may_pass:
                    raise
                if not self._may_wait(error, call.model, waited_s, limit_s):
                    self._unserved(reservation.key, call, preferences, error)
                    raise
                pause_s = _WAKE_PAUSE_S if error.ready_in_s else _PAUSE_S
            await asyncio.sleep(pause_s)

    def _unserved(self, key: Key, call: Call, preferences: Preferences, error: ApiError) -> None:
        """No model was there for a request in time."""
        if is_auto(call.model) and self._reporter.keeps_shed:
            record = self._chooser.unserved(key, call, preferences, self._dollar_limit(key, call))
            self._reporter.shed(record, error)

    def _may_wait(self, error: ApiError, model: str, waited_s: float, limit_s: float) -> bool:
        """Whether a request goes on waiting for a replica, having waited so long of at most `limit_s`."""
        deadlines = self.settings.deadlines
        if error.ready_in_s:
            least_s = waited_s if waited_s > _PAUSE_S else error.ready_in_s  # who waits does so to the end
            return least_s < min(deadlines.wake_s, limit_s)
        return waited_s < min(deadlines.silent_s, limit_s) and self.forwarder.may_come_back(model)

    async def _afford(self, reservation: Reservation, dispatch: Dispatch) -> None:
        """Reserve the cost, before anything is sent. Raises ApiError (429, 503)."""
        prompt = dispatch.request.prompt
        card = self.view.snapshot.models[dispatch.decision.model].card
        limit = card.context_tokens if prompt.max_tokens is None else prompt.max_tokens
        output = min(limit, card.context_tokens)
        most_usd = card.cost_usd(prompt.estimated_tokens, output)
        try:
            await self.limiter.afford(reservation, dispatch.predicted_cost_usd, most_usd)
        except BaseException as error:
            self.dispatcher.settlement.withdraw(dispatch, wall_s())
            if isinstance(error, ApiError):
                error.headers |= self._told(reservation.key, reservation.budgets)
            raise

    async def _job(
        self,
        request: Request,
        reservation: Reservation,
        call: Call,
        preferences: Preferences,
        began_s: float,
    ) -> Job:
        """Choose a model and log the choice. Raises ApiError."""
        key = reservation.key
        try:
            limit = self._dollar_limit(key, call)
            dispatch = self._chooser.dispatch(key, call, preferences, limit, reservation.request)
        except ApiError as error:
            said = self.forwarder.refusal(call.model) if error.status == 503 else None
            raise said or error from None
        await self._afford(reservation, dispatch)
        limit_s = self.settings.deadlines.request_s
        if preferences.deadline_s is not None:
            limit_s = min(limit_s, preferences.deadline_s)
        job = Job(
            call=call,
            raw=request.body,
            dispatch=dispatch,
            began_s=began_s,
            limit_s=limit_s,
            key=key,
            headers=self._headers(reservation, dispatch),
            result=Result(fallbacks=list(dispatch.passed_over)),
        )
        try:
            self.forwarder.enter(job)
        except ApiError as error:
            self.dispatcher.settlement.withdraw(dispatch, wall_s())
            self._reporter.shed(dispatch.record, error)
            raise
        self._reporter.decided_soon(dispatch.record)
        return job

    def _headers(self, reservation: Reservation, dispatch: Dispatch) -> list[tuple[bytes, bytes]]:
        key = reservation.key
        decision_id = dispatch.request.decision_id
        headers = [
            (b"x-fastserve-decision-id", decision_id.encode()),
            (b"x-fastserve-policy", str(dispatch.decider).encode()),
        ]
        tokens = self.feedback_tokens if self.settings.feedback_tokens else None
        if tokens is not None:
            headers.append((b"x-fastserve-feedback-token", tokens.issue(decision_id, key.key_id).encode()))
        if self.view.lagging:
            headers.append((b"x-fastserve-degraded", b"table"))
        return headers + self.limiter.headers(key, reservation.budgets)


def _blame(job: Job, error: ApiError) -> None:
    """Whose fault an answer without a first byte is."""
    job.result.error_code = job.result.error_code or error.code
    if error.status < 500 and error.status not in _OF_THE_MODEL:
        job.result.status = Status.REJECTED
    job.result.http_status = error.status
    error.headers.setdefault("x-fastserve-decision-id", job.decision_id)
    if job.result.fallbacks:
        error.headers.setdefault("x-fastserve-fallbacks", ",".join(job.result.fallbacks))
