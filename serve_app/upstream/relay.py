"""Hands a replica's answer to the client: whole, or event by event with the bytes unchanged."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from policies.outcome import Status
from serve_app.config import Deadlines
from serve_app.http.errors import interrupted
from serve_app.upstream.attempt import NEVER, Attempt
from serve_app.upstream.job import Job

Send = Callable[[dict[str, Any]], Awaitable[None]]

_END = (b"\n\n", b"\r\n\r\n")
_ERROR_EVENT = b'data: {"error"'
_DONE = b"data: [DONE]"
_EMPTY_DELTA = b'"content":""'
_TAIL_BYTES = 2048
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class TryFailedError(Exception):
    """A try gave no first byte. `code` says why; `gone`: nobody listens; `busy`: it refused for load."""

    def __init__(self, code: str, *, gone: bool = False, busy: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.gone = gone
        self.busy = busy


async def whole(response: aiohttp.ClientResponse, job: Job, send: Send) -> None:
    """Read the answer to its end, then send it. Raises TryFailedError, or what the client's side raises."""
    try:
        body = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise TryFailedError(f"broken:{type(error).__name__}") from None
    result = job.result
    result.read_usage(body[-_TAIL_BYTES:] if job.call.path != "/v1/responses" else body)
    result.status = Status.OK
    await begin(job, response, send, [(b"content-length", b"%d" % len(body))])
    await send({"type": "http.response.body", "body": body})


async def begin(
    job: Job, response: aiohttp.ClientResponse, send: Send, extra: list[tuple[bytes, bytes]]
) -> None:
    """Send the head of the answer."""
    content_type = response.headers.get("content-type", "application/json").encode("latin-1")
    result = job.result
    headers = [
        (b"content-type", content_type),
        (b"x-fastserve-model", result.model.encode()),
        *extra,
        *job.headers,
    ]
    if result.fallbacks:
        headers.append((b"x-fastserve-fallbacks", ",".join(result.fallbacks).encode()))
    result.http_status = response.status
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def interrupt(job: Job, send: Send, reason: str) -> None:
    """Tell the client that its stream broke."""
    result, error = job.result, interrupted()
    result.status, result.error_code = Status.FAILED, f"{error.code}:{reason}"
    await send({"type": "http.response.body", "body": error.events()})


class StreamRelay:
    """One stream. Only whole events are handed on, so that an error event can follow at any time."""

    def __init__(
        self, attempt: Attempt, response: aiohttp.ClientResponse, job: Job, deadlines: Deadlines
    ) -> None:
        self._attempt = attempt
        self._response = response
        self._job = job
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._tail = b""
        self._failed = False

    async def run(self, send: Send) -> None:
        """Relay to the end.

        Raises TryFailedError while nothing was sent. After that a broken stream ends with an error event.
        """
        first = await self._first()
        await begin(self._job, self._response, send, _STREAM_HEADERS)
        await self._send(first, send, self._loop.time())
        try:
            await self._rest(send)
        except (aiohttp.ClientError, OSError) as error:
            await interrupt(self._job, send, f"broken:{type(error).__name__}")
            return
        await self._finish(send)

    async def _first(self) -> bytes:
        """The first whole event or events."""
        try:
            while True:
                chunk = await self._response.content.readany()
                if not chunk:
                    raise TryFailedError("empty")
                data = self._whole_events(chunk)
                if data:
                    break
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TryFailedError(f"broken:{type(error).__name__}") from None
        if data.startswith(_ERROR_EVENT):
            raise TryFailedError("error_event")
        return data

    async def _rest(self, send: Send) -> None:
        content, idle_s = self._response.content, self._deadlines.idle_s
        deadline_s = self._job.deadline_s
        attempt, loop = self._attempt, self._loop
        while True:
            attempt.limit_s = min(loop.time() + idle_s, deadline_s)
            chunk = await content.readany()
            if not chunk:
                return
            data = self._whole_events(chunk)
            if data:
                await self._send(data, send, loop.time())

    async def _send(self, data: bytes, send: Send, now_s: float) -> None:
        result, attempt = self._job.result, self._attempt
        if result.first_byte_s is None and (_EMPTY_DELTA not in data or data.count(b"data:") > 1):
            result.first_byte_s = now_s
        if _ERROR_EVENT in data:
            self._failed = True
        self._tail = data if len(data) >= _TAIL_BYTES else self._tail[-_TAIL_BYTES:] + data
        attempt.limit_s = NEVER
        attempt.send_limit_s = now_s + self._deadlines.reader_s
        await send({"type": "http.response.body", "body": data, "more_body": True})
        attempt.send_limit_s = NEVER

    def _whole_events(self, chunk: bytes) -> bytes:
        """What can be handed on now; a cut event waits for its rest."""
        data = self._held + chunk if self._held else chunk
        if data.endswith(_END):
            self._held = b""
            return data
        cut = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if cut <= 3:
            self._held = data
            return b""
        self._held = data[cut:]
        return data[:cut]

    async def _finish(self, send: Send) -> None:
        """A stream that ended by itself: whole if its end mark came."""
        result = self._job.result
        needs_mark = self._job.call.path != "/v1/responses"
        if self._held or (needs_mark and _DONE not in self._tail):
            await interrupt(self._job, send, "ended_early")
            return
        result.read_usage(self._tail)
        result.status = Status.FAILED if self._failed else Status.OK
        result.error_code = "upstream_error" if self._failed else None
        await send({"type": "http.response.body", "body": b""})
