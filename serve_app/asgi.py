"""The ASGI app: routes, methods, and the one place where an exception becomes an answer."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from deployments.keys.entries import ALL_ROLES, Role
from deployments.logger import get_logger
from deployments.records.operation import OPERATIONS
from deployments.table.api import TableApi
from serve_app.body.anthropic_answer import error_body
from serve_app.http.admission import ADMISSION, Admitted
from serve_app.http.cors import App, Cors
from serve_app.http.errors import ApiError, internal_error, not_found, unavailable, wrong_method
from serve_app.http.guard import require_mark
from serve_app.http.request import (
    Receive,
    Request,
    Send,
    read_body,
    send_error,
    send_json,
)
from serve_app.routes.endpoint import Endpoint
from serve_app.routes.feedback import MOST_BYTES, TOKEN_HEADER, FeedbackApi
from serve_app.routes.models import ModelsApi
from serve_app.routes.not_offered import not_offered
from serve_app.routes.openapi import description
from serve_app.routes.tokens import TokensApi
from serve_app.routes.usage import UsageApi

logger = get_logger(__name__)

_NO_BODY_BYTES: Final = 65_536  # of a request that needs no body
_LONGEST_SLIP: Final = 64  # characters of a path that are compared with those that are served
_LIKE: Final = 0.85  # how like one it must be, as difflib counts
_EXPLAIN: Final = "/v1/dispatch/explain"
_FEEDBACK: Final = "/v1/feedback"
_ROLES: Final[Mapping[str, tuple[Role, ...]]] = {_EXPLAIN: ("infer", "read"), _FEEDBACK: ("feedback",)}

Handler = Callable[[Request, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


def create_app(endpoint: Endpoint, table: TableApi, start: Hook, stop: Hook, *, guarded: bool = True) -> App:
    """The app over an endpoint. `start` and `stop` are its lifespan; `guarded` demands the guard's mark."""
    router = Router(endpoint, table)
    ADMISSION.ask(router.admit, _shaped)

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _serve(router, scope, receive, send, guarded)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send, start, stop)

    return Cors(app)


class Router:
    """Paths and methods to handlers."""

    def __init__(self, endpoint: Endpoint, table: TableApi) -> None:
        self.endpoint = endpoint
        feedback = FeedbackApi(endpoint, table)
        self._models = models = ModelsApi(endpoint)
        tokens = TokensApi(endpoint)
        self._routes: dict[str, tuple[str, Handler]] = {
            **{path: ("POST", endpoint.generate) for path in OPERATIONS},
            "/v1/messages/count_tokens": ("POST", tokens.count),
            "/tokenize": ("POST", tokens.tokenize),
            "/detokenize": ("POST", tokens.detokenize),
            _EXPLAIN: ("POST", endpoint.explain),
            _FEEDBACK: ("POST", feedback.vote),
            "/v1/models": ("GET", models.get),
            "/v1/usage": ("GET", UsageApi(endpoint, table).get),
            "/openapi.json": ("GET", self._openapi),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
        }

    def find(self, request: Request) -> Handler:
        """The handler of a request; HEAD is answered where GET is. Raises ApiError (404, 405)."""
        path = request.path
        found = self._routes.get(path)
        if found is None and path.startswith("/v1/models/"):
            found = ("GET", self._models.get)
        if found is None:
            raise not_offered(path) or not_found(path, meant_path(path, self._routes))
        method, handler = found
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if request.method not in allowed:
            raise wrong_method(request.method, allowed)
        return handler

    def admit(self, request: Request) -> Admitted:
        """Who may send a body, by the head of a request. Raises ApiError (401, 403, 404, 405, 429)."""
        self.find(request)
        path = request.path
        if request.method != "POST":
            return Admitted("", _NO_BODY_BYTES)
        if path == _FEEDBACK and TOKEN_HEADER in request.headers:
            return Admitted("votes by token", MOST_BYTES)
        key = self.endpoint.admit(request, *_ROLES.get(path, ("infer",)))
        return Admitted(key.key_id, MOST_BYTES if path == _FEEDBACK else 0)

    async def _openapi(self, request: Request, send: Send) -> None:
        self.endpoint.authorize(request, *ALL_ROLES)
        served = [(path, method) for path, (method, _) in self._routes.items()]
        await send_json(send, description([*served, ("/v1/models/{model}", "GET")], self.endpoint.calls))

    async def _health(self, request: Request, send: Send) -> None:
        await send_json(send, {"status": "ok"})

    async def _ready(self, request: Request, send: Send) -> None:
        if not self.endpoint.is_ready:
            raise unavailable("No model can answer yet.", "not_ready")
        await send_json(send, {"status": "ready"})


async def _serve(router: Router, scope: dict[str, Any], receive: Receive, send: Send, guarded: bool) -> None:
    request = Request(scope["method"], scope["path"], dict(scope["headers"]))
    answer = _Answer(send, has_body=request.method != "HEAD")
    try:
        if guarded:
            require_mark(request.headers)
        handler = router.find(request)
        if request.method == "POST":
            request.body = await read_body(receive)
        await handler(request, answer)
    except ApiError as error:
        await _send_error(answer, error, request)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # a defect of ours: the caller gets our shape, the log gets the trace
        logger.exception("Request to '%s' failed: %s", request.path[:200], type(error).__name__)
        if answer.started:
            raise
        await _send_error(answer, internal_error(), request)


async def _send_error(answer: Send, error: ApiError, request: Request) -> None:
    await send_error(answer, error, body=_shaped(request.path, error))


def _shaped(path: str, error: ApiError) -> bytes:
    """An error as the API of the path has it."""
    return error_body(error) if path.startswith("/v1/messages") else error.body()


class _Answer:
    """A `send` that knows whether the head is out, and that leaves out the body of an answer to HEAD."""

    __slots__ = ("_has_body", "_send", "started")

    def __init__(self, send: Send, has_body: bool) -> None:
        self._send = send
        self._has_body = has_body
        self.started = False

    def __call__(self, message: dict[str, Any]) -> Awaitable[None]:
        self.started = True
        if not self._has_body and message["type"] == "http.response.body":
            message["body"] = b""
        return self._send(message)


def meant_path(path: str, served: Iterable[str]) -> str:
    """The served path that a client with a wrong base URL, stray slashes or a slip means; "" without one."""
    words = [word for word in path.lower().split("/") if word]
    for known in sorted(served, key=len, reverse=True):
        tail = [word for word in known.split("/") if word and word != "v1"]
        if tail and words[-len(tail) :] == tail:
            return known
    tidy = "/" + "/".join(words)[:_LONGEST_SLIP]
    return next(iter(difflib.get_close_matches(tidy, served, 1, _LIKE)), "")


async def _lifespan(receive: Receive, send: Send, start: Hook, stop: Hook) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except Exception as error:  # Serve must see that the replica cannot start, with the reason
                logger.exception("The ingress cannot start.")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
