"""What a prompt may look like: checks of what stands beside its texts, and all of it as JSON Schema."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from serve_app.body.checks import (
    Check,
    Schema,
    any_of,
    list_of,
    medium,
    members,
    nullable,
    one_of,
    string,
    thing,
)
from serve_app.config import Caps

MAX_TOKEN_ID: Final = 2**31 - 1
TEXT_PARTS: Final = ("text", "input_text", "output_text", "thinking", "reasoning")
OWN_TEXT: Final = ("refusal", "thinking", "reasoning")  # parts whose text may stand under their own name
ROLES: Final = one_of(("system", "developer", "user", "assistant", "tool", "function"))

_STRING: Final[Schema] = {"type": "string"}
_NEVER: Final[Schema] = {"not": {}}
_MANY: Final = 4096  # entries of a list inside one item


def tool_calls(caps: Caps) -> Check:
    """The calls in an assistant's message; SDKs replay arguments as a text, others as an object."""
    function = members({"name": string(), "arguments": any_of(thing, string())})
    return list_of(members({"id": string(), "type": string(), "function": function}), caps.tools)


def message_fields(caps: Caps) -> Mapping[str, Check]:
    """Members of a chat message beside role and content."""
    names = ("name", "tool_call_id", "reasoning", "reasoning_content", "refusal")
    return {**dict.fromkeys(names, string()), "tool_calls": tool_calls(caps)}


_MESSAGE_ITEM: Final = {"id": string(), "type": string(), "status": string()}
MESSAGE_ITEM: Final = members(_MESSAGE_ITEM)
_SEVERAL: Final = list_of(thing, _MANY)
ITEM: Final = members(
    {
        **_MESSAGE_ITEM,
        "call_id": string(),
        "name": string(),
        "arguments": any_of(thing, string()),
        "content": any_of(_SEVERAL, string()),
        "summary": _SEVERAL,
        "output": any_of(_SEVERAL, thing, string()),
    },
    required=("type",),
)


def prompts(most: int) -> Schema:
    """One prompt, or up to `most`, as text or as token ids."""
    token = {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}
    ids = {"type": "array", "items": token, "minItems": 1}
    several = [{"type": "array", "items": one, "minItems": 1, "maxItems": most} for one in (_STRING, ids)]
    return {"anyOf": [_STRING, ids, *several]}


def texts(most: int) -> Schema:
    """One text or up to `most`, each by itself or in an object."""
    one = [_STRING, {"type": "object", "required": ["text"], "properties": {"text": _STRING}}]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}, "minItems": 1, "maxItems": most}]}


def messages(caps: Caps) -> Schema:
    """The messages of a chat."""
    content = {"anyOf": [_STRING, {"type": "array", "items": part(caps.media_domains)}]}
    others = [role for role in ROLES.schema["enum"] if role != "assistant"]
    besides = {name: nullable(check.schema) for name, check in message_fields(caps).items()}
    said = {"role": {"enum": others}, "content": content, **besides}
    answered = {"role": {"const": "assistant"}, "content": nullable(content), **besides}
    kinds = [_object(said, ("role", "content")), _object(answered, ("role",))]
    return {"type": "array", "items": {"anyOf": kinds}, "minItems": 1, "maxItems": caps.messages}


def inputs(caps: Caps) -> Schema:
    """The input of the responses API: a text, or messages and other items."""
    content = {"anyOf": [_STRING, {"type": "array", "items": part(caps.media_domains)}, {"type": "null"}]}
    said = {**MESSAGE_ITEM.schema["properties"], "role": ROLES.schema, "content": content}
    other = {**ITEM.schema["properties"], "role": {"type": "null"}}
    kinds = [_object(said, ("role",)), _object(other, ("type",))]
    items = {"type": "array", "items": {"anyOf": kinds}, "minItems": 1, "maxItems": caps.messages}
    return {"anyOf": [_STRING, items]}


def part(domains: Collection[str]) -> Schema:
    """A part of a message's content."""
    kinds = [_part(TEXT_PARTS, {"text": _STRING}, ("text",))]
    kinds += [
        _part((kind,), {kind: _STRING, "text": {} if kind == "refusal" else _NEVER}, (kind,))
        for kind in OWN_TEXT
    ]
    kinds.append(_part(("input_audio",), {"input_audio": {"type": "object"}}, ("input_audio",)))
    for kind in ("image_url", "video_url", "audio_url", "input_image"):
        field = "image_url" if kind == "input_image" else kind
        kinds.append(_part((kind,), {field: _medium(domains)}, (field,)))
    return {"anyOf": kinds}


def _part(kinds: Collection[str], properties: Mapping[str, Any], required: Collection[str]) -> Schema:
    return _object({"type": {"enum": list(kinds)}, **properties}, ("type", *required))


def _object(properties: Mapping[str, Any], required: Collection[str]) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _medium(domains: Collection[str]) -> Schema:
    url = medium(domains)
    return {"anyOf": [url, _object({"url": url}, ("url",))]}


def pair(one: str, other: str, most: int) -> Schema:
    """Two fields that are scored together; `one` may also have as many texts as `other`."""
    several = texts(most)
    single = {"anyOf": [*several["anyOf"][:2], {**several["anyOf"][2], "maxItems": 1}]}
    return _object({one: single, other: several}, (one, other))
