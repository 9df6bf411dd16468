"""The ASGI app: routes, methods, and the one place where an exception becomes an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from deployments.logger import get_logger
from deployments.table.api import TableApi
from serve_app.access.keys import ALL_ROLES
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
from serve_app.routes.feedback import FeedbackApi
from serve_app.routes.models import ModelsApi
from serve_app.routes.openapi import description
from serve_app.routes.usage import UsageApi

logger = get_logger(__name__)

Handler = Callable[[Request, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


def create_app(endpoint: Endpoint, table: TableApi, start: Hook, stop: Hook, *, guarded: bool = True) -> App:
    """The app over an endpoint. `start` and `stop` are its lifespan; `guarded` demands the guard's mark."""
    router = Router(endpoint, table)

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
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/completions": ("POST", self._completion),
            "/v1/responses": ("POST", self._response),
            "/v1/embeddings": ("POST", self._embedding),
            "/v1/dispatch/explain": ("POST", endpoint.explain),
            "/v1/feedback": ("POST", feedback.vote),
            "/v1/models": ("GET", models.get),
            "/v1/usage": ("GET", UsageApi(endpoint).get),
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
            raise not_found(path, meant_path(path, self._routes))
        method, handler = found
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if request.method not in allowed:
            raise wrong_method(request.method, allowed)
        return handler

    async def _chat(self, request: Request, send: Send) -> None:
        await self.endpoint.generate(request, self.endpoint.calls.chat, send)

    async def _completion(self, request: Request, send: Send) -> None:
        await self.endpoint.generate(request, self.endpoint.calls.completion, send)

    async def _response(self, request: Request, send: Send) -> None:
        await self.endpoint.generate(request, self.endpoint.calls.response, send)

    async def _embedding(self, request: Request, send: Send) -> None:
        await self.endpoint.generate(request, self.endpoint.calls.embedding, send)

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
        await send_error(answer, error)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # a defect of ours: the caller gets our shape, the log gets the trace
        logger.exception("Request to '%s' failed: %s", request.path[:200], type(error).__name__)
        if answer.started:
            raise
        await send_error(answer, internal_error())


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
    """The served path that a client with a wrong base URL or stray slashes means; empty without one."""
    words = [word for word in path.lower().split("/") if word]
    for known in sorted(served, key=len, reverse=True):
        tail = [word for word in known.split("/") if word and word != "v1"]
        if tail and words[-len(tail) :] == tail:
            return known
    return ""


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
