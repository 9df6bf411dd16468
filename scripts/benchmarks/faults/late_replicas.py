"""Replicas that pause at random, and requests that meet them: when each pauses, what clients see."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
import numpy as np
import orjson

PAUSE_S: Final = (0.5, 1.5)  # shortest and longest
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0)


@dataclass(frozen=True, slots=True)
class Pause:
    """One replica stands still from `at_s` on, for so long."""

    at_s: float
    replica: int
    length_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer; `began_s` counts from the start of the load, status 0 where there was none."""

    began_s: float
    first_s: float  # to the first token; of a plain answer, to its end
    took_s: float
    status: int


def pauses(replicas: int, seconds: float, share: float, seed: int) -> list[Pause]:
    """When each of them pauses, independently and by chance, for this share of the time in all."""
    draws, found = np.random.default_rng(seed), list[Pause]()
    for replica in range(replicas):
        lengths, left_s = list[float](), share * seconds
        while left_s > 0.0:
            lengths.append(min(draws.uniform(*PAUSE_S), left_s))
            left_s -= lengths[-1]
        gaps = (1.0 - share) * seconds * draws.dirichlet(np.ones(len(lengths) + 1))
        starts = np.cumsum(gaps[:-1]) + np.cumsum([0.0, *lengths[:-1]])
        found += [Pause(at_s, replica, length_s) for at_s, length_s in zip(starts, lengths, strict=True)]
    return found


def block(planned: Iterable[Pause], number: int, seconds: float) -> list[Pause]:
    """The pauses that begin in one of the blocks that a plan is cut into, from its beginning."""
    start_s = number * seconds
    within = [one for one in planned if start_s <= one.at_s < start_s + seconds]
    return [replace(one, at_s=one.at_s - start_s) for one in within]


async def stop(pids: Sequence[int], planned: Iterable[Pause]) -> None:
    """Carry the pauses out; whatever happens, all go on in the end."""

    async def one(pause: Pause) -> None:
        await asyncio.sleep(pause.at_s)
        pid = pids[pause.replica]
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(pause.length_s)
        finally:
            os.kill(pid, signal.SIGCONT)

    async with asyncio.TaskGroup() as group:
        for pause in planned:
            group.create_task(one(pause))


class Clients:
    """Requests to one model that begin when they are due, whatever became of others."""

    def __init__(self, url: str, key: str, model: str, body: Mapping[str, Any]) -> None:
        self._url, self._model, self._body = f"{url}/v1/chat/completions", model, body
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    async def load(self, per_s: float, seconds: float, seed: int) -> list[Seen]:
        """Poisson arrivals for so long, and their answers."""
        draws, due_s = np.random.default_rng(seed), 0.0
        async with self._session() as session, asyncio.TaskGroup() as group:
            began_s, tasks = time.monotonic(), list[asyncio.Task[Seen]]()
            while (due_s := due_s + draws.exponential(1.0 / per_s)) < seconds:
                await asyncio.sleep(max(began_s + due_s - time.monotonic(), 0.0))
                tasks.append(group.create_task(self._ask(session, began_s, len(tasks))))
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, headers=self._headers, trust_env=False
        ) as session:
            yield session

    async def _ask(self, session: aiohttp.ClientSession, load_began_s: float, number: int) -> Seen:
        messages = [{"role": "user", "content": f"Number {number} asks"}]
        body = orjson.dumps({"model": self._model, "messages": messages, **self._body})
        began_s, first_s, status = time.monotonic(), 0.0, 0
        with suppress(aiohttp.ClientError, TimeoutError, OSError):  # which is status 0
            async with session.post(self._url, data=body) as answer:
                async for line in answer.content:
                    if not first_s and _has_token(line):
                        first_s = time.monotonic()
                status = answer.status
        ended_s = time.monotonic()
        return Seen(began_s - load_began_s, (first_s or ended_s) - began_s, ended_s - began_s, status)


def _has_token(line: bytes) -> bool:
    """Whether a line of a stream is an event with text."""
    if not line.startswith(b"data: {"):
        return False
    choices = orjson.loads(line[6:]).get("choices")
    return bool(choices and choices[0].get("delta", {}).get("content"))
