"""Headers of every answer that keep other sites, and anything injected, out of the page."""

from collections.abc import Awaitable
from typing import Any, Final

from serve_app.http.request import Header, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
CACHE: Final = b"cache-control"
_HEADERS: Final[list[Header]] = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_NO_STORE: Final[Header] = (CACHE, b"no-store")


class Secured:
    """A `send` that adds the headers; what does not say how long it may be kept is not kept at all."""

    __slots__ = ("_has_body", "_send", "started")

    def __init__(self, send: Send, has_body: bool) -> None:
        self._send, self._has_body = send, has_body
        self.started = False

    def __call__(self, message: dict[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.started = True
            given = list(message.get("headers", ()))
            kept = [] if any(name == CACHE for name, _ in given) else [_NO_STORE]
            message = {**message, "headers": [*given, *_HEADERS, *kept]}
        elif not self._has_body:
            message = {**message, "body": b""}
        return self._send(message)
