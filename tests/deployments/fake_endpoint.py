"""A small OpenAI-shaped endpoint with canned answers and faults, and suites and cards to go with it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.suites.suite import Suite, load_suite

KEY = "key-of-the-tests"


class FakeEndpoint:
    """Answers `answer(model, prompt)`; `fault(model, prompt)` may give an HTTP status or "cut" instead."""

    def __init__(
        self, answer: Callable[[str, str], str], delay_s: float = 0.0, open_to_all: bool = False
    ) -> None:
        self.answer = answer
        self.open_to_all = open_to_all  # without it only `key` is let in
        self.key = KEY
        self.fault: Callable[[str, str], int | str | None] = lambda model, prompt: None
        self.delay_s = delay_s
        self.asked: Counter[tuple[str, str]] = Counter()
        self.finished: Counter[tuple[str, str]] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.active = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if not self.open_to_all and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response(
                {"error": {"message": "Wrong key.", "code": "invalid_api_key"}}, status=401
            )
        body = await request.json()
        self.bodies.append(body)
        model, prompt = body["model"], body["messages"][-1]["content"]
        self.asked[model, prompt] += 1
        fault = self.fault(model, prompt)
        if isinstance(fault, int):
            error = {"message": "No.", "type": "x", "param": None, "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=fault, headers={"retry-after": "0"})
        self.active += 1
        try:
            await asyncio.sleep(self.delay_s)
            return await self._stream(request, model, prompt, cut=fault == "cut")
        finally:
            self.active -= 1

    async def _stream(self, request: web.Request, model: str, prompt: str, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        words = self.answer(model, prompt).split(" ")
        for place, word in enumerate(words):
            text = word if place == 0 else f" {word}"
            event = {"choices": [{"index": 0, "delta": {"content": text}}]}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            if cut:
                return response
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words)}
        await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        self.finished[model, prompt] += 1
        return response


def sums(folder: Path, count: int = 12, name: str = "sums") -> Suite:
    """A suite of additions, each by name 'n+1?'."""
    return load_suite(sums_file(folder, count, name))


def sums_file(folder: Path, count: int = 12, name: str = "sums", grader: str = "number") -> Path:
    """The file of `sums`."""
    rows = [
        {
            "id": f"i{n}",
            "task": f"t{n % 3}",
            "prompt": f"{n}+1?",
            "answer": str(n + 1),
            "grader": grader,
            "max_tokens": 8,
        }
        for n in range(count)
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def right(model: str, prompt: str) -> str:
    """'good' is always right, every other model only about even numbers."""
    n = int(prompt.partition("+")[0])
    return f"It is {n + 1}" if model == "good" or n % 2 == 0 else "I do not know"


def card(model: str, revision: str = "r1", price: float = 1.0) -> ModelCard:
    """A card that costs `price` dollars for a million tokens."""
    return ModelCard(
        model,
        "simulated",
        "x",
        2048,
        prompt_usd_per_mtok=price,
        completion_usd_per_mtok=price,
        revision=revision,
    )


def warm(model: str, **fields: Any) -> ReplicaRow:
    """A warm replica of a model."""
    return ReplicaRow(
        f"{model}-0", model, state=ReplicaState.WARM, **({"url": "http://x", "slots": 4} | fields)
    )
