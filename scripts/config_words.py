"""Settings in words for an operator: values as YAML, types and bounds of a JSON schema as phrases."""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic_core import to_jsonable_python


def shown(value: Any) -> str:
    """A value as a line of YAML in code, or a word where there is nothing to write."""
    plain = sorted(value) if isinstance(value, frozenset) else to_jsonable_python(value)
    if plain is None:
        return "none"
    if plain in ([], {}, ""):
        return "empty"
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return f"`{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"


def type_and_bounds(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type and bounds in words."""
    options = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    if options:
        return " or ".join(type_and_bounds(part) for part in options)
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    names = {"string": "text", "boolean": "true or false"}
    kind = schema.get("type", "any value")
    if kind == "array":
        name = f"list of {type_and_bounds(schema.get('items', {}))}"
    elif kind == "object":
        inner = schema.get("additionalProperties")
        is_typed = isinstance(inner, dict) and "$ref" not in inner
        name = f"map of names to {type_and_bounds(dict(inner or {}))}" if is_typed else "map"
    else:
        name = names.get(kind, kind)
    return ", ".join([name, *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> list[str]:
    words = (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "above {}"),
        ("maximum", "at most {}"),
        ("exclusiveMaximum", "below {}"),
        ("minLength", "characters: at least {}"),
        ("maxLength", "characters: at most {}"),
        ("minItems", "entries: at least {}"),
        ("maxItems", "entries: at most {}"),
        ("pattern", "matching `{}`"),
    )
    return [text.format(_number(schema[name])) for name, text in words if name in schema]


def _number(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
