"""A JSON body before it is parsed: compiled passes that count, weigh, and find keys and places."""

from typing import Any

import numpy as np

from policies.compiled import BYTES, array, compiled, types

MAX_DEPTH = 64

_COUNTS = types.UniTuple(types.int64, 7)


@compiled(_COUNTS(BYTES))
def counts(raw: bytes) -> tuple[int, int, int, int, int, int, int]:
    """(levels, objects and arrays, members of objects, commas, members of the outermost object, strings,
    bytes of the strings once they are Python's: each character as wide as the widest of its string, and
    what is not ASCII once more in UTF-8).

    Of text that is no JSON the counts mean nothing.
    """
    depth = deepest = containers = members = commas = outermost = strings = text_bytes = 0
    chars, width, first, is_plain = 0, 1, 0, True
    i, end, in_string = 0, len(raw), False
    while i < end:
        c = raw[i]
        if in_string:
            if c == 34:
                in_string = False
                strings += 1
                text_bytes += width * max(chars, 0) + (0 if is_plain else i - first)
            elif c >= 128:
                is_plain = False
                chars += c >= 192  # the first byte of a character
                width = max(width, 4 if c >= 240 else 2 if c >= 196 else 1)
            else:
                chars += 1
            if c == 92:  # a backslash: the next one is no end
                i += 1
                if i + 2 < end and raw[i] == 117:  # \u: four digits follow, which are no characters
                    chars -= 4
                    is_plain = False
                    is_half = raw[i + 1] | 32 == 100 and raw[i + 2] | 32 >= 56  # of a surrogate pair
                    width = max(width, 4 if is_half else 2)
        elif c == 34:
            in_string = True
            chars, width, first, is_plain = 0, 1, i, True
        elif c == 123 or c == 91:
            depth += 1
            containers += 1
            deepest = max(deepest, depth)
        elif c == 125 or c == 93:
            depth -= 1
        elif c == 58:
            members += 1
            outermost += depth == 1
        elif c == 44:
            commas += 1
        i += 1
    return deepest, containers, members, commas, outermost, strings, text_bytes


@compiled(types.int64(BYTES, types.int64, array(types.int64, 2), array(types.int64, 2)))
def walk(raw: bytes, to: int, places: Any, keys: Any) -> int:
    """Levels that are open at byte `to`.

    `places` [L, 3] gets of each level the span of the last key and an array's index, -1 for an object.
    `keys` [K, 2] gets the spans of the outermost object's keys, quotes included. L levels, K keys.
    """
    depth = first = last = found = 0
    i, in_string = 0, False
    while i < to:
        c = raw[i]
        if in_string:
            if c == 92:
                i += 1
            elif c == 34:
                in_string = False
                last = i + 1
        elif c == 34:
            in_string = True
            first = i
        elif c == 123 or c == 91:
            if depth < len(places):
                places[depth] = (0, 0, -1) if c == 123 else (0, 0, 0)
            depth += 1
        elif c == 125 or c == 93:
            depth = max(0, depth - 1)
        elif c == 58 and 0 < depth <= len(places):
            places[depth - 1, 0] = first
            places[depth - 1, 1] = last
            if depth == 1 and found < len(keys):
                keys[found, 0] = first
                keys[found, 1] = last
                found += 1
        elif c == 44 and 0 < depth <= len(places) and places[depth - 1, 2] >= 0:
            places[depth - 1, 2] += 1
        i += 1
    return min(depth, len(places))


def place(raw: bytes, at: int) -> str:
    """The field that stands at a byte, such as `messages[0].content`."""
    places = np.zeros((MAX_DEPTH, 3), dtype=np.int64)
    name = ""
    for first, last, index in places[: walk(raw, at, places, np.zeros((0, 2), dtype=np.int64))].tolist():
        name += f"[{index}]" if index >= 0 else f".{raw[first + 1 : last - 1].decode('utf-8', 'replace')}"
    return name.removeprefix(".")


def outermost_keys(raw: bytes, members: int) -> list[bytes]:
    """The outermost object's keys as they are written, quotes included."""
    keys = np.zeros((members, 2), dtype=np.int64)
    walk(raw, len(raw), np.zeros((1, 3), dtype=np.int64), keys)
    return [raw[first:last] for first, last in keys.tolist()]
