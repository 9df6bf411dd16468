"""A chat with the endpoint from a terminal: the answer as it streams, and what was decided for it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from serve_app.console.events import events

TIMEOUT_S: Final = 300.0
_HEADERS: Final = ("model", "policy", "decision-id", "fallbacks", "degraded")


class TalkError(RuntimeError):
    """The endpoint gave no answer; the message is its own."""


@dataclass(slots=True)
class Reply:
    """One answer. `decision` is what the x-fastserve headers say."""

    text: str = ""
    decision: dict[str, str] = field(default_factory=dict)
    ttft_s: float = float("nan")
    took_s: float = 0.0
    tokens: int = 0

    def line(self) -> str:
        """The decision and the times on one line."""
        told = ", ".join(f"{name} {value}" for name, value in self.decision.items())
        rate = self.tokens / self.took_s if self.took_s > 0.0 else 0.0
        return f"[{told}; first token after {self.ttft_s:.2f} s, {self.tokens} tokens, {rate:.0f} tokens/s]"


class Talk:
    """Keeps the messages of one conversation."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self._url, self._model = url, model
        self._headers = {"authorization": f"Bearer {key}"}
        self._messages: list[dict[str, str]] = []

    async def ask(self, text: str, show: Callable[[str], None]) -> Reply:
        """Send the next message; the answer's pieces go to `show`. After a TalkError it may be sent again."""
        messages = [*self._messages, {"role": "user", "content": text}]
        body = {
            "model": self._model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
                reply = await self._stream(session, body, show)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TalkError(f"'{self._url}' does not answer: {error or type(error).__name__}.") from error
        self._messages = [*messages, {"role": "assistant", "content": reply.text}]
        return reply

    async def _stream(
        self, session: aiohttp.ClientSession, body: dict[str, Any], show: Callable[[str], None]
    ) -> Reply:
        began_s = time.perf_counter()
        async with session.post(f"{self._url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                raise TalkError(f"{response.status}: {await _refusal(response)}")
            found = {name: response.headers.get(f"x-fastserve-{name}") for name in _HEADERS}
            reply = Reply(decision={name: value for name, value in found.items() if value is not None})
            async for event in events(response):
                if "error" in event:
                    raise TalkError(str(event["error"].get("message", event["error"])))
                piece = (event["choices"][0]["delta"].get("content") or "") if event.get("choices") else ""
                if piece and not reply.text:
                    reply.ttft_s = time.perf_counter() - began_s
                show(piece)
                reply.text += piece
                reply.tokens = (event.get("usage") or {}).get("completion_tokens", reply.tokens)
        reply.took_s = time.perf_counter() - began_s
        return reply


async def _refusal(response: aiohttp.ClientResponse) -> str:
    text = await response.text()
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
