"""What a model's answer says as it goes by: whether it has begun and ended, its error, its token counts."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from deployments.sse import DONE, Event

_CHARS_PER_TOKEN: Final = 4  # of ordinary text; only where no usage comes
_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})
_OPENINGS: Final = frozenset(  # events of a response before its first token
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_part.added",
        "response.reasoning_summary_part.added",
    }
)
_NO_TEXT: Final = frozenset({"role", "id", "type", "index", "data"})  # fields of a message that are no tokens


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: None = None
    error: None = None


class _Piece(msgspec.Struct, gc=False):
    """An event of a chat that holds nothing but a piece of text, as nearly all do."""

    choices: tuple[_Choice]
    usage: None = None
    error: None = None


class _Content(msgspec.Struct, gc=False):
    """The fields that matter here, of an event or of a whole answer; all others are skipped unread."""

    choices: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None
    type: Any = None
    status: Any = None
    delta: Any = None
    response: Any = None
    output: Any = None


_piece = msgspec.json.Decoder(_Piece).decode
_content = msgspec.json.Decoder(_Content).decode


class Tokens(NamedTuple):
    """Tokens of one request; `estimated` where the engine did not say them."""

    prompt: int
    output: int
    estimated: bool


class Transcript:
    """One answer, as far as it has come."""

    def __init__(self, path: str, prompt_tokens: int) -> None:
        """`prompt_tokens` is an estimate, for an answer that does not say it."""
        self.begun = False  # a token, or an end in its place, has come
        self.ended = False  # the end mark has come
        self.error: Mapping[str, Any] | None = None
        self._is_response = path == "/v1/responses"
        self._prompt_tokens = prompt_tokens
        self._usage: Mapping[str, Any] | None = None
        self._pieces = 0  # events with text
        self._chars = 0

    def take(self, event: Event) -> bool:
        """Read one event of a stream. Returns whether it holds nothing but the usage."""
        data = event.data
        if data is None:
            return False
        try:
            delta = _piece(data).choices[0].delta
            if delta and delta.content and event.name == "message":
                self.begun = True
                self._pieces += 1
                self._chars += len(delta.content)
                return False
        except msgspec.DecodeError:
            pass
        return self._take_other(event, data)

    def _take_other(self, event: Event, data: bytes) -> bool:
        if data == DONE:
            self.ended = self.ended or not self._is_response
            return False
        try:
            content = _content(data)
        except msgspec.DecodeError:
            return False  # not an object: nothing that the API defines
        if content.usage is not None:
            self._count(content.usage)
        if content.error or event.name == "error" or content.object == "error" or content.type == "error":
            self._fail(data)
        if content.choices:
            for choice in content.choices:
                self._choice(choice, "delta")
        elif self._is_response:
            self._response(content, event)
        return content.choices == [] and isinstance(content.usage, dict) and self.error is None

    def take_whole(self, body: bytes) -> None:
        """Read an answer that came at once. Raises ValueError where it is not a JSON object."""
        content = _content(body)
        self.begun = self.ended = True
        self._count(content.usage)
        if content.error or content.object == "error" or content.status == "failed":
            self._fail(body)
        for choice in content.choices or ():
            self._choice(choice, "message")
        self._say(_text(content.output))

    def tokens(self) -> Tokens:
        """What the engine counted; what was read where it did not."""
        usage = self._usage or {}
        prompt = _number(usage, "prompt_tokens", "input_tokens")
        output = _number(usage, "completion_tokens", "output_tokens")
        said = max(self._pieces, self._chars // _CHARS_PER_TOKEN)
        estimated = not prompt or (said > 0 and not output) or not usage
        return Tokens(prompt or self._prompt_tokens, output or said, estimated)

    def _choice(self, choice: Any, field: str) -> None:
        if not isinstance(choice, dict):
            return
        message = choice.get(field)
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        if not text or type(text) is not str:
            text = _text(message)
        if text:
            self._say(text)
        reason = choice.get("finish_reason")
        self.begun = self.begun or bool(reason)
        if reason == "error" or choice.get("error"):
            self.error = self.error or _detail(choice)

    def _response(self, content: _Content, event: Event) -> None:
        kind = content.type or event.name
        if kind in _OPENINGS:
            return
        self.begun = True
        if type(content.delta) is str:
            self._say(content.delta)
        if kind in _ENDS:
            self.ended = True
            response = content.response if isinstance(content.response, dict) else {}
            self._count(response.get("usage"))
            if kind == "response.failed":
                self.error = self.error or _detail(response)

    def _say(self, text: str) -> None:
        if text:
            self.begun = True
            self._pieces += 1
            self._chars += len(text)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage = usage

    def _fail(self, data: bytes) -> None:
        self.error = self.error or _detail(msgspec.json.decode(data))


def _detail(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The error object in what holds it."""
    error = value.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else value


def _text(value: Any) -> str:
    """All text in a message or a part of one, tool calls included."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(_text(part) for name, part in value.items() if name not in _NO_TEXT)
    return "".join(map(_text, value)) if isinstance(value, list) else ""


def _number(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return int(value)
    return None
