"""A body of /v1/messages as the chat completion that means the same."""

from collections.abc import Iterable
from typing import Any, Final

from serve_app.body import checks
from serve_app.body.anthropic_fields import CHOICES, ROLES, SHARED, SOURCES, THINKING
from serve_app.body.strict_json import Body, dump
from serve_app.http.errors import bad_request, quoted

_KEPT: Final = (*SHARED, "fastserve")
_NO_PROMPT: Final = frozenset({"redacted_thinking"})  # blocks that an engine cannot read


def to_chat(body: Body) -> Body:
    """The chat completion, of a body whose own fields are checked.

    Raises ApiError (400) naming the field of Anthropic's API at fault.
    """
    if body.get("max_tokens") is None:
        raise bad_request("'max_tokens' is required.", "max_tokens", "missing_required_parameter")
    chat: Body = {name: body[name] for name in _KEPT if body.get(name) is not None}
    chat["messages"] = [*_system(body.get("system")), *_messages(body.get("messages"))]
    if body.get("stop_sequences") is not None:
        chat["stop"] = body["stop_sequences"]
    tools = [] if body.get("tools") is None else _list(body["tools"], "tools")
    choice = _tool_choice(body.get("tool_choice"))
    if tools:
        chat["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
        chat |= choice
    chat |= _thinking(body.get("thinking")) | _output(body.get("output_config")) | _user(body.get("metadata"))
    return chat


def _list(value: Any, param: str) -> list[Any]:
    return checks.array(value, param, 100_000)


def _system(system: Any) -> Iterable[Body]:
    if system is None or system == "":
        return
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else _list(system, "system")
    texts = []
    for index, block in enumerate(blocks):
        where = f"system[{index}]"
        texts.append(checks.text(checks.record(block, where).get("text"), f"{where}.text"))
    if texts:
        yield {"role": "system", "content": "\n".join(texts)}


def _messages(messages: Any) -> Iterable[Body]:
    if messages is None:
        raise bad_request("'messages' is required.", "messages", "missing_required_parameter")
    for index, message in enumerate(checks.array(messages, "messages", 100_000, 1)):
        where = f"messages[{index}]"
        role: Any = checks.record(message, where).get("role")
        content = message.get("content")
        ROLES(role, f"{where}.role")
        if isinstance(content, str):
            yield {"role": role, "content": content}
        else:
            blocks = _list(content, f"{where}.content")
            yield from _blocks(role, blocks, f"{where}.content")


def _blocks(role: str, blocks: list[Any], param: str) -> Iterable[Body]:
    """The messages in one message's blocks: results of tools come first, as chat wants them."""
    parts: list[Body] = []
    calls: list[Body] = []
    thoughts: list[str] = []
    for index, block in enumerate(blocks):
        where = f"{param}[{index}]"
        kind = checks.text(checks.record(block, where).get("type"), f"{where}.type")
        if kind == "tool_result":
            yield from _result(block, where)
        elif kind == "tool_use":
            calls.append(_call(block, where))
        elif kind == "thinking":
            thoughts.append(checks.text(block.get("thinking"), f"{where}.thinking"))
        elif kind not in _NO_PROMPT:
            parts.append(_part(block, kind, where))
    if not (parts or calls or thoughts) and any(b["type"] == "tool_result" for b in blocks):
        return
    message: Body = {"role": role, "content": _joined(parts)}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    yield message


def _joined(parts: list[Body]) -> Any:
    """Text alone as a string, which every engine takes."""
    if any(part["type"] != "text" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)


def _part(block: Body, kind: Any, param: str) -> Body:
    if kind == "text":
        return {"type": "text", "text": checks.text(block.get("text"), f"{param}.text")}
    if kind != "image":
        raise bad_request(f"Blocks of type {quoted(kind)} are not accepted.", f"{param}.type")
    source = checks.record(block.get("source"), f"{param}.source")
    SOURCES(source.get("type"), f"{param}.source.type")
    if source["type"] == "url":
        url = checks.text(source.get("url"), f"{param}.source.url")
    else:
        media = checks.text(source.get("media_type"), f"{param}.source.media_type", 128)
        url = f"data:{media};base64,{checks.text(source.get('data'), f'{param}.source.data')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _call(block: Body, param: str) -> Body:
    name = checks.text(block.get("name"), f"{param}.name")
    given = checks.record(block.get("input"), f"{param}.input")
    function = {"name": name, "arguments": dump(given).decode()}
    return {"id": checks.text(block.get("id"), f"{param}.id"), "type": "function", "function": function}


def _result(block: Body, param: str) -> Iterable[Body]:
    """A tool's result; pictures in it follow as a user's message, for a tool's message holds text only."""
    content, pictures = block.get("content"), []
    if content is None or isinstance(content, str):
        text = content or ""
    else:
        entries = [checks.record(entry, param) for entry in _list(content, f"{param}.content")]
        parts = [_part(e, e.get("type"), f"{param}.content[{i}]") for i, e in enumerate(entries)]
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        pictures = [part for part in parts if part["type"] != "text"]
    call_id = checks.text(block.get("tool_use_id"), f"{param}.tool_use_id")
    yield {"role": "tool", "tool_call_id": call_id, "content": text}
    if pictures:
        yield {"role": "user", "content": pictures}


def _tool(tool: Any, param: str) -> Body:
    if checks.record(tool, param).get("type") not in (None, "custom"):
        kind = tool["type"]
        raise bad_request(f"Tools of type {quoted(kind)} are not offered.", f"{param}.type")
    schema = checks.record(tool.get("input_schema"), f"{param}.input_schema")
    function: Body = {"name": checks.text(tool.get("name"), f"{param}.name"), "parameters": schema}
    if tool.get("description") is not None:
        function["description"] = checks.text(tool["description"], f"{param}.description")
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> Body:
    if choice is None:
        return {}
    kind = checks.record(choice, "tool_choice").get("type")
    chat: Body = {}
    if kind == "tool":
        name = checks.text(choice.get("name"), "tool_choice.name")
        chat["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in CHOICES:
        chat["tool_choice"] = CHOICES[kind]
    else:
        raise bad_request("'tool_choice.type' must be 'auto', 'any', 'none' or 'tool'.", "tool_choice.type")
    alone = choice.get("disable_parallel_tool_use")
    if alone is not None:
        checks.flag(alone, "tool_choice.disable_parallel_tool_use")
    if alone:
        chat["parallel_tool_calls"] = False
    return chat


def _thinking(thinking: Any) -> Body:
    if thinking is None:
        return {}
    THINKING(checks.record(thinking, "thinking").get("type"), "thinking.type")
    if thinking["type"] != "enabled":
        return {}
    checks.whole(1)(thinking.get("budget_tokens"), "thinking.budget_tokens")
    return {"thinking_token_budget": thinking["budget_tokens"]}


def _output(output: Any) -> Body:
    form = None if output is None else checks.record(output, "output_config").get("format")
    if form is None:
        return {}
    schema = checks.record(form, "output_config.format").get("schema")
    holder = {"name": "answer", "schema": checks.record(schema, "output_config.format.schema")}
    return {"response_format": {"type": "json_schema", "json_schema": holder}}


def _user(metadata: Any) -> Body:
    user = None if metadata is None else metadata.get("user_id")
    return {} if user is None else {"user": user}
