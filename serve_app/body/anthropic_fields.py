"""Fields of Anthropic's /v1/messages: those checked one by one, and what `to_chat` reads, as JSON Schema."""

from collections.abc import Mapping
from typing import Any, Final

from serve_app.body import checks
from serve_app.body.checks import Check, Schema, nullable
from serve_app.body.fields import REFUSED_FIELDS, sampling_fields
from serve_app.config import Caps

SHARED: Final = (
    "model", "max_tokens", "temperature", "top_p", "top_k", "stream", "chat_template_kwargs",
)  # fmt: skip
NOT_OFFERED: Final = ("container", "mcp_servers", "context_management")
ROLES: Final = checks.one_of(("user", "assistant", "system"))
CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
THINKING: Final = checks.one_of(("enabled", "disabled", "adaptive"))
SOURCES: Final = checks.one_of(("base64", "url"))
USER: Final = checks.members({"user_id": checks.string(256)})

_STRING: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}


def message_fields(caps: Caps) -> Mapping[str, Check]:
    """Checks of a body's fields; the prompt, tools and forms are read by `to_chat`."""
    shared = sampling_fields(caps)
    return {
        **{name: shared[name] for name in (*SHARED, *REFUSED_FIELDS, "watermarking")},
        **dict.fromkeys(NOT_OFFERED, checks.empty),
        "stop_sequences": checks.list_of(checks.string(caps.stop_chars), caps.stop),
        "metadata": USER,
    }


def described(caps: Caps) -> Mapping[str, Schema]:
    """What `to_chat` reads."""
    hosts = caps.media_domains
    contents = {"anyOf": [_STRING, {"type": "array", "items": {"anyOf": _blocks(hosts)}}]}
    message = _made(("role", "content"), role=ROLES.schema, content=contents)
    texts = {"type": "array", "items": _made(("text",), text=_STRING)}
    named = {"name": _STRING, "description": {"type": ["string", "null"]}, "type": {"enum": ["custom", None]}}
    tool = _made(("name", "input_schema"), **named, input_schema=_OBJECT)
    enabled = _made(
        ("type", "budget_tokens"), type={"const": "enabled"}, budget_tokens=checks.whole(1).schema
    )
    form = nullable(_made(("schema",), schema=_OBJECT))
    flag = {"type": ["boolean", "null"]}
    choices = [
        _made(("type",), type={"enum": sorted(CHOICES)}, disable_parallel_tool_use=flag),
        _made(("type", "name"), type={"const": "tool"}, name=_STRING, disable_parallel_tool_use=flag),
    ]
    return {
        "messages": {"type": "array", "minItems": 1, "maxItems": caps.messages, "items": message},
        "system": {"anyOf": [_STRING, texts, {"type": "null"}]},
        "tools": {"type": ["array", "null"], "items": tool, "maxItems": caps.tools},
        "tool_choice": {"anyOf": [*choices, {"type": "null"}]},
        "thinking": {
            "anyOf": [enabled, _made(("type",), type={"enum": ["adaptive", "disabled"]}), {"type": "null"}]
        },
        "output_config": {"type": ["object", "null"], "properties": {"format": form}},
    }


def _blocks(hosts: tuple[str, ...]) -> list[Schema]:
    told = [_made(("type", "text"), type={"const": "text"}, text=_STRING), _image(hosts)]
    several = {"type": "array", "items": {"anyOf": told}}
    result = {"tool_use_id": _STRING, "content": {"anyOf": [_STRING, several, {"type": "null"}]}}
    call = {"id": _STRING, "name": _STRING, "input": _OBJECT}
    return [
        *told,
        _made(("type", "tool_use_id"), type={"const": "tool_result"}, **result),
        _made(("type", *call), type={"const": "tool_use"}, **call),
        _made(("type", "thinking"), type={"const": "thinking"}, thinking=_STRING),
        _made(("type",), type={"const": "redacted_thinking"}),
    ]


def _image(hosts: tuple[str, ...]) -> Schema:
    kept = {"media_type": {"type": "string", "maxLength": 128}, "data": _STRING}
    inline = _made(("type", "media_type", "data"), type={"const": "base64"}, **kept)
    linked = _made(("type", "url"), type={"const": "url"}, url=checks.medium(hosts))
    return _made(("type", "source"), type={"const": "image"}, source={"anyOf": [inline, linked]})


def _made(required: tuple[str, ...], **properties: Any) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}
