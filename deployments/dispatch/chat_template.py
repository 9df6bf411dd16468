"""A model's chat template in the ingress: what a chat with its tools becomes before the engine counts it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOOLS: Final = "tool_use"  # the template's name for chats with tools, where a model has several
DEFAULT: Final = "default"


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote; here its content alone counts."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The content of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers sets it up: templates are written for it."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _as_json
    made.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return made


class ChatTemplate:
    """Compiled once; renders chats whose content is text."""

    def __init__(self, templates: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        """`templates` by name. Raises jinja2.TemplateError for one that cannot be read."""
        environment = _environment()
        self._templates = {name: environment.from_string(text) for name, text in templates.items()}
        self._special_tokens = dict(special_tokens)
        self.most_chars = max(map(len, templates.values()))  # that it may write of its own, as a bound

    def rendered(self, body: Mapping[str, Any]) -> str | None:
        """The prompt that a body of chat completions becomes.

        None where the template does not take it; the engine then says why.
        """
        tools = body.get("tools") or None
        template = self._templates.get(TOOLS if tools else DEFAULT) or self._templates.get(DEFAULT)
        if template is None:
            return None
        options = {
            "add_generation_prompt": body.get("add_generation_prompt", True),
            **self._special_tokens,
            **(body.get("chat_template_kwargs") or {}),
        }
        try:
            messages = [_message(message) for message in body["messages"]]
            return template.render(messages=messages, tools=tools, documents=None, **options)
        except Exception:  # a template is a program of somebody else's: whatever it raises
            return None


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as engines hand it to a template: texts joined, arguments of calls as objects."""
    content = message.get("content")
    made = {**message, "content": content if isinstance(content, str) else _joined(content or ())}
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return made


def _joined(parts: Any) -> str:
    return "\n".join(str(part.get("text", part.get(part["type"], ""))) for part in parts)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return {**call, "function": function}
