"""What clients may say and engines misread, in the words that all engines read alike."""

from typing import Any, Final

from serve_app.body.strict_json import Body

_GREEDY_TOP_P: Final = 1e-6  # vLLM refuses 0, which means the same: only the most probable token
_NO_ARGUMENTS: Final = ("", "null")  # of a call of a tool without parameters, as SDKs replay it


def reworded(body: Body) -> bool:
    """Change what has to change in a checked body; tells whether anything did."""
    changes = [_top_p(body), _stop(body), said_nothing(body)]
    changes += [_message(message) for message in _records(body.get("messages"))]
    changes += [_item(item) for item in _records(body.get("input"))]
    return any(changes)


def said_nothing(body: Body) -> bool:
    """Take out what says nothing: null for absent, which vLLM takes for some fields only; no tools, and how
    to choose of none; a suffix of no letters; how to stream where nothing is streamed."""
    empty = [name for name, value in body.items() if value is None]
    empty += [name for name in ("tools", "suffix") if body.get(name) in ([], "")]
    if not body.get("tools") and body.get("tool_choice") in ("none", "auto"):
        empty.append("tool_choice")
    if not body.get("stream") and body.get("stream_options") is not None:
        empty.append("stream_options")
    for name in empty:
        del body[name]
    return bool(empty)


def _top_p(body: Body) -> bool:
    if body.get("top_p") != 0:
        return False
    body["top_p"] = _GREEDY_TOP_P
    return True


def _stop(body: Body) -> bool:
    """An empty stop sequence stops nothing."""
    given = body.get("stop")
    sequences = [given] if isinstance(given, str) else given or []
    if "" not in sequences:
        return False
    body["stop"] = [sequence for sequence in sequences if sequence] or None
    return True


def _message(message: dict[str, Any]) -> bool:
    calls = _records(message.get("tool_calls"))
    return any([_arguments(call["function"]) for call in calls if isinstance(call.get("function"), dict)])


def _item(item: dict[str, Any]) -> bool:
    """An item of the responses API: an assistant's message without content had only calls beside it."""
    if item.get("role") == "assistant" and "content" in item and item["content"] is None:
        item["content"] = ""
        return True
    return item.get("type") == "function_call" and _arguments(item)


def _arguments(call: dict[str, Any]) -> bool:
    if call.get("arguments") not in _NO_ARGUMENTS:
        return False
    call["arguments"] = "{}"
    return True


def _records(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
