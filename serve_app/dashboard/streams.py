"""Server-sent events: each topic is encoded once for all viewers, who get its newest value only."""

import asyncio
from collections.abc import Callable
from typing import Final

import orjson

from serve_app.dashboard.visit import Visit
from serve_app.http.request import Send

BEAT_S: Final = 2.0  # between two signs of life where nothing changes; a tab that is gone is noticed by then
_HEAD: Final = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Hub:
    """The newest event of each topic. A slow viewer skips events: nothing queues for it."""

    def __init__(self) -> None:
        self.viewers = 0
        self._events: dict[str, tuple[int, bytes]] = {}
        self._count = 0
        self._changed = asyncio.Event()
        self.is_closed = False

    def close(self) -> None:
        """End the streams: the process leaves, and browsers come back by themselves."""
        self.is_closed = True
        self._changed.set()

    def publish(self, topic: str, value: object) -> None:
        """A new value of a topic."""
        self._count += 1
        data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        self._events[topic] = self._count, b"event: %b\ndata: %b\n\n" % (topic.encode(), data)
        self._changed.set()
        self._changed = asyncio.Event()

    def newer(self, topics: frozenset[str], seen: int) -> tuple[bytes, int]:
        """The events of these topics after number `seen`, oldest first, and the number to ask with next."""
        found = sorted(event for topic, event in self._events.items() if topic in topics and event[0] > seen)
        return b"".join(data for _, data in found), self._count

    async def wait(self, timeout_s: float) -> None:
        """Return at the next event of any topic, or at the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass  # the viewer gets a sign of life


async def stream(
    hub: Hub, visit: Visit, topics: frozenset[str], may_see: Callable[[], bool], send: Send
) -> None:
    """Send events until the viewer leaves, its sign-in ends, or the hub is closed."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
    leaving = asyncio.create_task(_left(visit))
    hub.viewers += 1
    seen, chunk = 0, b"retry: 2000\n\n"
    try:
        while not (leaving.done() or hub.is_closed) and may_see():
            data, seen = hub.newer(topics, seen)
            await send({"type": "http.response.body", "body": chunk + data or b": \n\n", "more_body": True})
            chunk = b""
            await asyncio.wait(
                (leaving, asyncio.ensure_future(hub.wait(BEAT_S))), return_when=asyncio.FIRST_COMPLETED
            )
        if not leaving.done():
            ended = b"" if may_see() else b"event: ended\ndata: {}\n\n"
            await send({"type": "http.response.body", "body": ended, "more_body": False})
    finally:
        hub.viewers -= 1
        leaving.cancel()


async def _left(visit: Visit) -> None:
    while (await visit.receive())["type"] != "http.disconnect":
        pass
