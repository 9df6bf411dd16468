"""The guard before the ingress: strips control headers, lets no body in that is too large or too slow.

Serve loads it through RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH into every HTTP server it makes: the ingress
replicas' own (HAProxy mode) and the Python proxy's. It stands outside of everything that counts or queues
requests, so half-open bodies hold nothing but their sockets. Bound to Ray 2.60.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.middleware import Middleware

from serve_app.http.errors import ApiError, bad_request, body_too_large, body_too_slow, unavailable
from serve_app.http.request import Receive, Send, send_error

HOOK_ENV = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HOOK = "serve_app.http.guard:middlewares"
BYTES_ENV = "FASTSERVE_BODY_BYTES"
SECONDS_ENV = "FASTSERVE_BODY_S"
DEFAULT_BYTES = 2 * 1024 * 1024
DEFAULT_S = 10.0

MARK = b"x-fastserve-guard"
_MARK_HEADER = (MARK, b"1")

# Headers by which any client could switch off Serve's timeouts and cancellation, or steer its routing.
_CONTROL = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"x-session-id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        MARK,
    }
)
_CONTROL_PREFIX = b"x-serve-"
_DISCARD_BYTES = 16 * 1024 * 1024
_TOO_LARGE = b"<too large>"

App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: App, max_bytes: int, max_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_s = max_s

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = clean(scope["headers"])
            body = await self._body(headers, receive)
        except ApiError as error:
            error.headers["connection"] = "close"  # what is left of the body must not be read as a request
            await send_error(send, error)
            return
        if body is None:
            return
        scope["headers"] = headers
        await self._app(scope, _Replay(body, receive), send)

    async def _body(self, headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes | None:
        """The whole body; None where the client left before its end. Raises ApiError (413, 408)."""
        declared = next((value for name, value in headers if name == b"content-length"), b"")
        too_large = declared.isdigit() and int(declared) > self._max_bytes
        try:
            async with asyncio.timeout(self._max_s):
                body = None if too_large else await self._read(receive)
                if body is not _TOO_LARGE and not too_large:
                    return body
                await _discard(receive)
        except TimeoutError:
            if not too_large:
                raise body_too_slow(self._max_s) from None
        raise body_too_large(self._max_bytes)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, None where the client left, _TOO_LARGE where it is over the cap."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_bytes:
                return _TOO_LARGE
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Let a client finish sending, within bounds: one that is cut off while it sends never reads why."""
    left = _DISCARD_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b"")) + 1
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


class _Replay:
    """The body once more, then whatever the connection says."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> dict[str, Any]:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def clean(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers without those that steer Serve, and with the guard's mark.

    Raises ApiError (400) for an `x-request-id` that is not printable ASCII: Serve would fail on it.
    """
    kept = [_MARK_HEADER]
    for header in headers:
        name, value = header
        if name in _CONTROL or name.startswith(_CONTROL_PREFIX):
            continue
        if name == b"x-request-id" and not (
            value.isascii() and len(value) <= 256 and value.decode().isprintable()
        ):
            raise bad_request("Header 'x-request-id' must be at most 256 printable ASCII characters.")
        kept.append(header)
    return kept


def require_mark(headers: dict[bytes, bytes]) -> None:
    """Raises ApiError (503) for a request that did not pass the guard."""
    if MARK not in headers:
        raise unavailable("The endpoint's guard is not in place.", "guard_missing")


def environment(max_bytes: int, max_s: float) -> dict[str, str]:
    """Environment of a process whose HTTP server must have the guard."""
    return {HOOK_ENV: HOOK, BYTES_ENV: str(max_bytes), SECONDS_ENV: str(max_s)}


def middlewares() -> list[Middleware]:
    """The hook that Serve calls."""
    max_bytes = int(os.environ.get(BYTES_ENV, DEFAULT_BYTES))
    max_s = float(os.environ.get(SECONDS_ENV, DEFAULT_S))
    return [Middleware(Guard, max_bytes=max_bytes, max_s=max_s)]


def require_installed() -> None:
    """Raises RuntimeError unless Serve puts the guard into the HTTP servers of this process."""
    from ray.serve._private.http_util import configure_http_middlewares
    from ray.serve.config import HTTPOptions

    if os.environ.get(HOOK_ENV) != HOOK:
        raise RuntimeError(
            f"{HOOK_ENV} is {os.environ.get(HOOK_ENV)!r}, must be '{HOOK}': the endpoint needs its guard."
        )
    installed = configure_http_middlewares(HTTPOptions()).middlewares
    if not any(middleware.cls is Guard for middleware in installed):
        raise RuntimeError("Serve did not load the guard from its hook, and the endpoint needs its guard.")
