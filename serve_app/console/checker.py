"""Send real requests to every model of a running endpoint and to `auto`; measure and judge the answers."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from serve_app.console.events import events

QUESTION = (
    "Is this review positive or negative? 'The room was clean and the staff were kind.' Answer in one word."
)
MAX_TOKENS = 24
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's result. `model` is the one that answered; `error` is empty when all went well."""

    asked: str
    streamed: bool
    model: str = ""
    ttft_s: float = float("nan")
    tokens_per_s: float = float("nan")
    text: str = ""
    error: str = ""


def _body(asked: str, streamed: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": asked,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": streamed,
    }
    return body | ({"stream_options": {"include_usage": True}} if streamed else {})


class Checker:
    """Asks one endpoint; `trust` says which certificates it may show, in place of those of the machine."""

    def __init__(self, base_url: str, key: str, trust: ssl.SSLContext | None = None) -> None:
        self._base_url, self._trust = base_url, trust
        self._headers = {"Authorization": f"Bearer {key}"}

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._trust or True)
        return aiohttp.ClientSession(
            self._base_url, headers=self._headers, timeout=timeout, connector=connector
        )

    async def models(self) -> list[str]:
        """Ids that the endpoint lists, `auto` and its profiles included."""
        async with self._session() as session, session.get("/v1/models") as response:
            response.raise_for_status()
            return [model["id"] for model in (await response.json())["data"]]

    async def ask(self, asked: str, streamed: bool) -> Answer:
        """One chat request; whatever goes wrong is in the answer's `error`."""
        try:
            async with self._session() as session:
                start_s = time.perf_counter()
                async with session.post("/v1/chat/completions", json=_body(asked, streamed)) as response:
                    if response.status != 200:
                        return Answer(
                            asked, streamed, error=f"{response.status} {(await response.text())[:200]}"
                        )
                    read = self._read_stream if streamed else self._read_plain
                    return await read(asked, response, start_s)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            return Answer(asked, streamed, error=f"{type(error).__name__}: {error}")

    async def _read_plain(self, asked: str, response: aiohttp.ClientResponse, start_s: float) -> Answer:
        body = await response.json()
        took_s = time.perf_counter() - start_s
        tokens = body["usage"]["completion_tokens"]
        text = body["choices"][0]["message"]["content"] or ""
        return _judged(Answer(asked, False, body["model"], took_s, tokens / took_s, text), response)

    async def _read_stream(self, asked: str, response: aiohttp.ClientResponse, start_s: float) -> Answer:
        first_s, text, model, tokens = float("nan"), "", "", 0
        async for event in events(response):
            if "error" in event:
                return Answer(asked, True, error=str(event["error"]))
            model = event["model"]
            piece = (event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""
            if piece and not text:
                first_s = time.perf_counter() - start_s
            text += piece
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        took_s = time.perf_counter() - start_s
        return _judged(Answer(asked, True, model, first_s, tokens / took_s, text), response)


def _judged(answer: Answer, response: aiohttp.ClientResponse) -> Answer:
    told = response.headers.get("x-fastserve-model")
    if answer.model != told:
        problem = f"the body says '{answer.model}', x-fastserve-model says '{told}'"
    elif not answer.text.strip():
        problem = "the answer is empty"
    else:
        return answer
    return Answer(answer.asked, answer.streamed, answer.model, error=problem)


def check(
    base_url: str, key: str, progress: Callable[[str], None], trust: ssl.SSLContext | None = None
) -> list[Answer]:
    """Every model and `auto`, plain and streamed, one after the other."""

    async def run() -> list[Answer]:
        checker, answers = Checker(base_url, key, trust), []
        for asked in await checker.models():
            for streamed in (False, True):
                progress(f"{asked} {'streamed' if streamed else 'plain'}")
                answers.append(await checker.ask(asked, streamed))
        return answers

    return asyncio.run(run())
