"""Browsers: which origins may call the endpoint, and the headers by which they let a page read any answer."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from serve_app.http.request import Header, Receive, Send, send_bytes

App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_ANSWER: Final = [(b"access-control-expose-headers", b"*"), (b"vary", b"origin")]
_METHODS: Final = b"GET, HEAD, POST, OPTIONS"
_USUAL_HEADERS: Final = b"authorization, content-type, x-request-id, x-fastserve-feedback-token"
_MAX_AGE_S: Final = b"600"
_LONGEST: Final = 4096  # bytes of the header names that a preflight may ask for


class Origins:
    """The origins that may call; the ingress sets them, live, for all of its process."""

    def __init__(self) -> None:
        self._allowed: frozenset[bytes] = frozenset()

    def allow(self, origins: Iterable[str]) -> None:
        """From now on these; `*` is any."""
        self._allowed = frozenset(origin.encode("latin-1", "replace") for origin in origins)

    def given(self, headers: Iterable[Header]) -> bytes | None:
        """The request's origin, where it may call."""
        if not self._allowed:
            return None
        origin = next((value for name, value in headers if name == b"origin"), None)
        is_allowed = origin is not None and (origin in self._allowed or b"*" in self._allowed)
        return origin if is_allowed else None


ORIGINS: Final = Origins()  # of this process: Serve makes the HTTP server's middleware by name


class Cors:
    """ASGI middleware: answers preflights, and adds to every answer what lets the page read it."""

    def __init__(self, app: App, origins: Origins = ORIGINS) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        origin = self._origins.given(scope["headers"]) if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await send_bytes(send, 200, b"{}", _preflight(origin, scope["headers"]))
        else:
            await self._app(scope, receive, _readable(send, origin))


def _readable(send: Send, origin: bytes) -> Send:
    def forward(message: dict[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if all(name.lower() != _ALLOW_ORIGIN for name, _ in headers):
                message["headers"] = [*headers, (_ALLOW_ORIGIN, origin), *_ANSWER]
        return send(message)

    return forward


def _preflight(origin: bytes, headers: Iterable[Header]) -> list[Header]:
    """What the browser asks for is allowed: SDKs send a dozen headers of their own, which harm nobody."""
    names = next((value for name, value in headers if name == b"access-control-request-headers"), b"")
    return [
        (_ALLOW_ORIGIN, origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", names if 0 < len(names) <= _LONGEST else _USUAL_HEADERS),
        (b"access-control-max-age", _MAX_AGE_S),
        (b"vary", b"origin, access-control-request-headers"),
    ]
