"""Asks one model one item over the OpenAI API, streamed, and takes the times and the token counts."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from deployments import sse
from deployments.suites.item import Item


class TransientError(RuntimeError):
    """No answer now: busy, away, broken off. Asking again later may help; the model is not to blame."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EvaluationError(RuntimeError):
    """The evaluation cannot go on, such as for a wrong key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to an item. `error` is the endpoint's code where the item cannot be served."""

    text: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    error: str | None = None


class EvaluationClient:
    """One endpoint; the same for FastServe and for an engine asked directly. `url` gives it, without /v1."""

    def __init__(self, url: Callable[[], str], api_key: str, request_s: float = 120.0) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._timeout = aiohttp.ClientTimeout(total=request_s, sock_connect=10.0)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, model: str, item: Item) -> Answer:
        """The answer, greedy. Raises TransientError, or EvaluationError where the key is refused."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        body = request_body(model, item)
        url = self._url().rstrip("/") + "/v1/chat/completions"
        started_s = time.perf_counter()
        try:
            async with self._session.post(url, json=body, headers=self._headers) as response:
                if response.status != 200:
                    return _refusal(response, await response.read())
                return await _streamed(response, started_s)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error


def request_body(model: str, item: Item) -> dict[str, Any]:
    """The request for an item: temperature 0, streamed, with usage."""
    return {
        "model": model,
        "messages": [dict(message) for message in item.messages],
        "max_tokens": item.max_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    """A 4xx is the item's or the key's fault; everything else may pass."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error.get("message", "")), str(error.get("code") or error.get("type") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = body[:200].decode(errors="replace"), ""
    status = response.status
    if status in (401, 403):
        raise EvaluationError(f"The endpoint refused the key ({status}): {message}")
    if status in (400, 413, 422):
        return Answer(error=code or str(status))
    retry_after = response.headers.get("retry-after", "")
    raise TransientError(f"{status}: {message}", float(retry_after) if retry_after.isdecimal() else 0.0)


async def _streamed(response: aiohttp.ClientResponse, started_s: float) -> Answer:
    texts: list[str] = []
    usage: Mapping[str, Any] = {}
    first_s = last_s = None
    async for event in _events(response):
        if "error" in event:
            raise TransientError(f"the stream ended with an error: {str(event['error'])[:200]}")
        usage = event.get("usage") or usage
        for choice in event.get("choices") or []:
            text = (choice.get("delta") or {}).get("content")
            if text:
                last_s = time.perf_counter()
                first_s = first_s or last_s
                texts.append(text)
    ended_s = time.perf_counter()
    output_tokens = int(usage.get("completion_tokens") or 0)
    spread = first_s is not None and last_s is not None and output_tokens > 1
    return Answer(
        text="".join(texts),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=output_tokens,
        ttft_s=None if first_s is None else first_s - started_s,
        tpot_s=(last_s - first_s) / (output_tokens - 1) if spread and first_s and last_s else None,
        e2e_s=ended_s - started_s,
    )


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Mapping[str, Any]]:
    """The events up to [DONE]. Raises TransientError where the stream ends without it."""
    async for event in sse.events(response.content.iter_any()):
        if event.data == sse.DONE:
            return
        try:
            content = json.loads(event.data or b"")
        except ValueError as error:
            raise TransientError("not an event stream") from error
        if isinstance(content, dict):
            yield content
    raise TransientError("the stream ended early")
