"""Answers to clients of HTTP/1.0: no chunks, bytes to the end of the connection (RFC 9112, 6.1)."""

from collections.abc import Awaitable
from typing import Any

from serve_app.http.cors import App
from serve_app.http.request import Receive, Send


class UntilClose:
    """ASGI middleware, outermost: uvicorn sends chunks whatever the client's version, unless it is told."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("http_version") == "1.0":
            send = _unchunked(send)
        await self._app(scope, receive, send)


def _unchunked(send: Send) -> Send:
    """`send` of uvicorn's httptools cycle without chunks; any other, such as h11's, knows HTTP/1.0 itself."""
    cycle: Any = getattr(send, "__self__", None)
    if not hasattr(cycle, "chunked_encoding") or not hasattr(cycle, "expected_content_length"):
        return send
    is_bounded = False

    def forward(message: dict[str, Any]) -> Awaitable[None]:
        nonlocal is_bounded
        if message["type"] == "http.response.start":
            is_bounded = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not is_bounded:
                cycle.chunked_encoding = False
        elif not is_bounded:
            cycle.expected_content_length = len(message.get("body", b""))  # as much as comes
        return send(message)

    return forward
