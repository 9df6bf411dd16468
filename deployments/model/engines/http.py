"""The replica's own HTTP server: a free port, a bearer token, an admission limit, OpenAI-shaped refusals."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

Header = tuple[bytes, bytes]


async def send_json(send: Send, status: int, body: Mapping[str, Any], headers: Iterable[Header] = ()) -> None:
    """Send a whole JSON answer."""
    data = json.dumps(body, ensure_ascii=False).encode()
    length = (b"content-length", str(len(data)).encode())
    head = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": data})


async def send_error(
    send: Send,
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: Iterable[Header] = (),
) -> None:
    """Send an OpenAI-shaped error."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    await send_json(send, status, {"error": error}, headers)


async def read_body(receive: Receive) -> bytes:
    """The whole request body; what arrived before the client left, if it leaves."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def disconnected(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def until_disconnected(receive: Receive) -> AsyncIterator[None]:
    """Run the block until the client leaves: then it is cancelled, and ends without an error."""
    task = asyncio.current_task()
    assert task is not None, "an ASGI app runs in a task"
    inside = True

    def leave(watch: asyncio.Task[None]) -> None:
        if inside and not watch.cancelled():
            task.cancel()

    watch = asyncio.create_task(disconnected(receive))
    watch.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if watch.cancelled() or not watch.done():
            raise
        task.uncancel()
    finally:
        inside = False
        watch.cancel()


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that lower-case name."""
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else bytes(value).decode("latin-1")


def request_id(scope: Scope) -> str | None:
    """The decision id that the ingress sent."""
    return header(scope, b"x-request-id")
