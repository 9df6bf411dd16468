"""The request body as strict JSON: one object in UTF-8, nothing that two parsers could read in two ways."""

from typing import Any, Final

import orjson

from serve_app.http.errors import ApiError, bad_request, quoted
from serve_app.http.scan import MAX_DEPTH, counts, outermost_keys, place

# What a body may hold, so that reading it never keeps the event loop from other requests.
MAX_CONTAINERS: Final = 24_576
MAX_MEMBERS: Final = 49_152
MAX_VALUES: Final = 262_144
MAX_FIELDS: Final = 1_024  # members of the outermost object

_OF_NUMBERS: Final = frozenset(b"-+.0123456789NI")

Body = dict[str, Any]


def parse(raw: bytes) -> Body:
    """A JSON object from UTF-8 bytes.

    Raises ApiError (400) for anything else: other encodings, NaN and infinities, lone surrogates,
    numbers too large for a double, a key given twice at the top level, nesting over 64 levels, more
    objects, members or values than a request can need.
    """
    levels, containers, members, commas, outermost, *_ = counts(raw)
    if levels > MAX_DEPTH:
        raise bad_request(f"The body is nested over {MAX_DEPTH} levels deep.", code="invalid_json")
    _refuse_more("objects and arrays", containers, MAX_CONTAINERS)
    _refuse_more("members of objects", members, MAX_MEMBERS)
    _refuse_more("fields", outermost, MAX_FIELDS)
    _refuse_more("values", commas + 1, MAX_VALUES)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _invalid(raw, error) from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    if outermost != len(body):
        raise _given_twice(outermost_keys(raw, outermost))
    return body


def dump(body: Body) -> bytes:
    """The JSON bytes of a body."""
    return orjson.dumps(body)


def depth(value: object, limit: int) -> int:
    """Levels of objects and arrays in a parsed value; counting stops at `limit` + 1."""
    level = [value] if isinstance(value, dict | list) else []
    levels = 0
    while level and levels <= limit:
        levels += 1
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
    return levels


def _refuse_more(what: str, count: int, most: int) -> None:
    if count > most:
        raise bad_request(f"The body has {count} {what}, may have {most}.", code="invalid_json")


def _invalid(raw: bytes, error: orjson.JSONDecodeError) -> ApiError:
    """Why the body is no JSON; a number that JSON does not have is named by its field."""
    at = len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
    reason = str(error).partition(": line")[0]
    is_number = at < len(raw) and (raw[at] in _OF_NUMBERS or raw[at - 1 : at] == b"-")
    param = place(raw, at) if is_number else ""
    if param:
        message = f"{quoted(param)} must be a number that JSON has and that fits a double."
        return bad_request(message, param[:64], "invalid_json")
    return bad_request(f"The body is not valid JSON in UTF-8: {reason}.", code="invalid_json")


def _given_twice(keys: list[bytes]) -> ApiError:
    """An engine's parser might take the one of two equal keys that was not checked."""
    names: set[str] = set()
    for key in keys:
        name: str = orjson.loads(key)
        if name in names:
            break
        names.add(name)
    return bad_request(f"Key {quoted(name)} is given twice.", param=name[:64], code="invalid_json")
