"""The guard before the ingress: strips control headers, lets no body in that is too large or too slow.

Serve loads it through RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH into every HTTP server it makes: the ingress
replicas' own (HAProxy mode) and the Python proxy's. It stands outside of everything that counts or queues
requests, so half-open bodies hold nothing but their sockets. Bound to Ray 2.60.
"""

import asyncio
import os
from typing import Any

from starlette.middleware import Middleware

from serve_app.config import IngressConfig
from serve_app.http.bodies import Bodies, Room
from serve_app.http.cors import App, Cors
from serve_app.http.encoding import decoded
from serve_app.http.errors import (
    ApiError,
    bad_request,
    body_too_large,
    body_too_slow,
    unavailable,
)
from serve_app.http.request import Header, Receive, Send, send_error

HOOK_ENV = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HOOK = "serve_app.http.guard:middlewares"
BYTES_ENV = "FASTSERVE_BODY_BYTES"
TOTAL_ENV = "FASTSERVE_BODIES_BYTES"
SECONDS_ENV = "FASTSERVE_BODY_S"

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
_DISCARD_BYTES = 64 * 1024 * 1024


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: App, max_bytes: int, max_s: float, total_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._bodies = Bodies(total_bytes)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._bodies.room() as room:
            try:
                headers = clean(scope["headers"])
                body = await self._body(headers, receive, room)
            except ApiError as error:
                error.headers["connection"] = (
                    "close"  # what is left of the body must not be read as a request
                )
                await send_error(send, error)
                return
            if body is not None:
                scope["headers"] = _of_decoded(headers, len(body))
                await self._app(scope, _Replay(body, receive), send)

    async def _body(self, headers: list[Header], receive: Receive, room: Room) -> bytes | None:
        """The whole body, decoded; None where the client left before its end. Raises ApiError."""
        body = await self._in_time(headers, receive, room)
        encoding = next((value for name, value in headers if name == b"content-encoding"), b"")
        if not body or not encoding:
            return body
        plain = await decoded(body, encoding, self._max_bytes)
        room.take(len(plain) - len(body))
        return plain

    async def _in_time(self, headers: list[Header], receive: Receive, room: Room) -> bytes | None:
        refusal: ApiError | None = None
        try:
            async with asyncio.timeout(self._max_s):
                try:
                    return await self._read(headers, receive, room)
                except ApiError as error:
                    refusal = error
                    await _discard(receive)
        except TimeoutError:
            pass  # a client that is refused may be slow, too: it is told why it was refused
        raise refusal or body_too_slow(self._max_s)

    async def _read(self, headers: list[Header], receive: Receive, room: Room) -> bytes | None:
        """The body as it was sent, None where the client left. Raises ApiError (413, 503)."""
        declared = next((value for name, value in headers if name == b"content-length"), b"")
        room.take(self._within_cap(int(declared)) if declared.isdigit() else 0)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size = self._within_cap(size + len(part))
            room.take(size - room.held_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _within_cap(self, size: int) -> int:
        if size > self._max_bytes:
            raise body_too_large(self._max_bytes)
        return size


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


def _of_decoded(headers: list[Header], size: int) -> list[Header]:
    """The headers of a body that is decoded by now."""
    if all(name != b"content-encoding" for name, _ in headers):
        return headers
    kept = [header for header in headers if header[0] not in (b"content-encoding", b"content-length")]
    return [*kept, (b"content-length", b"%d" % size)]


def clean(headers: list[Header]) -> list[Header]:
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


def environment(max_bytes: int, max_s: float, total_bytes: int) -> dict[str, str]:
    """Environment of a process whose HTTP server must have the guard."""
    limits = {BYTES_ENV: str(max_bytes), SECONDS_ENV: str(max_s), TOTAL_ENV: str(total_bytes)}
    return {HOOK_ENV: HOOK, **limits}


def middlewares() -> list[Middleware]:
    """The hook that Serve calls."""
    defaults = IngressConfig()
    guard = Middleware(
        Guard,
        max_bytes=int(os.environ.get(BYTES_ENV, defaults.body_bytes)),
        max_s=float(os.environ.get(SECONDS_ENV, defaults.body_s)),
        total_bytes=int(os.environ.get(TOTAL_ENV, defaults.bodies_bytes)),
    )
    return [Middleware(Cors), guard]


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
