"""Streamed chat requests to any OpenAI-compatible server: tokens, TTFT and wall time of a round."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from deployments import sse

_TIMEOUT = aiohttp.ClientTimeout(total=180.0)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes and under which model name."""

    name: str
    url: str  # base URL without /v1
    headers: Mapping[str, str]
    model: str
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer: content events, TTFT and end, in seconds from the request."""

    tokens: int
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """Streams that ran at once, and the wall time until the last ended."""

    streams: tuple[Stream, ...]
    wall_s: float

    @property
    def tokens(self) -> int:
        """Content events of all streams."""
        return sum(stream.tokens for stream in self.streams)

    @property
    def tokens_per_s(self) -> float:
        """Streamed tokens a second over the whole round."""
        return self.tokens / self.wall_s


async def stream(session: aiohttp.ClientSession, target: Target, prompt: str, max_tokens: int) -> Stream:
    """One request. Raises RuntimeError for any other status than 200 and for an error event."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        **target.extra,
    }
    tokens, first_s, started_s = 0, float("nan"), time.perf_counter()
    url = f"{target.url}/v1/chat/completions"
    async with session.post(url, json=body, headers=dict(target.headers)) as response:
        if response.status != 200:
            raise RuntimeError(f"{target.name}: {response.status} {(await response.text())[:300]}")
        async for event in sse.events(response.content.iter_any()):
            if event.data == sse.DONE:
                break
            content = orjson.loads(event.data or b"")
            if content.get("error"):
                raise RuntimeError(f"{target.name}: {str(content['error'])[:300]}")
            if any(choice["delta"].get("content") for choice in content["choices"]):
                if not tokens:
                    first_s = time.perf_counter() - started_s
                tokens += 1
    return Stream(tokens, first_s, time.perf_counter() - started_s)


async def round_of(target: Target, prompts: list[str], max_tokens: int) -> Round:
    """All prompts at once, each on its own connection."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        started_s = time.perf_counter()
        streams = await asyncio.gather(*(stream(session, target, prompt, max_tokens) for prompt in prompts))
        return Round(tuple(streams), time.perf_counter() - started_s)
