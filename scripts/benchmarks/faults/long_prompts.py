"""Long prompts to one model of a real pool, beside users: no replica is replaced, nobody gets a 5xx.

All prompts come at once, half of them streamed, each as long as the model's context lets it be and none like
another, so that no cache helps. Users ask the same model, another one and `auto` meanwhile.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from deployments import sse
from deployments.records.snapshot import ReplicaState
from deployments.table.api import TableApi
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.serving import served_pool
from scripts.benchmarks.serving.served_pool import Serving
from scripts.benchmarks.serving.steady_load import Asked, SteadyLoad

MODEL: Final = "smollm2-135m"
PROMPTS: Final = 20
ANSWER_TOKENS: Final = 16
USERS_PER_S: Final = 0.5
USER_BODY: Final = {"max_tokens": 16}
WATCH_S: Final = 0.5
AFTER_S: Final = 20.0  # after the last answer, for what Serve would replace late
_WORDS: Final = (
    "river",
    "stone",
    "cloud",
    "garden",
    "letter",
    "window",
    "market",
    "summer",
    "candle",
    "violin",
)
REQUEST_S: Final = 300.0  # `deadlines.request_s` of cluster.yaml: who waits longer is answered 504
_TIMEOUT: Final = aiohttp.ClientTimeout(total=600.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    served_pool.add_arguments(parser)
    parser.add_argument("--model", default=MODEL, help=f"that gets the prompts ({MODEL})")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help=f"that come at once ({PROMPTS})")
    parser.add_argument("--users-per-s", type=float, default=USERS_PER_S, help=f"requests ({USERS_PER_S})")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one long prompt; `error` "" for a whole answer."""

    status: int
    took_s: float
    prompt_tokens: int
    error: str = ""


class Watcher:
    """Follows the replicas of the pool in its table."""

    def __init__(self, table: TableApi) -> None:
        self._table = table
        self.states: Counter[str] = Counter()
        self.longest_step_s = 0.0

    async def replicas(self) -> dict[str, frozenset[str]]:
        """Those that serve, by model."""
        models = (await self._table.snapshot("", 0, 0.0)).models
        return {model: frozenset(r.replica for r in row.replicas) for model, row in models.items()}

    async def run(self) -> None:
        """Count what the replicas say of themselves until cancelled."""
        while True:
            for row in (await self._table.snapshot("", 0, 0.0)).models.values():
                for one in row.replicas:
                    self.states[one.state.value] += 1
                    self.longest_step_s = max(self.longest_step_s, one.step_s)
            await asyncio.sleep(WATCH_S)


class Prompts:
    """Makes prompts of the greatest length that a model takes, by its own count, and sends them."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session, self._url, self._model = session, url, model

    async def longest(self, seed: int) -> str:
        """A text that leaves room for the answer and for no more than a few words."""
        draws, words = random.Random(seed), list[str]()
        room = await self._context() - ANSWER_TOKENS
        while (count := await self._tokens(" ".join(words))) < room - 8:
            words += draws.choices(_WORDS, k=max(1, (room - count) // 3))
        while await self._tokens(" ".join(words)) > room:
            words.pop()
        return " ".join(words)

    async def ask(self, text: str, stream: bool) -> Answer:
        """One prompt, to the end of its answer."""
        body = self._chat(text) | {"max_tokens": ANSWER_TOKENS, "stream": stream, "ignore_eos": True}
        body |= {"stream_options": {"include_usage": True}} if stream else {}
        began_s, data = time.monotonic(), b""
        try:
            async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            return Answer(0, time.monotonic() - began_s, 0, repr(failure))
        whole = answer.status == 200 and (not stream or sse.parse(data)[-1].data == sse.DONE)
        told = b'"error"' in data or not whole
        tokens = int(data.rpartition(b'"prompt_tokens":')[2].split(b",")[0]) if not told else 0
        error = data[-300:].decode(errors="replace") if told else ""
        return Answer(answer.status, time.monotonic() - began_s, tokens, error)

    async def _context(self) -> int:
        async with self._session.get(f"{self._url}/v1/models/{self._model}") as answer:
            return int((await answer.json())["max_model_len"])

    async def _tokens(self, text: str) -> int:
        async with self._session.post(f"{self._url}/tokenize", json=self._chat(text)) as answer:
            return int((await answer.json())["count"])

    def _chat(self, text: str) -> dict[str, Any]:
        return {"model": self._model, "messages": [{"role": "user", "content": text or "a"}]}


async def _measure(serving: Serving, model: str, count: int) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {serving.key}"}
    watcher = Watcher(serving.table)
    async with aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, trust_env=False) as session:
        prompts = Prompts(session, serving.url, model)
        texts = [await prompts.longest(seed) for seed in range(count)]
        before = await watcher.replicas()
        watching = asyncio.create_task(watcher.run())
        answers = await asyncio.gather(*(prompts.ask(text, i % 2 == 0) for i, text in enumerate(texts)))
        await asyncio.sleep(AFTER_S)
        after = await watcher.replicas()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    replaced = sum(len(known - after.get(name, frozenset())) for name, known in before.items())
    return {
        "answers": [[a.status, round(a.took_s, 2), a.prompt_tokens, a.error] for a in answers],
        "answered": sum(not a.error for a in answers),
        "prompt_tokens": min(a.prompt_tokens for a in answers),
        "slowest_s": max(a.took_s for a in answers),
        "replaced": replaced,
        "states": dict(watcher.states),
        "longest_step_s": watcher.longest_step_s,
    }


def _of_users(asked: list[Asked]) -> dict[str, Any]:
    failed = [one for one in asked if one.error]
    return {
        "requests": len(asked),
        "failed": [[one.model, one.status, one.error[:200]] for one in failed],
        "slowest_s": max((one.took_s for one in asked), default=0.0),
    }


def run(args: argparse.Namespace) -> Report:
    """The prompts and the users on one pool."""
    with served_pool.serving(args) as serving:
        others = ("auto", args.model, "tiny")
        with SteadyLoad(serving.url, serving.key, others, args.users_per_s, USER_BODY, REQUEST_S) as load:
            time.sleep(10.0)
            found = asyncio.run(_measure(serving, args.model, args.prompts))
        users = _of_users(load.asked)
    bars = (
        bar("long prompts answered", found["answered"], ">=", args.prompts),
        bar("replicas replaced", found["replaced"], "<=", 0),
        bar("times a replica was stalled", found["states"].get(ReplicaState.STALLED.value, 0), "<=", 0),
        bar("requests of users that failed", len(users["failed"]), "<=", 0),
    )
    return Report("long_prompts", bars, {**found, "users": users})
