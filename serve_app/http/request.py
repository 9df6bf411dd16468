"""One HTTP request as the endpoint reads it, and small answers."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from serve_app.http.errors import ApiError, wrong_content_type

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")


@dataclass(slots=True)
class Request:
    """Head and body. `headers` are lower-case; of a repeated one the last counts."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def credential(self) -> bytes | None:
        """The key as `Authorization` has it; Anthropic's clients send it as `x-api-key`."""
        given = self.headers.get(b"authorization")
        named = self.headers.get(b"x-api-key")
        return given if given or not named else b"Bearer " + named

    def require_json(self) -> None:
        """Raises ApiError (415) unless the body is declared as JSON."""
        declared = self.headers.get(b"content-type", b"application/json")
        if declared.partition(b";")[0].strip().lower() != b"application/json":
            raise wrong_content_type(declared.decode("latin-1"))


async def read_body(receive: Receive) -> bytes:
    """The whole body; the guard has bounded its size and time."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def send_bytes(send: Send, status: int, body: bytes, headers: Iterable[Header] = ()) -> None:
    """A whole JSON answer."""
    await send({"type": "http.response.start", "status": status, "headers": [*_head(body), *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, value: object, headers: Iterable[Header] = ()) -> None:
    """A value as a whole JSON answer."""
    await send_bytes(send, 200, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), headers)


def error_head(error: ApiError, body: bytes) -> list[Header]:
    """The headers of an error as the whole answer."""
    return [*_head(body), *_own(error)]


async def send_error(
    send: Send, error: ApiError, headers: Iterable[Header] = (), body: bytes | None = None
) -> None:
    """An error as the whole answer; `body` where it is not in OpenAI's shape."""
    await send_bytes(send, error.status, body or error.body(), [*_own(error), *headers])


def _head(body: bytes) -> list[Header]:
    return [_JSON, (b"content-length", b"%d" % len(body))]


def _own(error: ApiError) -> list[Header]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
