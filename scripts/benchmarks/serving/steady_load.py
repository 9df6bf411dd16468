"""A constant load on an endpoint, from a thread of its own: every other request is streamed."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import aiohttp

from deployments import sse

_PATIENCE_S = 120.0


Cut = Literal["", "told", "broken", "silent"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what it named, when it began (monotonic), its time; `error` "" for a whole answer.

    `status` 0: there was no answer. `cut`, of an answer that began and is not whole: "told" by an error
    event, "broken" off where HTTP does not allow an end, or "silent", which looks like a whole one.
    """

    model: str
    stream: bool
    began_s: float
    took_s: float
    error: str
    status: int = 0
    decision_id: str = ""
    cut: Cut = ""


class SteadyLoad:
    """Requests begin at a fixed rate whatever becomes of those before; `asked` grows until the end."""

    def __init__(
        self,
        url: str,
        key: str,
        models: Sequence[str],
        per_s: float,
        body: dict[str, Any],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.asked: list[Asked] = []
        self._url, self._models, self._per_s, self._body = f"{url}/v1/chat/completions", models, per_s, body
        self._timeout = aiohttp.ClientTimeout(total=patience_s)
        self._headers = {"authorization": f"Bearer {key}"}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with (
            aiohttp.ClientSession(headers=self._headers, timeout=self._timeout, trust_env=False) as session,
            asyncio.TaskGroup() as group,
        ):
            due_s = time.monotonic()
            for turn in itertools.count():
                if self._stop.is_set():
                    return
                model = self._models[turn // 2 % len(self._models)]
                group.create_task(self._ask(session, model, turn % 2 == 0, turn))
                due_s += 1.0 / self._per_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _ask(self, session: aiohttp.ClientSession, model: str, stream: bool, turn: int) -> None:
        messages = [{"role": "user", "content": f"Number {turn}: hello"}]
        body = {"model": model, "messages": messages, "stream": stream, **self._body}
        began_s, status, decision_id, parts, broken = time.monotonic(), 0, "", list[bytes](), ""
        try:
            async with session.post(self._url, json=body) as answer:
                status, decision_id = answer.status, answer.headers.get("x-fastserve-decision-id", "")
                async for part in answer.content.iter_any():
                    parts.append(part)
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            broken = repr(failure)
        data = b"".join(parts)
        error = broken or _error(status, data, stream)
        cut = _cut(error, broken, data) if status == 200 and data and error else ""
        took_s = time.monotonic() - began_s
        self.asked.append(Asked(model, stream, began_s, took_s, error, status, decision_id, cut))


def _cut(error: str, broken: str, data: bytes) -> Cut:
    if broken:
        return "broken"
    return "told" if sse.DONE in data and "error" in error else "silent"


def _error(status: int, data: bytes, stream: bool) -> str:
    """What is wrong with an answer; "" for nothing. A stream ends with its mark and has no error event."""
    if status != 200:
        return f"{status} {data[:200].decode(errors='replace')}"
    if not stream:
        return ""
    events = [event.data or b"" for event in sse.parse(data)]
    if events[-1:] != [sse.DONE]:
        return "the stream has no end mark"
    return next((event.decode() for event in events[:-1] if "error" in json.loads(event)), "")
