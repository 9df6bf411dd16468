"""Answers with a structure: JSON that follows a schema, and calls of tools, made of what the prompt says."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_DEEPEST: Final = 8  # levels of a schema that are filled in
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_WORD: Final = re.compile(r"[A-Za-z]{3,}")
_QUOTED: Final = re.compile(r"['\"]([^'\"]{1,80})['\"]")
_KEY: Final = re.compile(r"[`'](\w+)[`']")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: str


def wanted_json(body: Mapping[str, Any], text: str) -> str | None:
    """The JSON that the body asks for; None where it asks for text."""
    given = body.get("structured_outputs") or {}
    schema = given.get("json") if isinstance(given, dict) else None
    options: Any = body.get("text")
    options = options if isinstance(options, dict) else {}
    form = body.get("response_format") or options.get("format") or {}
    if form.get("type") == "json_object":
        return json.dumps(dict.fromkeys(_KEY.findall(text) or ["answer"], text[:40]))
    if form.get("type") == "json_schema":
        schema = (form.get("json_schema") or form).get("schema") or {}
    if schema is None:
        return None
    return _filled(json.loads(schema) if isinstance(schema, str) else schema, text)


def wanted_call(body: Mapping[str, Any], text: str, *, is_answered: bool) -> Call | None:
    """The call that is forced, or that the last message is about; none where a tool has just answered."""
    tools = [tool.get("function", tool) for tool in body.get("tools") or () if tool.get("type") == "function"]
    choice = body.get("tool_choice") or "auto"
    tools = [tool for tool in tools if isinstance(tool.get("name"), str)]
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        tools = [tool for tool in tools if tool.get("name") == name]
    elif choice == "auto":
        tools = [] if is_answered else [tool for tool in tools if _is_about(tool, text)]
    if not tools:
        return None
    schema = tools[0].get("parameters") or {"type": "object"}
    return Call(tools[0]["name"], _filled(schema, text))


def _filled(schema: Any, text: str) -> str:
    """JSON by the schema; an empty object where that is no schema."""
    try:
        return json.dumps(value(schema, text))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return "{}"


def _is_about(tool: Mapping[str, Any], text: str) -> bool:
    said = {word.lower() for word in _WORD.findall(text)}
    return any(word.lower() in said for word in _WORD.findall(tool.get("name") or ""))


def value(schema: Mapping[str, Any], text: str) -> Any:
    """A value that follows the schema, with numbers and words out of `text`."""
    return _Filling(schema, text).value(schema, 0)


class _Filling:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._numbers = [float(number) for number in _NUMBER.findall(text)]
        self._words = _WORD.findall(text)[-1:] + _QUOTED.findall(text)[:1] or ["text"]

    def value(self, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if schema.get("enum"):
            return schema["enum"][0]
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
        return self._of_kind(kind, schema, depth)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """A schema without references and choices."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {}
            choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if "$ref" in schema:
                place = str(schema["$ref"]).removeprefix("#")
                schema = self._root
                for step in filter(None, place.split("/")):
                    schema = schema.get(step, {})
            elif choices:
                schema = next((one for one in choices if one.get("type") != "null"), {})
            else:
                return schema
        return {}

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        if kind == "object":
            names = schema.get("properties") or {}
            return {name: self.value(names[name], depth + 1) for name in names if depth < _DEEPEST}
        if kind == "array":
            count = max(int(schema.get("minItems", 1)), 1) if depth < _DEEPEST else 0
            return [self.value(schema.get("items") or {}, depth + 1) for _ in range(count)]
        if kind in ("integer", "number"):
            return self._number(schema, kind == "integer")
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        return self._text(schema)

    def _number(self, schema: Mapping[str, Any], is_whole: bool) -> float | int:
        number = self._numbers.pop(0) if self._numbers else 1.0
        number = max(number, schema.get("minimum", number))
        number = min(number, schema.get("maximum", number))
        return int(number) if is_whole or number == int(number) else number

    def _text(self, schema: Mapping[str, Any]) -> str:
        word = self._words[-1]
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 10_000))
        return (word * (least // len(word) + 1))[: max(most, least)] if least > len(word) else word[:most]
