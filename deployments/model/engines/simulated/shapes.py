"""OpenAI's request and answer shapes as the simulated engine speaks them: chat, completions, responses.

Whole chat and text answers have every field that vLLM's have, null where there is nothing to say.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.model.engines.simulated.text import Plan

FINGERPRINT: Final = "simulated"
_UNSAID: Final = dict.fromkeys(("service_tier", "kv_transfer_params", "ec_transfer_params", "metrics"))
_UNSAID_OF_CHAT: Final = dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))
_UNSAID_OF_CHOICE: Final = dict.fromkeys(("logprobs", "stop_reason", "token_ids", "routed_experts"))
_UNSAID_OF_TEXT: Final = dict.fromkeys(("prompt_logprobs", "prompt_token_ids"))
_UNSAID_OF_MESSAGE: Final = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
_UNSAID_OF_USAGE: Final = dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"))


class BadRequestError(ValueError):
    """The body is not what the API takes; `param` names the field."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request over all its choices."""

    prompt_tokens: int
    output_tokens: int


def sse(data: Mapping[str, Any], event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class Shape(ABC):
    """One request's way of being answered. `prompts` are its prompts, each with its last user message."""

    limit_fields: tuple[str, ...] = ("max_tokens",)
    prefix = "cmpl"
    kind = "text_completion"
    stream_kind = "text_completion"

    def __init__(self, body: Mapping[str, Any], decision_id: str) -> None:
        self.body = body
        self.id = f"{self.prefix}-{decision_id}"
        self.created = int(time.time())
        self.is_answered = False  # the last message is a tool's result
        self._called: set[int] = set()  # choices whose call has begun
        self.prompts = self.read(body)

    @abstractmethod
    def read(self, body: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The prompts as text, each with its last user message.

        Raises:
            BadRequestError: the prompt is absent or of a wrong type.
        """

    @abstractmethod
    def choice(self, index: int, plan: Plan) -> dict[str, Any]:
        """One finished choice."""

    @abstractmethod
    def delta(self, index: int, text: str, finish_reason: str | None, tool: str = "") -> bytes:
        """The event of one token; with `tool` it is one of the arguments of a call."""

    def answer(self, plans: Sequence[Plan], usage: Usage) -> dict[str, Any]:
        """The whole body of a request without streaming."""
        choices = [self.choice(index, plan) for index, plan in enumerate(plans)]
        return {**self._head(self.kind), "choices": choices, "usage": _usage(usage), **_UNSAID}

    def opening(self, plans: Sequence[Plan]) -> Iterable[bytes]:
        """Events before the first token."""
        return ()

    def ending(self, plans: Sequence[Plan], usage: Usage) -> Iterable[bytes]:
        """Events after the last token."""
        options = self.body.get("stream_options") or {}
        if options.get("include_usage"):
            yield sse({**self._head(self.stream_kind), "choices": [], "usage": _usage(usage)})
        yield b"data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.body["model"],
            "system_fingerprint": FINGERPRINT,
        }

    def _event(self, choice: dict[str, Any]) -> bytes:
        return sse({**self._head(self.stream_kind), "choices": [choice]})


class Chat(Shape):
    """/v1/chat/completions."""

    limit_fields = ("max_completion_tokens", "max_tokens")
    prefix = "chatcmpl"
    kind = "chat.completion"
    stream_kind = "chat.completion.chunk"

    def read(self, body: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Messages joined by line breaks, tools included."""
        messages: Any = body.get("messages")
        found = _messages(messages, "messages")
        self.is_answered = messages[-1].get("role") == "tool"
        return [_with_tools(body, found)]

    def choice(self, index: int, plan: Plan) -> dict[str, Any]:
        """A choice with its message."""
        message = {"role": "assistant", "content": plan.text, **_UNSAID_OF_MESSAGE}
        if plan.tool:
            function = {"name": plan.tool, "arguments": plan.text}
            call = {"id": self._call_id(index), "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        finish = {"finish_reason": plan.finish_reason}
        return {"index": index, "message": message, **finish, **_UNSAID_OF_CHOICE}

    def answer(self, plans: Sequence[Plan], usage: Usage) -> dict[str, Any]:
        """The whole chat completion."""
        return {**super().answer(plans, usage), **_UNSAID_OF_CHAT}

    def opening(self, plans: Sequence[Plan]) -> Iterable[bytes]:
        """The role of each choice."""
        for index in range(len(plans)):
            delta = {"role": "assistant", "content": ""}
            yield self._event({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})

    def delta(self, index: int, text: str, finish_reason: str | None, tool: str = "") -> bytes:
        """A piece of content, or of a call's arguments."""
        delta: dict[str, Any] = {"content": text}
        if tool:
            call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
            if index not in self._called:
                self._called.add(index)
                call |= {"id": self._call_id(index), "type": "function"}
                call["function"] = {"name": tool, "arguments": text}
            delta = {"tool_calls": [call]}
        return self._event({"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason})

    def _call_id(self, index: int) -> str:
        return f"call_{self.id}_{index}"


class Completion(Shape):
    """/v1/completions."""

    def read(self, body: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The prompts: strings or token ids, one or many."""
        return [(text, text) for text in texts_of(body.get("prompt"), "prompt")]

    def choice(self, index: int, plan: Plan) -> dict[str, Any]:
        """A choice with its text."""
        finish = {"finish_reason": plan.finish_reason}
        return {"index": index, "text": plan.text, **finish, **_UNSAID_OF_CHOICE, **_UNSAID_OF_TEXT}

    def delta(self, index: int, text: str, finish_reason: str | None, tool: str = "") -> bytes:
        """A piece of text."""
        return self._event({"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason})


class Response(Shape):
    """/v1/responses, with one output message."""

    limit_fields = ("max_output_tokens",)
    prefix = "resp"

    def read(self, body: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The input: a string or messages."""
        given = body.get("input")
        found = (given, given) if isinstance(given, str) else _messages(given, "input")
        last = given[-1] if isinstance(given, list) and given else {}
        self.is_answered = isinstance(last, dict) and last.get("type") == "function_call_output"
        return [_with_tools(body, found)]

    def choice(self, index: int, plan: Plan) -> dict[str, Any]:
        """The output message, or the call."""
        if plan.tool:
            return self._call(plan, "completed")
        content = [{"type": "output_text", "text": plan.text, "annotations": []}]
        status = "completed" if plan.finish_reason == "stop" else "incomplete"
        return {
            "type": "message",
            "id": f"msg_{self.id}",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def answer(self, plans: Sequence[Plan], usage: Usage) -> dict[str, Any]:
        """The whole response object."""
        output = [self.choice(0, plans[0])]
        counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
        cut = {"reason": "max_output_tokens"} if plans[0].finish_reason == "length" else None
        return {
            **self._response("incomplete" if cut else "completed"),
            "incomplete_details": cut,
            "output": output,
            "usage": {**counts, "total_tokens": sum(counts.values())},
        }

    def opening(self, plans: Sequence[Plan]) -> Iterable[bytes]:
        """The response and its one output item begin."""
        if plans[0].tool:
            call = {**self._call(plans[0], "in_progress"), "arguments": ""}
            yield self._named("response.created", {"response": self._response("in_progress")})
            yield self._named("response.output_item.added", {"output_index": 0, "item": call})
            return
        message = {**self.choice(0, Plan((), "length")), "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        yield self._named("response.created", {"response": self._response("in_progress")})
        yield self._named("response.output_item.added", {"output_index": 0, "item": message})
        yield self._named("response.content_part.added", {**self._place(), "part": part})

    def delta(self, index: int, text: str, finish_reason: str | None, tool: str = "") -> bytes:
        """A piece of output text, or of a call's arguments."""
        if tool:
            place = {"item_id": f"fc_{self.id}", "output_index": 0}
            return self._named("response.function_call_arguments.delta", {**place, "delta": text})
        return self._named("response.output_text.delta", {**self._place(), "delta": text, "logprobs": []})

    def ending(self, plans: Sequence[Plan], usage: Usage) -> Iterable[bytes]:
        """The text, the message and the response are whole."""
        if plans[0].tool:
            yield from self._called_ending(plans, usage)
            return
        message = self.choice(0, plans[0])
        text = {**self._place(), "text": plans[0].text, "logprobs": []}
        answer = self.answer(plans, usage)
        yield self._named("response.output_text.done", text)
        yield self._named("response.content_part.done", {**self._place(), "part": message["content"][0]})
        yield self._named("response.output_item.done", {"output_index": 0, "item": message})
        yield self._named(f"response.{answer['status']}", {"response": answer})

    def _call(self, plan: Plan, status: str) -> dict[str, Any]:
        ids = {"id": f"fc_{self.id}", "call_id": f"call_{self.id}"}
        return {"type": "function_call", **ids, "name": plan.tool, "arguments": plan.text, "status": status}

    def _called_ending(self, plans: Sequence[Plan], usage: Usage) -> Iterable[bytes]:
        call, answer = self._call(plans[0], "completed"), self.answer(plans, usage)
        done = {
            "item_id": call["id"],
            "output_index": 0,
            "name": call["name"],
            "arguments": call["arguments"],
        }
        yield self._named("response.function_call_arguments.done", done)
        yield self._named("response.output_item.done", {"output_index": 0, "item": call})
        yield self._named(f"response.{answer['status']}", {"response": answer})

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.body["model"],
            "status": status,
            "error": None,
            "metadata": {FINGERPRINT: "true"},
            "output": [],
            "parallel_tool_calls": False,
            "tool_choice": self.body.get("tool_choice") or "auto",
            "tools": self.body.get("tools") or [],
        }

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}

    def _named(self, name: str, data: Mapping[str, Any]) -> bytes:
        self._sequence = getattr(self, "_sequence", -1) + 1
        return sse({"type": name, "sequence_number": self._sequence, **data}, name)


def _usage(usage: Usage) -> dict[str, int | None]:
    total = usage.prompt_tokens + usage.output_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": total,
        **_UNSAID_OF_USAGE,
    }


def texts_of(given: Any, field: str) -> list[str]:
    """A string, token ids, or a list of either, as texts. Raises BadRequestError for anything else."""
    entries = given if isinstance(given, list) and given and not _is_tokens(given) else [given]
    if not all(isinstance(entry, str) or _is_tokens(entry) for entry in entries):
        raise BadRequestError(f"'{field}' must be a string, token ids, or a list of either.", field)
    return [entry if isinstance(entry, str) else " ".join(map(str, entry)) for entry in entries]


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) in (int, float) for token in value)


def _with_tools(body: Mapping[str, Any], found: tuple[str, str]) -> tuple[str, str]:
    """A prompt with the tools that a chat template would render into it."""
    tools = body.get("tools")
    prompt, last = found
    return (f"{prompt}\n{json.dumps(tools)}" if tools else prompt), last


def _messages(messages: object, field: str) -> tuple[str, str]:
    if not isinstance(messages, list) or not messages:
        raise BadRequestError(f"'{field}' must be a list of at least one message.", field)
    texts, last = [], ""
    for message in messages:
        if not isinstance(message, dict):
            raise BadRequestError(f"'{field}' must hold objects.", field)
        text = _content(message.get("content"), field)
        texts.append(text)
        if message.get("role") == "user":
            last = text
    return "\n".join(texts), last


def _content(content: object, field: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    raise BadRequestError(f"'{field}' has a content that is neither a string nor a list of parts.", field)
