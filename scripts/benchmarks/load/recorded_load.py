"""A load on one model of a real pool, recorded request by request as the simulator's fit reads it."""

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import numpy as np
import orjson

from deployments import sse
from policies.arrays import F64
from policies.simulator.fit import Served

_TIMEOUT = aiohttp.ClientTimeout(total=300.0)
_WORDS = ("ship", "crew", "weather", "harbour", "sail", "storm", "captain", "island", "map", "night", "wind")


@dataclass(frozen=True, slots=True)
class Planned:
    """N requests: when [N] in seconds, how many words they say [N], how many tokens they ask for [N]."""

    arrival_s: F64
    words: F64
    tokens: F64


def planned(arrival_s: F64, words: float, tokens: float, seed: int) -> Planned:
    """Log-normal lengths with these medians."""
    rng = np.random.default_rng([seed, 17])
    count = len(arrival_s)
    return Planned(
        arrival_s,
        np.rint(np.exp(rng.normal(np.log(words), 0.6, count)).clip(4, 300)),
        np.rint(np.exp(rng.normal(np.log(tokens), 0.6, count)).clip(2, 96)),
    )


async def record(url: str, key: str, model: str, plan: Planned) -> list[Served]:
    """Send them at their times, whatever is still open. Raises RuntimeError where one is refused."""
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers=headers) as session:
        started_s = time.perf_counter()

        async def one(n: int) -> Served:
            await asyncio.sleep(max(0.0, plan.arrival_s[n] + started_s - time.perf_counter()))
            return await _ask(session, url, model, n, plan, started_s)

        return list(await asyncio.gather(*(one(n) for n in range(len(plan.arrival_s)))))


async def _ask(
    session: aiohttp.ClientSession, url: str, model: str, n: int, plan: Planned, started_s: float
) -> Served:
    rng = np.random.default_rng([n, int(plan.words[n])])
    body = {
        "model": model,
        "messages": [{"role": "user", "content": " ".join(rng.choice(_WORDS, int(plan.words[n])))}],
        "max_tokens": int(plan.tokens[n]),
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent_s = time.perf_counter()
    first_s: float | None = None
    usage: dict[str, int] = {}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"{model}: {response.status} {(await response.text())[:300]}")
        async for event in sse.events(response.content.iter_any()):
            if event.data == sse.DONE:
                break
            content = orjson.loads(event.data or b"")
            if first_s is None and any(choice["delta"].get("content") for choice in content["choices"]):
                first_s = time.perf_counter()
            usage = content.get("usage") or usage
    ended_s = time.perf_counter()
    return Served(
        model,
        sent_s - started_s,
        usage["prompt_tokens"],
        usage["completion_tokens"],
        (first_s or ended_s) - sent_s,
        ended_s - sent_s,
    )


async def capacity_per_s(url: str, key: str, model: str, words: float, tokens: float) -> float:
    """Requests/s that the model answers when 32 of them are open from the start."""
    began_s = time.perf_counter()
    await record(url, key, model, planned(np.zeros(32), words, tokens, seed=99))
    return 32.0 / (time.perf_counter() - began_s)
