"""Load by several keys on an endpoint: requests arrive when they are due, whatever became of others."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import numpy as np
import orjson

_TIMEOUT: Final = aiohttp.ClientTimeout(total=180.0)


@dataclass(frozen=True, slots=True)
class Sender:
    """One key's requests: Poisson arrivals at `per_s`; `body` is added to each."""

    name: str
    key: str
    per_s: float
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer. `due_s` counts from the start, `took_s` from when it was due."""

    sender: str
    due_s: float
    took_s: float
    status: int
    retry_after_s: int = 0
    waited_ms: int = 0


def due(sender: Sender, seconds: float, seed: int) -> Iterator[tuple[float, Sender]]:
    """When each of its requests is due."""
    rng = np.random.default_rng(seed)
    at_s = rng.exponential(1.0 / sender.per_s)
    while at_s < seconds:
        yield at_s, sender
        at_s += rng.exponential(1.0 / sender.per_s)


class Endpoint:
    """The pool from outside: every request asks the same model, with a prompt of its own number."""

    def __init__(self, url: str, model: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._model = model

    async def open_loop(self, senders: Sequence[Sender], seconds: float, seed: int) -> list[Seen]:
        """All requests that are due within `seconds`, and their answers, however late."""
        plan = sorted(
            itertools.chain.from_iterable(
                due(one, seconds, seed + number) for number, one in enumerate(senders)
            ),
            key=lambda pair: pair[0],
        )
        return await self.replay(plan)

    async def replay(self, plan: Sequence[tuple[float, Sender]]) -> list[Seen]:
        """Requests that are due at given times, in that order, and their answers, however late."""
        async with self._session() as session, asyncio.TaskGroup() as group:
            began_s, tasks = time.monotonic(), list[asyncio.Task[Seen]]()
            for number, (at_s, sender) in enumerate(plan):
                await asyncio.sleep(max(began_s + at_s - time.monotonic(), 0.0))
                tasks.append(group.create_task(self._ask(session, sender, began_s, at_s, number)))
        return [task.result() for task in tasks]

    async def closed_loop(self, sender: Sender, clients: int, seconds: float) -> list[Seen]:
        """So many clients of one key, each of which asks again at once."""
        numbers, began_s = itertools.count(), time.monotonic()

        async def client(session: aiohttp.ClientSession) -> list[Seen]:
            found = []
            while time.monotonic() - began_s < seconds:
                at_s = time.monotonic() - began_s
                found.append(await self._ask(session, sender, began_s, at_s, next(numbers)))
                if found[-1].status != 200:
                    await asyncio.sleep(0.2)
            return found

        async with self._session() as session:
            return _flat(await asyncio.gather(*(client(session) for _ in range(clients))))

    async def burst(self, sender: Sender, count: int) -> list[Seen]:
        """So many at once; whoever is refused comes again once, when `Retry-After` said. Both answers."""
        began_s = time.monotonic()

        async def one(session: aiohttp.ClientSession, number: int) -> list[Seen]:
            first = await self._ask(session, sender, began_s, 0.0, number)
            if first.status == 200:
                return [first]
            await asyncio.sleep(first.retry_after_s)
            at_s = time.monotonic() - began_s
            return [first, await self._ask(session, sender, began_s, at_s, number)]

        async with self._session() as session:
            return _flat(await asyncio.gather(*(one(session, number) for number in range(count))))

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False)

    async def _ask(
        self, session: aiohttp.ClientSession, sender: Sender, began_s: float, at_s: float, number: int
    ) -> Seen:
        messages = [{"role": "user", "content": f"{sender.name} asks number {number}"}]
        body = orjson.dumps({"model": self._model, "messages": messages, **sender.body})
        headers = {"authorization": f"Bearer {sender.key}", "content-type": "application/json"}
        status, told = 0, ["0", "0"]
        try:
            async with session.post(self._url, data=body, headers=headers) as response:
                await response.read()
                status = response.status
                told = [response.headers.get(name, "0") for name in ("retry-after", "x-fastserve-queue-ms")]
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # which is status 0
        took_s = time.monotonic() - began_s - at_s
        return Seen(sender.name, at_s, took_s, status, *map(int, told))


def _flat(found: Iterable[Sequence[Seen]]) -> list[Seen]:
    return list(itertools.chain.from_iterable(found))
