"""Grader `json_schema`: the JSON in an answer must be valid under the item's schema."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from deployments.suites.graders.grade import Grade, right_or_wrong
from deployments.suites.graders.pattern import PatternTimeoutError, found
from deployments.suites.item import Item

MAX_DEPTH: Final = 64
_FENCE: Final = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)


class _NoJsonError(ValueError):
    """An answer without one usable JSON value."""


def check(item: Item) -> None:
    """Raises ValueError unless the answer is a JSON schema (draft 2020-12) with local references only."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(item.answer, dict):
        raise ValueError("'answer' of grader 'json_schema' must be a JSON schema.")
    try:
        Draft202012Validator.check_schema(item.answer)
    except SchemaError as error:
        raise ValueError(f"'answer' is not a JSON schema: {error.message}.") from error
    if any(not str(reference).startswith("#") for reference in _references(item.answer)):
        raise ValueError("'answer': a schema may only refer to itself, with '$ref': '#...'.")


def grade(item: Item, text: str) -> Grade:
    """1 if the answer's JSON (whole, or in a code block, or the first object or array) is valid."""
    try:
        value = json_in(text)
        errors = _validator(item.answer).iter_errors(value)
        first = next(errors, None)
    except (_NoJsonError, PatternTimeoutError) as error:
        return Grade(0.0, note=str(error))
    except RecursionError:
        return Grade(0.0, note="nested too deeply")
    return right_or_wrong(first is None, f"invalid at {first.json_path}" if first else "")


def json_in(text: str) -> Any:
    """The JSON value in a text. Raises _NoJsonError where there is none, or it nests over 64 levels."""
    fenced = _FENCE.search(text)
    candidate = (fenced.group(1) if fenced else text).strip()
    try:
        return _decode(candidate)
    except ValueError as error:
        start = re.search(r"[\[{]", candidate)
        if start is None or isinstance(error, _NoJsonError):
            raise _NoJsonError("no JSON") from error
        return _decode(candidate[start.start() :], whole=False)


def _decode(text: str, whole: bool = True) -> Any:
    if _depth(text) > MAX_DEPTH:
        raise _NoJsonError(f"nested over {MAX_DEPTH} levels")
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
    if whole:
        return decoder.decode(text)
    try:
        return decoder.raw_decode(text)[0]
    except ValueError as error:
        raise _NoJsonError("no JSON") from error


def _depth(text: str) -> int:
    """Upper bound of the nesting: brackets inside strings count too."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _references(schema: Any) -> Iterator[Any]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef"):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _validator(schema: dict[str, Any]) -> Any:
    from jsonschema import Draft202012Validator, ValidationError, validators
    from referencing import Registry

    def pattern(validator: Any, patrn: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        if validator.is_type(instance, "string") and not found(patrn, instance):
            yield ValidationError("does not match the pattern")

    bounded = validators.extend(Draft202012Validator, {"pattern": pattern})  # type: ignore[no-untyped-call]
    return bounded(schema, registry=Registry())
