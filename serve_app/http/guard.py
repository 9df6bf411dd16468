"""The guard before the ingress: strips control headers; no body is read from who is not admitted, and none
that is too large or too slow.

Serve loads it through RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH into every HTTP server it makes: the ingress
replicas' own (HAProxy mode) and the Python proxy's. It stands outside of everything that counts or queues
requests, so half-open bodies hold nothing but their sockets and what has come of them. Bound to Ray 2.60.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware

from deployments.bound_versions import require_version
from serve_app.config import IngressConfig
from serve_app.http.admission import ADMISSION, Admission, Admitted
from serve_app.http.bodies import Bodies, Room, held_bytes, likely_bytes
from serve_app.http.cors import App, Cors
from serve_app.http.encoding import Decoding
from serve_app.http.errors import (
    ApiError,
    bad_request,
    body_too_large,
    body_too_rich,
    body_too_slow,
    unavailable,
)
from serve_app.http.haproxy import REFUSAL
from serve_app.http.request import Header, Receive, Request, Send, error_head, send_error
from serve_app.http.until_close import UntilClose

HOOK_ENV = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
HOOK = "serve_app.http.guard:middlewares"
LIMITS_ENV = "FASTSERVE_BODY_LIMITS"

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
_MORE_BYTES = 1024 * 1024  # that a client may send after it was refused, before its connection is closed
_MORE_S = 0.5
_OF_SERVE = "/-/"  # paths that Serve answers itself
_NO_BODY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the bodies of requests."""

    most_bytes: int  # of one body
    total_bytes: int  # that all bodies under way come to
    grace_s: float  # after it a body must have come at `bytes_per_s`
    bytes_per_s: int


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: App, limits: Limits, admission: Admission = ADMISSION) -> None:
        self._app = app
        self._limits = limits
        self._admission = admission
        self._bodies = Bodies(limits.total_bytes)
        self._decoding = Decoding()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = clean(scope["headers"])
            visitor = self._visitor(scope["method"], scope["path"], headers)
        except ApiError as error:
            await refuse(error, self._error_body(scope, error), scope["headers"], receive, send)
            return
        most_bytes = min(self._limits.most_bytes, visitor.most_bytes or self._limits.most_bytes)
        with self._bodies.room(visitor.caller) as room:
            try:
                body = await self._body(headers, receive, room, most_bytes)
            except ApiError as error:
                await refuse(error, self._error_body(scope, error), headers, receive, send)
                return
            if body is not None:
                scope["headers"] = _of_decoded(headers, len(body))
                await self._app(scope, _Replay(body, receive), send)

    def _error_body(self, scope: dict[str, Any], error: ApiError) -> bytes:
        return self._admission.error_body(scope["path"], error)

    def _visitor(self, method: str, path: str, headers: list[Header]) -> Admitted:
        """Who sends a body, and how much of it. Raises ApiError. Serve answers HAProxy's health checks."""
        if path.startswith(_OF_SERVE):
            return Admitted("", _NO_BODY_BYTES)
        return self._admission.admitted(Request(method, path, dict(headers)))

    async def _body(
        self, headers: list[Header], receive: Receive, room: Room, most_bytes: int
    ) -> bytes | None:
        """The whole body, decoded, with room for what it comes to; None where the client left before its end.

        Raises ApiError.
        """
        body = await self._read(headers, receive, room, most_bytes)
        encoding = b", ".join(value for name, value in headers if name == b"content-encoding")
        if not body:
            return body
        if encoding:
            body = await self._decoding.decoded(body, encoding, most_bytes)
        all_bytes = held_bytes(body)
        if all_bytes > room.most_bytes:
            raise body_too_rich(all_bytes, room.most_bytes)
        room.hold(all_bytes)
        return body

    async def _read(
        self, headers: list[Header], receive: Receive, room: Room, most_bytes: int
    ) -> bytes | None:
        """The body as it was sent, None where the client left. Raises ApiError (408, 413, 503).

        There is room for all of it or none: of many at once, each with a part, none would come to its end.
        """
        limits, loop = self._limits, asyncio.get_running_loop()
        declared = _declared(headers)
        _within(declared, most_bytes)
        room.hold(min(likely_bytes(declared), room.most_bytes))
        parts, size, began_s = [], 0, loop.time()
        while True:
            try:
                async with asyncio.timeout_at(began_s + limits.grace_s + size / limits.bytes_per_s):
                    message = await receive()
            except TimeoutError:
                raise body_too_slow(limits.grace_s, limits.bytes_per_s) from None
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            _within(size, most_bytes)
            room.hold(min(likely_bytes(max(size, declared)), room.most_bytes))
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _declared(headers: list[Header]) -> int:
    """Bytes of the body by its own account; 0 without one."""
    declared = next((value for name, value in headers if name == b"content-length"), b"")
    return int(declared) if declared.isdigit() else 0


def _within(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise body_too_large(most_bytes)


async def refuse(error: ApiError, body: bytes, headers: list[Header], receive: Receive, send: Send) -> None:
    """Say why at once, then close: what is left of the body must not be read as a request.

    A client that is still sending may go on for a moment, so that it comes to read the answer. HAProxy gives
    the answer in our place and closes, see serve_app.http.haproxy.
    """
    if not _declared(headers) and all(name != b"transfer-encoding" for name, _ in headers):
        await send_error(send, error, body=body)
        return
    error.headers |= {"connection": "close", REFUSAL: _in_a_header(body)}
    head = error_head(error, body)
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _discard(receive)
    await send({"type": "http.response.body", "body": b""})


def _in_a_header(body: bytes) -> str:
    return json.dumps(json.loads(body))  # in ASCII, on one line


async def _discard(receive: Receive) -> None:
    left = _MORE_BYTES
    try:
        async with asyncio.timeout(_MORE_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b"")) + 1
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        pass


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


def environment(limits: Limits) -> dict[str, str]:
    """Environment of a process whose HTTP server must have the guard."""
    values = (limits.most_bytes, limits.total_bytes, limits.grace_s, limits.bytes_per_s)
    return {HOOK_ENV: HOOK, LIMITS_ENV: ",".join(map(str, values))}


def limits_of(config: IngressConfig) -> Limits:
    """The bounds that a config sets."""
    return Limits(config.body_bytes, config.bodies_bytes, config.body_s, config.body_bytes_per_s)


def middlewares() -> list[Middleware]:
    """The hook that Serve calls."""
    limits = limits_of(IngressConfig())
    if given := os.environ.get(LIMITS_ENV):
        most, total, grace_s, bytes_per_s = given.split(",")
        limits = Limits(int(most), int(total), float(grace_s), int(bytes_per_s))
    guard = Middleware(Guard, limits=limits)
    return [guard, Middleware(Cors), Middleware(UntilClose)]  # the last one is outermost


def require_installed() -> None:
    """Raises RuntimeError unless Serve puts the guard into the HTTP servers of this process.

    VersionError, which is one, for a Ray whose hooks this code does not know.
    """
    import ray
    from ray.serve._private.http_util import configure_http_middlewares
    from ray.serve.config import HTTPOptions

    require_version("ray", ray.__version__)
    if os.environ.get(HOOK_ENV) != HOOK:
        raise RuntimeError(
            f"{HOOK_ENV} is {os.environ.get(HOOK_ENV)!r}, must be '{HOOK}': the endpoint needs its guard."
        )
    installed = configure_http_middlewares(HTTPOptions()).middlewares
    if not any(middleware.cls is Guard for middleware in installed):
        raise RuntimeError("Serve did not load the guard from its hook, and the endpoint needs its guard.")
