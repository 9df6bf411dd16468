"""Hands a replica's answer to the client: whole, or event by event with the bytes unchanged."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from deployments.sse import Reader
from policies.outcome import Status
from serve_app.config import Deadlines
from serve_app.http.errors import interrupted
from serve_app.upstream.attempt import NEVER, Attempt
from serve_app.upstream.failures import TryFailedError, error_inside
from serve_app.upstream.job import Job
from serve_app.upstream.outgoing import hides_usage
from serve_app.upstream.transcript import Transcript

Send = Callable[[dict[str, Any]], Awaitable[None]]

_END_S = 0.2  # from the end mark to the end of the connection's use
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


async def whole(attempt: Attempt, response: aiohttp.ClientResponse, job: Job, send: Send) -> None:
    """Read the answer to its end, then send it. Raises TryFailedError, or what the client's side raises."""
    try:
        body = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise TryFailedError(f"broken:{type(error).__name__}", lost=True) from None
    result, transcript = job.result, Transcript(job.call.path, job.prompt_tokens)
    try:
        transcript.take_whole(body)
    except ValueError:
        raise TryFailedError("not_json") from None
    if transcript.error is not None:
        raise error_inside(result.model, "error_answer", transcript.error, response.headers)
    attempt.begin()
    result.count(transcript.tokens())
    if job.call.dialect is not None:
        body = job.call.dialect.whole(body)
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
    if result.waited_s:
        headers.append((b"x-fastserve-queue-ms", b"%d" % (1_000 * result.waited_s)))
    if result.fallbacks:
        headers.append((b"x-fastserve-fallbacks", ",".join(result.fallbacks).encode()))
    result.http_status = response.status
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def interrupt(job: Job, send: Send, reason: str) -> None:
    """Tell the client that its stream broke."""
    result, error = job.result, interrupted()
    result.status, result.error_code = Status.FAILED, f"{error.code}:{reason}"
    dialect = job.call.dialect
    body = error.events() if dialect is None else dialect.events(error)
    await send({"type": "http.response.body", "body": body})


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
        self._reader = Reader()
        self._transcript = Transcript(job.call.path, job.prompt_tokens)
        self._hides_usage = hides_usage(job.call)
        self._translation = None if job.call.dialect is None else job.call.dialect.stream()

    async def run(self, send: Send) -> None:
        """Relay to the end.

        Raises TryFailedError while nothing was sent. After that a broken stream ends with an error event.
        """
        first = await self._first()
        self._attempt.begin()
        try:
            self._job.result.first_byte_s = self._loop.time()
            await begin(self._job, self._response, send, _STREAM_HEADERS)
            await self._rest(first, send)
        except (aiohttp.ClientError, OSError) as error:
            await interrupt(self._job, send, f"broken:{type(error).__name__}")
            return
        finally:
            self._job.result.count(self._transcript.tokens())
        await self._finish(send)
        await self._drain()

    async def _first(self) -> bytes:
        """The events up to the first token: until then another replica may answer in place of this one."""
        transcript, held = self._transcript, b""
        try:
            while not transcript.begun:
                chunk = await self._response.content.readany()
                if not chunk:
                    raise TryFailedError("empty")
                held += self._whole_events(chunk)
                if transcript.error is not None:
                    model, headers = self._job.result.model, self._response.headers
                    raise error_inside(model, "error_event", transcript.error, headers)
                if transcript.ended and not transcript.begun:
                    raise TryFailedError("empty")
        except (aiohttp.ClientError, OSError) as error:
            raise TryFailedError(f"broken:{type(error).__name__}", lost=True) from None
        return held

    async def _rest(self, data: bytes, send: Send) -> None:
        """Hand on `data` and all that follows it. This loop runs once a token."""
        content, attempt, loop = self._response.content, self._attempt, self._loop
        idle_s, reader_s = self._deadlines.idle_s, self._deadlines.reader_s
        attempt.patient_until_s = deadline_s = self._job.deadline_s
        attempt.is_bound = True
        while True:
            if data:
                attempt.limit_s = NEVER
                attempt.send_limit_s = loop.time() + reader_s
                await send({"type": "http.response.body", "body": data, "more_body": True})
                attempt.send_limit_s = NEVER
            if self._transcript.ended:
                return
            attempt.limit_s = min(loop.time() + idle_s, deadline_s)
            chunk = await content.readany()
            if not chunk:
                return
            data = self._whole_events(chunk)

    def _whole_events(self, chunk: bytes) -> bytes:
        """What can be handed on now; an event that is cut waits for its rest."""
        take, hides = self._transcript.take, self._hides_usage
        if self._translation is not None:
            events = self._reader.feed(chunk)
            for event in events:
                take(event)
            return b"".join(map(self._translation.take, events))
        return b"".join([event.raw for event in self._reader.feed(chunk) if not (take(event) and hides)])

    async def _finish(self, send: Send) -> None:
        """A stream that ended by itself: whole if its end mark came, or an error in its place."""
        result, transcript = self._job.result, self._transcript
        failed = transcript.error is not None
        if not transcript.ended and (self._reader.is_cut or not failed):
            await interrupt(self._job, send, "ended_early")
            return
        result.status = Status.FAILED if failed else Status.OK
        result.error_code = "upstream_error" if failed else None
        await send({"type": "http.response.body", "body": b"" if self._reader.is_cut else self._reader.rest})

    async def _drain(self) -> None:
        """After the end mark: a connection that ends soon is used again, one that stays open is closed."""
        self._attempt.reason = "ended"  # nothing that the watch sees from now on matters
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_END_S):
                while await self._response.content.readany():
                    pass
