"""Strict checks of single fields: no booleans for numbers, no numbers for text, nothing out of range.

Each says the same in the words of JSON Schema, from which the API's description is made.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve_app.http.errors import ApiError, bad_request

Schema = Mapping[str, Any]

MAX_INT = 2**53
_MOST_TOLD: Final = (
    10_000  # entries; who makes requests from the description would make that many and one more
)


@dataclass(frozen=True, slots=True)
class Check:
    """A rule for one value that is not null; `schema` says it to who reads the description."""

    rule: Callable[[Any, str], object]
    schema: Schema

    def __call__(self, value: Any, param: str) -> None:
        """Raises ApiError (400) that names `param`."""
        self.rule(value, param)


def _wrong_type(param: str, expected: str) -> ApiError:
    return bad_request(f"'{param}' must be {expected}.", param, "invalid_type")


def text(value: Any, param: str, longest: int = 0) -> str:
    """A string, at most `longest` characters where that is above 0."""
    if type(value) is not str:
        raise _wrong_type(param, "a string")
    if longest and len(value) > longest:
        raise bad_request(f"'{param}' is over {longest} characters.", param)
    return value


def _flag(value: Any, param: str) -> None:
    if type(value) is not bool:
        raise _wrong_type(param, "true or false")


def record(value: Any, param: str) -> dict[str, Any]:
    """A JSON object."""
    if type(value) is not dict:
        raise _wrong_type(param, "an object")
    return value


def array(value: Any, param: str, most: int, least: int = 0) -> list[Any]:
    """A JSON array of `least` to `most` entries."""
    if type(value) is not list:
        raise _wrong_type(param, "an array")
    if not least <= len(value) <= most:
        raise bad_request(f"'{param}' has {len(value)} entries, must have {least} to {most}.", param)
    return value


def whole(low: int, high: int = MAX_INT) -> Check:
    """An integer from `low` to `high`; 8.0 is one too, in JSON Schema and to vLLM."""

    def check(value: Any, param: str) -> None:
        if type(value) is not int and not (type(value) is float and value.is_integer()):
            raise _wrong_type(param, f"an integer from {low} to {high}")
        if not low <= value <= high:
            raise bad_request(f"'{param}' is out of range, must be from {low} to {high}.", param)

    return Check(check, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, *, above: bool = False) -> Check:
    """A number from `low` (or above it) to `high`. The parser has refused NaN and infinities."""

    def check(value: Any, param: str) -> None:
        if type(value) is not float and type(value) is not int:
            raise _wrong_type(param, f"a number from {low:g} to {high:g}")
        if not low <= value <= high or (above and value == low):
            raise bad_request(f"'{param}' is out of range, must be from {low:g} to {high:g}.", param)

    return Check(check, {"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high})


def one_of(names: Collection[str]) -> Check:
    """One of some strings."""

    def check(value: Any, param: str) -> None:
        if type(value) is not str or value not in names:
            raise bad_request(
                f"'{param}' must be one of {', '.join(repr(name) for name in sorted(names))}.", param
            )

    return Check(check, {"type": "string", "enum": sorted(names)})


def words(most: int, longest: int) -> Check:
    """A string, or an array of at most `most` strings of at most `longest` characters."""

    def check(value: Any, param: str) -> None:
        if type(value) is str:
            value = [value]
        for index, entry in enumerate(array(value, param, most)):
            text(entry, f"{param}[{index}]", longest)

    word = {"type": "string", "maxLength": longest}
    several = {"type": "array", "items": word, "maxItems": most}
    return Check(check, {"anyOf": [word, several]} if most else {"type": "array", "maxItems": 0})


def string(longest: int = 0, least: int = 0) -> Check:
    """A string of `least` to `longest` characters, of any length where that is 0."""

    def check(value: Any, param: str) -> None:
        if len(text(value, param, longest)) < least:
            raise bad_request(f"'{param}' is empty.", param)

    bounds = {"minLength": least, "maxLength": longest}
    return Check(check, {"type": "string", **{name: bound for name, bound in bounds.items() if bound}})


def list_of(entry: Check, most: int, least: int = 0) -> Check:
    """An array of `least` to `most` entries, each after one rule."""

    def check(value: Any, param: str) -> None:
        for index, item in enumerate(array(value, param, most, least)):
            entry(item, f"{param}[{index}]")

    bounds = {"maxItems": most} if most <= _MOST_TOLD else {}
    bounds |= {"minItems": least} if least else {}
    return Check(check, {"type": "array", "items": entry.schema, **bounds})


def members(known: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """An object whose members of these names are null or after their rules; others pass through unread."""

    def check(value: Any, param: str) -> None:
        record(value, param)
        for name in required:
            if value.get(name) is None:
                raise bad_request(
                    f"'{param}.{name}' is required.", f"{param}.{name}", "missing_required_parameter"
                )
        for name, rule in known.items():
            if value.get(name) is not None:
                rule(value[name], f"{param}.{name}")

    return Check(check, object_of(known, required))


def any_of(*choices: Check) -> Check:
    """A value after one rule of several; the last one says what is wrong."""

    def check(value: Any, param: str) -> None:
        for choice in choices[:-1]:
            try:
                choice(value, param)
            except ApiError:
                continue
            return
        choices[-1](value, param)

    return Check(check, {"anyOf": [choice.schema for choice in choices]})


def instead(newer: str) -> Check:
    """A field that OpenAI replaced by another one: engines would pass over it in silence."""

    def check(value: Any, param: str) -> None:
        raise bad_request(f"'{param}' is not accepted; send '{newer}'.", param, "unsupported_parameter")

    return Check(check, {"type": "null"})


def only(harmless: object) -> Check:
    """A field that only the server sets, but for the value that asks for nothing."""

    def check(value: Any, param: str) -> None:
        if type(value) is not type(harmless) or value != harmless:
            _refused(value, param)

    return Check(check, {"const": harmless})


def _refused(value: Any, param: str) -> None:
    raise bad_request(f"'{param}' is not accepted.", param, "unsupported_parameter")


def nullable(schema: Schema) -> dict[str, Any]:
    """The schema of a field that may be null, which stands for absent."""
    kind = schema.get("type")
    if kind is not None and "enum" not in schema:
        kinds = [kind] if isinstance(kind, str) else kind
        return {**schema, "type": list(dict.fromkeys((*kinds, "null")))}
    if "anyOf" in schema and len(schema) == 1:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}


def object_of(known: Mapping[str, Check], required: Collection[str] = ()) -> dict[str, Any]:
    """The schema of an object: a field that is required may not be null."""
    properties = {
        name: dict(rule.schema) if name in required else nullable(rule.schema)
        for name, rule in sorted(known.items())
    }
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


flag: Final = Check(_flag, {"type": "boolean"})
thing: Final = Check(record, {"type": "object"})
refused: Final = Check(_refused, {"type": "null"})  # a field that only the server sets


def _empty(value: Any, param: str) -> None:
    if value not in ([], {}):
        _refused(value, param)


empty: Final = Check(_empty, {"type": ["array", "object"], "maxItems": 0, "maxProperties": 0})


def medium(hosts: Collection[str]) -> Schema:
    """The schema of a URL of a medium: `data:`, or of one of the hosts."""
    others = "".join(f"|https?://{re.escape(host)}(/|$)" for host in sorted(hosts))
    return {"type": "string", "pattern": f"^(data:{others})"}
