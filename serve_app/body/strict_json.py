"""The request body as strict JSON: one object in UTF-8, nothing that two parsers could read in two ways."""

import json
import re
from typing import Any

import orjson

from serve_app.http.errors import bad_request, quoted

MAX_DEPTH = 64

_LARGE_BYTES = 65_536  # above it one pass of the slower parser beats a search for every key
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

Body = dict[str, Any]


def parse(raw: bytes) -> Body:
    """A JSON object from UTF-8 bytes.

    Raises ApiError (400) for anything else: other encodings, NaN and infinities, lone surrogates,
    numbers too large for a double, a key given twice at the top level, nesting over 64 levels.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        reason = str(error).partition(": line")[0]
        raise bad_request(f"The body is not valid JSON in UTF-8: {reason}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    if depth(body, MAX_DEPTH) > MAX_DEPTH:
        raise bad_request(f"The body is nested over {MAX_DEPTH} levels deep.", code="invalid_json")
    _refuse_duplicates(raw, body)
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


def _refuse_duplicates(raw: bytes, body: Body) -> None:
    """400 for a top-level key given twice: an engine's parser might take the one that was not checked."""
    if len(raw) <= _LARGE_BYTES and b"\\u00" not in raw:
        for key in body:
            if not _PLAIN_KEY.fullmatch(key) or raw.count(b'"%s"' % key.encode()) != 1:
                break
        else:
            return
    last: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        nonlocal last
        last = pairs  # the outermost object is closed last

    json.loads(raw, object_pairs_hook=keep)
    if len(last) == len(body):
        return
    seen: set[str] = set()
    for key, _ in last:
        if key in seen:
            raise bad_request(f"Key {quoted(key)} is given twice.", param=key[:64], code="invalid_json")
        seen.add(key)
