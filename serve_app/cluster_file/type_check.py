"""Values held against their configuration types: pydantic's complaints as problems of a file."""

import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem, did_you_mean

_UNKNOWN: Final = re.compile(r"Unknown key '([^']*)' in \w+; (did you mean '[^']*'\?|known: [^.]*\.)")
_QUOTE: Final = "string_type"


def type_problems(document: Document, place: Place, kind: type[BaseModel], value: object) -> list[Problem]:
    """What keeps the value at a place from being a `kind`."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        found: list[Problem] = []
        for detail in error.errors(include_url=False, include_context=False):
            inner = (*place, *_existing(value, detail["loc"]))
            found += _problems(document, inner, dict(detail))
        return found
    except (AttributeError, TypeError, KeyError) as error:  # Serve's own checks take some types for granted
        return [document.problem(place, f"cannot be checked ({error}): compare it with cluster.yaml.")]
    return []


def _problems(document: Document, place: Place, detail: dict[str, Any]) -> Iterator[Problem]:
    message = str(detail["msg"]).removeprefix("Value error, ")
    unknown = _UNKNOWN.findall(message)
    for key, hint in unknown:
        yield document.problem((*place, key), f"is no known key; {hint}")
    if unknown:
        return
    shown = repr(detail["input"]) if isinstance(detail["input"], str | int | float | bool | None) else ""
    if detail["type"] == "missing":
        missing = (*place, str(detail["loc"][-1])) if place[-1:] != detail["loc"][-1:] else place
        yield document.problem(missing, "is missing: give it a value.")
    elif detail["type"] == _QUOTE and shown:
        yield document.problem(place, f"{shown} must be text: put it in quotes.")
    else:
        yield document.problem(place, f"{shown}: {_sentence(message)}" if shown else _sentence(message))


def _sentence(message: str) -> str:
    message = message.replace("Input should be", "must be")
    return message if message.endswith((".", "?")) else f"{message}."


def _existing(value: object, location: tuple[str | int, ...]) -> Place:
    """The part of pydantic's location that the value has: it also names types and validators on the way."""
    place: list[str | int] = []
    for key in location:
        try:
            value = value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            continue
        place.append(key)
    return tuple(place)


def unknown_keys(document: Document, place: Place, kind: type[BaseModel], value: object) -> Iterator[Problem]:
    """Keys that `kind`, a type of Ray Serve, has no field for: Serve itself drops them without a word."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key not in kind.model_fields:
            hint = did_you_mean(str(key), kind.model_fields)
            yield document.problem((*place, key), f"is no known key; {hint}")
            continue
        for part in _models(kind.model_fields[key].annotation):
            items = list(enumerate(inner)) if isinstance(inner, list) else [((), inner)]
            for number, item in items:
                below = (*place, key) if number == () else (*place, key, number)
                yield from unknown_keys(document, below, part, item)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The types with fields inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
