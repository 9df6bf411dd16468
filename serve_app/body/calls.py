"""From a parsed body to a checked Call, one function per endpoint."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.dispatch.request import Prompt
from deployments.records.operation import OPERATIONS
from serve_app.body import anthropic_fields, checks, described, fields
from serve_app.body.anthropic_answer import Messages
from serve_app.body.anthropic_request import to_chat
from serve_app.body.described import ITEM, MAX_TOKEN_ID, MESSAGE_ITEM, OWN_TEXT, ROLES, TEXT_PARTS
from serve_app.body.fields import check_kind
from serve_app.body.media import check_urls
from serve_app.body.rewording import reworded, said_nothing
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
    dialect: Messages | None = None  # the answer's, where it is not OpenAI's

    @property
    def prompt_field(self) -> str:
        """The field of the body that holds the prompt."""
        return OPERATIONS[self.path].prompt_field


_CALLS = frozenset({"function_call", "function_call_output"})
_OF_A_SESSION = ("prompt_cache_key", "safety_identifier", "user")  # what clients say of it anyway
_PAIRS = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
_SCORED = ("text_1", "text_2", "queries", "documents", "items", "data_1", "data_2")

_LONG_CHARS = 100_000
_NO_DIGITS = str.maketrans("", "", "0123456789")
_TEXT_PARTS = frozenset({*TEXT_PARTS, *OWN_TEXT})


@dataclass(frozen=True, slots=True)
class _Known:
    """What a path takes: its checked fields, those that hold the prompt, and who builds the call."""

    fields: Mapping[str, checks.Check]
    prompt: Mapping[str, checks.Schema]
    build: Callable[[Body], Call]


class Calls:
    """The builders of all endpoints under one set of caps."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self._besides = described.message_fields(caps)
        shared = fields.sampling_fields(caps)
        self._chat = shared | fields.chat_fields(caps)
        self._text = shared | fields.text_fields(caps)
        self._responses = shared | fields.response_fields(caps)
        self._embeddings = shared | fields.EMBEDDING_FIELDS
        self._reranks = shared | fields.RERANK_FIELDS
        texts = described.texts(caps.embedding_inputs)
        messages = {"messages": described.messages(caps)}
        self._known = {
            "/v1/chat/completions": _Known(self._chat, messages, self.chat),
            "/v1/completions": _Known(
                self._text, {"prompt": described.prompts(caps.prompts)}, self.completion
            ),
            "/v1/responses": _Known(self._responses, {"input": described.inputs(caps)}, self.response),
            "/v1/messages": _Known(
                anthropic_fields.message_fields(caps), anthropic_fields.described(caps), self.message
            ),
            "/v1/embeddings": _Known(
                self._embeddings, {"input": described.prompts(caps.embedding_inputs)}, self.embedding
            ),
            "/v1/rerank": _Known(
                self._reranks, {"query": {"type": "string"}, "documents": texts}, self.rerank
            ),
            "/v1/score": _Known(
                self._reranks, {name: checks.nullable(texts) for name in _SCORED}, self.score
            ),
        }

    def described(self, path: str) -> dict[str, Any]:
        """The body that `path` takes, in words of JSON Schema."""
        known = self._known[path]
        body = checks.object_of(known.fields, ("model", *OPERATIONS[path].required))
        body["properties"] |= known.prompt
        if path == "/v1/score":
            body["anyOf"] = [described.pair(one, other, self.caps.embedding_inputs) for one, other in _PAIRS]
        return body

    def build(self, path: str, body: Body) -> Call:
        """The call that `body` asks of `path`. Raises ApiError (400)."""
        return self._known[path].build(body)

    def chat(self, body: Body) -> Call:
        """/v1/chat/completions. Raises ApiError (400)."""
        fields.check_fields(body, self._chat)
        messages = checks.array(_present(body, "messages"), "messages", self.caps.messages, 1)
        reader = _Reader(self.caps, self._besides)
        for index, message in enumerate(messages):
            reader.message(message, f"messages[{index}]")
        limit_field = (
            "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        )
        prompt = replace(reader.prompt(len(messages)), conversation=reader.conversation(body))
        return self._call("/v1/chat/completions", body, prompt, limit_field, reader.changed)

    def completion(self, body: Body) -> Call:
        """/v1/completions. Raises ApiError (400)."""
        fields.check_fields(body, self._text)
        prompt = self._prompts(_present(body, "prompt"), "prompt", self.caps.prompts)
        reader = _Reader(self.caps, self._besides)
        reader.add(prompt.text, "prompt")
        return self._call("/v1/completions", body, prompt, "max_tokens")

    def response(self, body: Body) -> Call:
        """/v1/responses. Raises ApiError (400)."""
        fields.check_fields(body, self._responses)
        given = _present(body, "input")
        reader = _Reader(self.caps, self._besides)
        if body.get("instructions") is not None:
            reader.add(body["instructions"], "instructions")
        items = [given] if isinstance(given, str) else checks.array(given, "input", self.caps.messages, 1)
        for index, item in enumerate(items):
            if item is given:
                reader.add(given, "input")
            else:
                reader.item(item, f"input[{index}]")
        prompt = replace(reader.prompt(len(items)), conversation=reader.conversation(body))
        return self._call("/v1/responses", body, prompt, "max_output_tokens", reader.changed)

    def embedding(self, body: Body) -> Call:
        """/v1/embeddings. Raises ApiError (400)."""
        fields.check_fields(body, self._embeddings)
        prompt = self._prompts(_present(body, "input"), "input", self.caps.embedding_inputs)
        prompt = replace(prompt, max_tokens=0, needs=_capability("/v1/embeddings"))
        changed = said_nothing(body)
        return Call("/v1/embeddings", body, _model(body), _cut(prompt, body), changed=changed)

    def message(self, body: Body) -> Call:
        """/v1/messages, Anthropic's: the chat completion that means the same. Raises ApiError (400)."""
        call = self.chat(self.translated(body))
        call.dialect, call.changed = Messages(), True
        return call

    def translated(self, body: Body) -> Body:
        """The chat completion that a body of /v1/messages means. Raises ApiError (400)."""
        fields.check_fields(body, self._known["/v1/messages"].fields)
        return to_chat(body)

    def rerank(self, body: Body) -> Call:
        """/v1/rerank: how relevant each document is to one query. Raises ApiError (400)."""
        checks.text(_present(body, "query"), "query")
        return self._scored("/v1/rerank", body, "query", "documents")

    def score(self, body: Body) -> Call:
        """/v1/score: how near texts are to each other, in pairs. Raises ApiError (400)."""
        for name in _SCORED:
            if body.get(name) is not None:
                self._texts(body[name], name)
        pair = next((pair for pair in _PAIRS if all(body.get(name) is not None for name in pair)), None)
        if pair is None:
            names = " or ".join(f"'{one}' and '{two}'" for one, two in _PAIRS)
            raise bad_request(f"{names} are required.", "text_1", "missing_required_parameter")
        return self._scored("/v1/score", body, *pair)

    def _scored(self, path: str, body: Body, one: str, other: str) -> Call:
        fields.check_fields(body, self._reranks)
        queries, documents = (self._texts(_present(body, name), name) for name in (one, other))
        reader = _Reader(self.caps, self._besides)
        instruction = body.get("instruction") or ""
        for text in (instruction, *queries, *documents):
            reader.add(text, other)
        longest = instruction + max(queries, key=len) + max(documents, key=len)
        prompt = replace(reader.prompt(1), longest=longest, max_tokens=0, needs=_capability(path))
        changed = said_nothing(body)
        return Call(path, body, _model(body), _cut(prompt, body), changed=changed)

    def _texts(self, value: Any, param: str) -> list[str]:
        """One text or several, each a string or an object with `text`."""
        given = value if isinstance(value, list) else [value]
        entries = checks.array(given, param, self.caps.embedding_inputs, 1)
        found = [entry.get("text") if isinstance(entry, dict) else entry for entry in entries]
        return [checks.text(text, f"{param}[{index}]") for index, text in enumerate(found)]

    def _call(self, path: str, body: Body, prompt: Prompt, limit_field: str, changed: bool = False) -> Call:
        """A call to generate; `prompt` gets its limit and what the body needs besides."""
        changed |= reworded(body)
        tools, documents = body.get("tools"), body.get("documents")
        written = b"" if tools is None else dump(tools)
        needs = prompt.needs | _needs(body)
        prompt = replace(
            prompt,
            max_tokens=None if body.get(limit_field) is None else int(body[limit_field]),
            needs=needs,
            extra_chars=prompt.extra_chars + len(written) + (len(dump(documents)) if documents else 0),
            tools=written,
            uses_tools=prompt.uses_tools or bool(tools),
        )
        stream = body.get("stream") is True
        return Call(path, body, _model(body), _cut(prompt, body), stream, limit_field, changed)

    def _prompts(self, value: Any, param: str, most: int) -> Prompt:
        """One prompt or several, as text or as token ids."""
        if isinstance(value, str):
            return Prompt(value)
        entries = checks.array(value, param, self.caps.text_chars, 1)
        if set(map(type, entries)) <= {int, float}:
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

    def __init__(self, caps: Caps, besides: Mapping[str, checks.Check]) -> None:
        self._caps = caps
        self._besides = besides
        self.texts: list[str] = []
        self.media = 0
        self.changed = False  # a URL was written anew
        self.extra_chars = 0  # of calls of tools
        self.opening: list[str] | None = None  # the texts up to the first message of a user
        self.continues = False
        self.uses_tools = False
        self._chars = 0

    def prompt(self, turns: int) -> Prompt:
        """What was read, as one prompt of so many turns."""
        needs = frozenset({"vision"} if self.media else ())
        return Prompt(
            "\n".join(self.texts),
            turns,
            needs=needs,
            extra_chars=self.extra_chars,
            continues=self.continues,
            uses_tools=self.uses_tools,
        )

    def conversation(self, body: Body) -> str:
        """How the conversation begins and with whom, as a hash: the same for all of its requests."""
        opening = self.texts[:1] if self.opening is None else self.opening
        whom = [str(body.get(name) or "") for name in _OF_A_SESSION]
        digest = hashlib.blake2b(digest_size=16)
        for text in (*whom, *opening):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def _turn(self, role: Any, before: int) -> None:
        """A message was read, after `before` texts: what it says of the conversation.

        What stands before the first user's often holds the time, which every turn writes anew.
        """
        if role == "user" and self.opening is None:
            self.opening = [*map(_timeless, self.texts[:before]), *self.texts[before:]]
        self.continues |= role == "assistant"
        self.uses_tools |= role in ("tool", "function")

    def add(self, text: str, param: str) -> None:
        self._chars += len(text)
        if self._chars > self._caps.text_chars:
            raise bad_request(f"The request's text is longer than {self._caps.text_chars} characters.", param)
        self.texts.append(text)

    def message(self, message: Any, param: str) -> None:
        """One chat message: role, content, tool calls."""
        checks.record(message, param)
        role = message.get("role")
        ROLES(role, f"{param}.role")
        content = message.get("content")
        if content is None and role != "assistant":
            raise bad_request(
                f"'{param}.content' is required.", f"{param}.content", "missing_required_parameter"
            )
        before = len(self.texts)
        self._content(content, f"{param}.content")
        self._turn(role, before)
        if len(message) > 2 or "content" not in message:
            for name, check in self._besides.items():
                if message.get(name) is not None:
                    check(message[name], f"{param}.{name}")
        if message.get("tool_calls"):
            self.uses_tools = True
            self.extra_chars += sum(len(dump(call)) for call in message["tool_calls"])

    def item(self, item: Any, param: str) -> None:
        """One input item of the responses API; items that are no message pass through."""
        if checks.record(item, param).get("role") is not None:
            ROLES(item["role"], f"{param}.role")
            MESSAGE_ITEM(item, param)
            before = len(self.texts)
            self._content(item.get("content"), f"{param}.content")
            self._turn(item["role"], before)
        else:
            ITEM(item, param)
            self._media(item, param)
            is_call = item.get("type") in _CALLS
            self.continues, self.uses_tools = self.continues or is_call, self.uses_tools or is_call
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
            if (
                type(part) is dict
                and len(part) == 2
                and part.get("type") == "text"
                and type(part.get("text")) is str
            ):
                self.add(part["text"], param)
            else:
                self._part(part, f"{param}[{index}]")

    def _part(self, part: Any, param: str) -> None:
        kind = checks.text(checks.record(part, param).get("type"), f"{param}.type")
        named = self._media(part, param)
        if kind in _TEXT_PARTS:
            is_own = kind in OWN_TEXT and (kind == "refusal" or "text" not in part)
            field = kind if is_own else "text"
            self.add(checks.text(part.get(field), f"{param}.{field}"), param)
            return
        check_kind(part, kind, param)
        self._count(0 if named else 1, param)

    def _media(self, value: dict[str, Any], param: str) -> int:
        """How many media a part or item names, wherever inside it: engines read fields beside the `type`."""
        named, changed = check_urls(value, param, self._caps.media_domains)
        self.changed |= changed
        self._count(named, param)
        return named

    def _count(self, media: int, param: str) -> None:
        self.media += media
        if self.media > self._caps.media_parts:
            raise bad_request(f"The request has more than {self._caps.media_parts} media parts.", param)


def _timeless(text: str) -> str:
    """Without its digits, unless it is so long that this takes time."""
    return text.translate(_NO_DIGITS) if len(text) < _LONG_CHARS else text


def _present(body: Body, name: str) -> Any:
    value = body.get(name)
    if value is None:
        raise bad_request(f"'{name}' is required.", name, "missing_required_parameter")
    return value


def _cut(prompt: Prompt, body: Body) -> Prompt:
    """A prompt that the engine is to cut to some length is never too long here: the engine knows its own."""
    if body.get("truncate_prompt_tokens") is None:
        return prompt
    return replace(prompt, longest="", longest_tokens=None if prompt.tokens is None else 0, extra_chars=0)


def _capability(path: str) -> frozenset[str]:
    return frozenset({OPERATIONS[path].needs})


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
    if set(map(type, entries)) == {int} and min(entries) >= 0 and max(entries) <= MAX_TOKEN_ID:
        return
    entry = checks.whole(0, MAX_TOKEN_ID)
    for index, token in enumerate(entries):
        entry(token, f"{param}[{index}]")
