"""Answers of chat completions as Anthropic's clients read them: whole, streamed, and errors."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from deployments.sse import DONE, Event
from serve_app.http.errors import ApiError

_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ERRORS: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: ApiError) -> bytes:
    """An error in Anthropic's shape; our `param` and `code` stand beside what its clients read."""
    kind = _ERRORS.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    detail = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    return orjson.dumps({"type": "error", "error": detail})


class Messages:
    """The answer to one request of /v1/messages."""

    def whole(self, body: bytes) -> bytes:
        """A whole chat completion as a message."""
        chat = orjson.loads(body)
        choice = chat["choices"][0]
        message, usage = choice["message"], _usage(chat.get("usage"))
        content: list[dict[str, Any]] = []
        thought = message.get("reasoning") or message.get("reasoning_content")
        if thought:
            content.append({"type": "thinking", "thinking": thought, "signature": ""})
        if message.get("content"):
            content.append({"type": "text", "text": message["content"]})
        content += [_tool_use(call) for call in message.get("tool_calls") or ()]
        return orjson.dumps({**_head(chat), "content": content, **_end(choice, content), "usage": usage})

    def events(self, error: ApiError) -> bytes:
        """The error inside a stream that has begun."""
        return b"event: error\ndata: " + error_body(error) + b"\n\n"

    def stream(self) -> "MessageStream":
        """Translates a stream, event by event."""
        return MessageStream()


class MessageStream:
    """One stream of chat chunks as events of a message."""

    def __init__(self) -> None:
        self._started = False
        self._open = ""  # kind of the block that is open, with a tool call's number
        self._index = -1
        self._kinds: list[dict[str, Any]] = []
        self._choice: Mapping[str, Any] = {}
        self._usage: dict[str, Any] = _usage(None)

    def take(self, event: Event) -> bytes:
        """The events that one event of the chat becomes; none for a comment."""
        if event.data is None:
            return event.raw
        if event.data == DONE:
            return b"".join(self._finish())
        chunk = orjson.loads(event.data)
        return b"".join(self._chunk(chunk))

    def _chunk(self, chunk: Mapping[str, Any]) -> Iterable[bytes]:
        if not self._started:
            self._started = True
            message = {**_head(chunk), "content": [], "stop_reason": None, "stop_sequence": None}
            yield _event("message_start", message={**message, "usage": _usage(None)})
        if isinstance(chunk.get("usage"), dict):
            self._usage = _usage(chunk["usage"])
        if chunk.get("error"):
            yield Messages().events(ApiError(502, str(chunk["error"])[:500]))
        for choice in chunk.get("choices") or ():
            yield from self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                self._choice = choice

    def _delta(self, delta: Mapping[str, Any]) -> Iterable[bytes]:
        thought = delta.get("reasoning") or delta.get("reasoning_content")
        if thought:
            yield from self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._piece({"type": "thinking_delta", "thinking": thought})
        if delta.get("content"):
            yield from self._block("text", {"type": "text", "text": ""})
            yield self._piece({"type": "text_delta", "text": delta["content"]})
        for call in delta.get("tool_calls") or ():
            block = _tool_use(call) | {"input": {}}
            yield from self._block(f"tool {call.get('index', 0)}", block)
            arguments = (call.get("function") or {}).get("arguments")
            if arguments:
                yield self._piece({"type": "input_json_delta", "partial_json": arguments})

    def _block(self, kind: str, block: dict[str, Any]) -> Iterable[bytes]:
        if self._open == kind:
            return
        yield from self._close()
        self._open, self._index = kind, self._index + 1
        self._kinds.append(block)
        yield _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> Iterable[bytes]:
        if self._open:
            self._open = ""
            yield _event("content_block_stop", index=self._index)

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _finish(self) -> Iterable[bytes]:
        yield from self._close()
        yield _event("message_delta", delta=_end(self._choice, self._kinds), usage=self._usage)
        yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def _head(chat: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"msg_{chat.get('id')}", "type": "message", "role": "assistant", "model": chat.get("model")}


def _end(choice: Mapping[str, Any], content: list[dict[str, Any]]) -> dict[str, Any]:
    stop = choice.get("stop_reason")
    if isinstance(stop, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    called = any(block["type"] == "tool_use" for block in content)
    reason = "tool_use" if called else _REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
    return {"stop_reason": reason, "stop_sequence": None}


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        given = {}
    value = given if isinstance(given, dict) else {}
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": value}


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": details.get("cached_tokens") or 0,
    }
