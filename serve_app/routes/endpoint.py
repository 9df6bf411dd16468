"""The endpoint itself: a request from its key to its outcome, without knowing Serve or how bytes reach it."""

import asyncio
from collections.abc import Callable

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import Preferences
from deployments.dispatch.tokenizers import Tokenizers
from policies.outcome import Status
from serve_app.access.feedback_tokens import FeedbackTokens
from serve_app.access.keys import Key, KeyRing, Role
from serve_app.access.limits import Limiter, Reservation
from serve_app.body.calls import Call, Calls
from serve_app.body.preferences import take
from serve_app.body.strict_json import Body, parse
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError, forbidden, overloaded, unauthorized
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.chooser import Chooser
from serve_app.routes.report import Reporter
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.job import Job
from serve_app.upstream.replicas import PoolView

_OF_THE_MODEL = frozenset({402, 404})  # what an upstream says of its account and of its models
_RETRY_LATER_S = 1.0


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
        *,
        max_in_flight: int = 2048,
    ) -> None:
        self.view = view
        self.dispatcher = dispatcher
        self.forwarder = forwarder
        self.keys = keys
        self.limiter = Limiter()
        self.tokenizers = Tokenizers()
        self.active = 0
        self.calls = Calls(settings.caps)
        self.settings = settings
        self._chooser = Chooser(dispatcher)
        self._reporter = reporter
        self._max_in_flight = max_in_flight
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

    def authorize(self, request: Request, *roles: Role) -> Key:
        """The caller's key, which has one of `roles`. Raises ApiError (401, 403)."""
        key = self.keys.find(request.headers.get(b"authorization"))
        if key is None:
            raise unauthorized()
        if key.roles.isdisjoint(roles):
            raise forbidden(roles)
        return key

    async def explain(self, request: Request, send: Send) -> None:
        """POST /v1/dispatch/explain: the candidates for this body, nothing generated."""
        key = self.authorize(request, "infer", "read")
        request.require_json()
        body = parse(request.body)
        call = self.calls.completion(body) if "prompt" in body else self.calls.chat(body)
        preferences = take(call, request.headers)
        call.prompt = await self.tokenizers.counted(self.view.snapshot, call.model, call.prompt)
        dispatch = self._chooser.explain(key, call, preferences)
        await send_json(send, dispatch.explanation())

    async def generate(self, request: Request, build: Callable[[Body], Call], send: Send) -> None:
        """POST to a model: parse, admit, dispatch, forward, record."""
        began_s = asyncio.get_running_loop().time()
        try:
            key, call, preferences = self._admit(request, build)
            reservation = self._reserve(key, call)
        except ApiError as error:
            self._reporter.refused("", request.path, error.code)
            raise
        self.active += 1
        job: Job | None = None
        try:
            call.prompt = await self.tokenizers.counted(self.view.snapshot, call.model, call.prompt)
            job = self._job(request, reservation, call, preferences, began_s)
            await self.forwarder.run(job, send)
        except ApiError as error:
            if job is not None:
                _blame(job, error)
            else:
                self._reporter.refused(call.model, call.path, error.code)
            raise
        except asyncio.CancelledError:
            if job is not None and job.result.status is not Status.OK:
                job.result.status, job.result.error_code = Status.CANCELLED, "client_left"
            raise
        finally:
            self.active -= 1
            self._settle(job, reservation)

    def _reserve(self, key: Key, call: Call) -> Reservation:
        """Take the request's part of the key's limits. Raises ApiError (429)."""
        try:
            return self.limiter.enter(key, call.prompt.estimated_tokens + (call.prompt.max_tokens or 0))
        except ApiError as error:
            error.headers |= {n.decode(): value.decode() for n, value in self.limiter.headers(key)}
            raise

    def _settle(self, job: Job | None, reservation: Reservation) -> None:
        """Record the outcome, and charge the key for what it used: nothing where it was refused."""
        outcome = self._reporter.finished(job).outcome if job is not None else None
        used = outcome.prompt_tokens + outcome.output_tokens if outcome is not None else 0
        if outcome is None or (outcome.status is Status.REJECTED and not used):
            self.limiter.refund(reservation)
        else:
            self.limiter.settle(reservation, used, outcome.cost_usd)

    def _admit(self, request: Request, build: Callable[[Body], Call]) -> tuple[Key, Call, Preferences]:
        """Who sends what. Raises ApiError for a caller or a body that is not let in."""
        key = self.authorize(request, "infer")
        request.require_json()
        if self.active >= self._max_in_flight:
            message = f"This ingress already has {self.active} requests."
            raise overloaded(message, "overloaded", _RETRY_LATER_S)
        call = build(parse(request.body))
        return key, call, take(call, request.headers)

    def _job(
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
            dispatch = self._chooser.dispatch(key, call, preferences)
        except ApiError as error:
            said = self.forwarder.refusal(call.model) if error.status == 503 else None
            raise said or error from None
        self.limiter.expect(reservation, dispatch.predicted_cost_usd)
        self._reporter.decided_soon(dispatch.record)
        limit_s = self.settings.deadlines.request_s
        if preferences.deadline_s is not None:
            limit_s = min(limit_s, preferences.deadline_s)
        return Job(
            call=call,
            raw=request.body,
            dispatch=dispatch,
            began_s=began_s,
            limit_s=limit_s,
            cache_salt=key.cache_salt,
            headers=self._headers(key, dispatch),
        )

    def _headers(self, key: Key, dispatch: Dispatch) -> list[tuple[bytes, bytes]]:
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
        return headers + self.limiter.headers(key)


def _blame(job: Job, error: ApiError) -> None:
    """Whose fault an answer without a first byte is."""
    job.result.error_code = job.result.error_code or error.code
    if error.status < 500 and error.status not in _OF_THE_MODEL:
        job.result.status = Status.REJECTED
    job.result.http_status = error.status
    error.headers.setdefault("x-fastserve-decision-id", job.decision_id)
    if job.result.fallbacks:
        error.headers.setdefault("x-fastserve-fallbacks", ",".join(job.result.fallbacks))
