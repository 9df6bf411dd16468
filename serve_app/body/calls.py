"""From a parsed body to a checked Call, one function per endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.dispatch.request import Prompt
from serve_app.body import checks, fields
from serve_app.body.fields import check_part
from serve_app.body.rewording import reworded
from serve_app.body.strict_json import Body, dump
from serve_app.config import Caps
from serve_app.http.errors import bad_request


@dataclass(slots=True)
class Call:
    """One request to a model, parsed and within the caps. `body` may still be changed before it is sent."""

    path: str  # of the engine, such as /v1/chat/completions
    body: Body
    model: str
    prompt: Prompt
    stream: bool = False
    max_tokens_field: str = "max_tokens"
    changed: bool = field(default=False)  # `body` is no longer what the caller's bytes say

    @property
    def prompt_field(self) -> str:
        """The field of the body that holds the prompt."""
        return _PROMPT_FIELDS[self.path]


_PROMPT_FIELDS = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/responses": "input",
    "/v1/embeddings": "input",
}

_ROLES = checks.one_of(("system", "developer", "user", "assistant", "tool", "function"))
_MAX_TOKEN_ID = 2**31 - 1
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking", "reasoning"})


class Calls:
    """The builders of all endpoints under one set of caps."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        shared = fields.sampling_fields(caps)
        self._chat: Mapping[str, checks.Check] = shared | {"logprobs": checks.flag}
        self._text: Mapping[str, checks.Check] = shared | {"logprobs": checks.whole(0, caps.top_logprobs)}
        self._responses: Mapping[str, checks.Check] = shared | {
            "background": checks.refused,
            "text": fields.text_options(caps),
        }
        self._embeddings: Mapping[str, checks.Check] = shared | {
            "encoding_format": checks.one_of(("float", "base64")),
            "dimensions": checks.whole(1, 1_000_000),
        }

    def fields(self, path: str) -> Mapping[str, checks.Check]:
        """The fields that are checked in a body for `path`; none for a path that takes no call."""
        known = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._text,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
        }
        return known.get(path, {})

    def chat(self, body: Body) -> Call:
        """/v1/chat/completions. Raises ApiError (400)."""
        fields.check_fields(body, self._chat)
        messages = checks.array(_present(body, "messages"), "messages", self.caps.messages, 1)
        reader = _Reader(self.caps)
        for index, message in enumerate(messages):
            reader.message(message, f"messages[{index}]")
        limit_field = (
            "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        )
        return self._call("/v1/chat/completions", body, reader.prompt(len(messages)), limit_field)

    def completion(self, body: Body) -> Call:
        """/v1/completions. Raises ApiError (400)."""
        fields.check_fields(body, self._text)
        prompt = self._prompts(_present(body, "prompt"), "prompt", self.caps.prompts)
        reader = _Reader(self.caps)
        reader.add(prompt.text, "prompt")
        return self._call("/v1/completions", body, prompt, "max_tokens")

    def response(self, body: Body) -> Call:
        """/v1/responses. Raises ApiError (400)."""
        fields.check_fields(body, self._responses)
        given = _present(body, "input")
        reader = _Reader(self.caps)
        if body.get("instructions") is not None:
            reader.add(checks.text(body["instructions"], "instructions"), "instructions")
        items = [given] if isinstance(given, str) else checks.array(given, "input", self.caps.messages, 1)
        for index, item in enumerate(items):
            if isinstance(item, str):
                reader.add(item, "input")
            else:
                reader.item(item, f"input[{index}]")
        return self._call("/v1/responses", body, reader.prompt(len(items)), "max_output_tokens")

    def embedding(self, body: Body) -> Call:
        """/v1/embeddings. Raises ApiError (400)."""
        fields.check_fields(body, self._embeddings)
        prompt = self._prompts(_present(body, "input"), "input", self.caps.embedding_inputs)
        if body.get("stream"):
            raise bad_request("Embeddings cannot be streamed.", "stream")
        prompt = replace(prompt, max_tokens=0, needs=frozenset({"embeddings"}))
        return Call("/v1/embeddings", body, _model(body), prompt)

    def _call(self, path: str, body: Body, prompt: Prompt, limit_field: str) -> Call:
        """A call to generate; `prompt` gets its limit and what the body needs besides."""
        tools = body.get("tools")
        extra_chars = prompt.extra_chars
        if tools is not None:
            fields.tools(tools, "tools", self.caps)
            extra_chars += len(dump(tools))
        needs = prompt.needs | _needs(body)
        prompt = replace(prompt, max_tokens=body.get(limit_field), needs=needs, extra_chars=extra_chars)
        stream = body.get("stream") is True
        return Call(path, body, _model(body), prompt, stream, limit_field, reworded(body))

    def _prompts(self, value: Any, param: str, most: int) -> Prompt:
        """One prompt or several, as text or as token ids."""
        if isinstance(value, str):
            return Prompt(value)
        entries = checks.array(value, param, self.caps.text_chars, 1)
        if set(map(type, entries)) == {int}:
            _token_ids(entries, param)
            return Prompt(tokens=len(entries))
        if len(entries) > most:
            raise bad_request(f"'{param}' has {len(entries)} entries; at most {most} are allowed.", param)
        if all(isinstance(entry, str) for entry in entries):
            return Prompt("\n".join(entries), longest=max(entries, key=len))
        for index, entry in enumerate(entries):
            _token_ids(checks.array(entry, f"{param}[{index}]", self.caps.text_chars, 1), f"{param}[{index}]")
        sizes = [len(entry) for entry in entries]
        return Prompt(tokens=sum(sizes), longest_tokens=max(sizes))


class _Reader:
    """Walks messages, gathers their text and counts their media."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self.texts: list[str] = []
        self.media = 0
        self.extra_chars = 0  # of calls of tools
        self._chars = 0

    def prompt(self, turns: int) -> Prompt:
        """What was read, as one prompt of so many turns."""
        needs = frozenset({"vision"} if self.media else ())
        return Prompt("\n".join(self.texts), turns, needs=needs, extra_chars=self.extra_chars)

    def add(self, text: str, param: str) -> None:
        self._chars += len(text)
        if self._chars > self._caps.text_chars:
            raise bad_request(f"The request's text is longer than {self._caps.text_chars} characters.", param)
        self.texts.append(text)

    def message(self, message: Any, param: str) -> None:
        """One chat message: role, content, tool calls."""
        checks.record(message, param)
        role = message.get("role")
        _ROLES(role, f"{param}.role")
        content = message.get("content")
        if content is None and role != "assistant":
            raise bad_request(
                f"'{param}.content' is required.", f"{param}.content", "missing_required_parameter"
            )
        self._content(content, f"{param}.content")
        if message.get("tool_calls") is not None:
            for index, call in enumerate(
                checks.array(message["tool_calls"], f"{param}.tool_calls", self._caps.tools)
            ):
                checks.record(call, f"{param}.tool_calls[{index}]")
                self.extra_chars += len(dump(call))

    def item(self, item: Any, param: str) -> None:
        """One input item of the responses API; items that are no message pass through."""
        checks.record(item, param)
        if "role" in item:
            self._content(item.get("content"), f"{param}.content")
        else:
            self.extra_chars += len(dump(item))

    def _content(self, content: Any, param: str) -> None:
        if content is None:
            return
        if type(content) is str:
            self.add(content, param)
            return
        if type(content) is not list:
            raise bad_request(f"'{param}' must be a string or an array of parts.", param, "invalid_type")
        for index, part in enumerate(content):
            if type(part) is dict and part.get("type") == "text" and type(part.get("text")) is str:
                self.add(part["text"], param)
            else:
                self._part(part, f"{param}[{index}]")

    def _part(self, part: Any, param: str) -> None:
        kind = checks.text(checks.record(part, param).get("type"), f"{param}.type")
        if kind in _TEXT_PARTS:
            field = "refusal" if kind == "refusal" else "text" if "text" in part else kind
            self.add(checks.text(part.get(field), f"{param}.{field}"), param)
            return
        self.media += 1
        if self.media > self._caps.media_parts:
            raise bad_request(f"The request has more than {self._caps.media_parts} media parts.", param)
        check_part(part, kind, param, self._caps)


def _present(body: Body, name: str) -> Any:
    value = body.get(name)
    if value is None:
        raise bad_request(f"'{name}' is required.", name, "missing_required_parameter")
    return value


def _model(body: Body) -> str:
    model: str = _present(body, "model")
    if not model:
        raise bad_request("'model' is empty.", "model")
    return model


def _needs(body: Body) -> frozenset[str]:
    needs = {"chat"}
    if body.get("tools"):
        needs.add("tools")
    options = body.get("text")  # of the responses API
    form = body.get("response_format") or (options.get("format") if isinstance(options, dict) else None)
    if (isinstance(form, dict) and form.get("type") != "text") or body.get("structured_outputs"):
        needs.add("json")
    return frozenset(needs)


def _token_ids(entries: list[Any], param: str) -> None:
    if set(map(type, entries)) == {int} and min(entries) >= 0 and max(entries) <= _MAX_TOKEN_ID:
        return
    entry = checks.whole(0, _MAX_TOKEN_ID)
    for index, token in enumerate(entries):
        entry(token, f"{param}[{index}]")
