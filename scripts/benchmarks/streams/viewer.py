"""Readers of many streams that cost little themselves: raw HTTP, a connection each."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

_OK: Final = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the engines: where one stream goes, what it says of itself, which model it names."""

    name: str
    urls: Sequence[str]  # base URLs without /v1, taken in turn
    key: str
    model: str
    group: tuple[str, ...]  # the processes that carry it, by group


class Viewer(asyncio.Protocol):
    """One stream: when its events came. `refused` holds an answer that is none."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.arrivals_s: list[float] = []  # of pieces that end an event or more
        self.events: list[int] = []  # in each of them
        self.refused = b""
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self._has_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the events that end here; HTTP's chunk sizes never hold a blank line of theirs."""
        if not self._has_head:
            self._has_head = True
            if not data.startswith(_OK):
                self.refused = data[:400]
                self.begun.set()
        ended = data.count(b"\n\n")
        if ended:
            self.arrivals_s.append(time.perf_counter())
            self.events.append(ended)
            self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever made it."""
        self.begun.set()
        self.ended.set()


@dataclass(slots=True)
class Window:
    """What a number of streams received between two instants."""

    tokens: int
    seconds: float
    gaps_s: list[float] = field(default_factory=list)  # between one token and the next of a stream

    def quantile_ms(self, rank: float) -> float:
        """A quantile of the time between two tokens."""
        return float(np.quantile(self.gaps_s, rank)) * 1e3 if self.gaps_s else float("nan")

    @property
    def tokens_per_s(self) -> float:
        """Of all streams."""
        return self.tokens / self.seconds


def request(way: Way, url: str, prompt: str, max_tokens: int) -> bytes:
    """One streamed chat as bytes."""
    body: Mapping[str, Any] = {
        "model": way.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    data, parts = json.dumps(body).encode(), urlsplit(url)
    head = (
        f"POST {parts.path.rstrip('/')}/v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"authorization: Bearer {way.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + data


async def open_streams(way: Way, count: int, prompt: str, max_tokens: int, over_s: float) -> list[Viewer]:
    """Begin `count` streams, evenly over `over_s`; returns when each has its first event.

    Raises RuntimeError where one was refused or broke.
    """
    loop = asyncio.get_running_loop()
    viewers: list[Viewer] = []
    for number in range(count):
        url = way.urls[number % len(way.urls)]
        asking = partial(Viewer, request(way, url, f"{prompt} ({number})", max_tokens))
        parts = urlsplit(url)
        _, viewer = await loop.create_connection(asking, parts.hostname or "", parts.port or 80)
        viewers.append(viewer)
        await asyncio.sleep(over_s / count)
    await asyncio.gather(*(viewer.begun.wait() for viewer in viewers))
    for viewer in viewers:
        if viewer.refused or not viewer.events:
            raise RuntimeError(f"{way.name}: a stream did not begin: {viewer.refused!r}")
    return viewers


def window(viewers: Sequence[Viewer], from_s: float, to_s: float) -> Window:
    """What came between the two; events that came in one piece have no time between them."""
    made = Window(0, to_s - from_s)
    for viewer in viewers:
        last_s = None
        for at_s, events in zip(viewer.arrivals_s, viewer.events, strict=True):
            if from_s <= at_s < to_s:
                made.tokens += events
                if last_s is not None:
                    made.gaps_s += [at_s - last_s, *([0.0] * (events - 1))]
                last_s = at_s
    return made


async def close(viewers: Sequence[Viewer]) -> int:
    """Leave all streams, as clients that go away; returns how many had ended before."""
    early = sum(viewer.ended.is_set() for viewer in viewers)
    for viewer in viewers:
        viewer.transport.abort()
    await asyncio.gather(*(viewer.ended.wait() for viewer in viewers))
    return early
