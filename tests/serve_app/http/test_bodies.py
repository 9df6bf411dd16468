"""What a body comes to is known before it is parsed, and is never less than what it comes to."""

import json
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.http.bodies import COPIES, JOINED_BYTES, held_bytes, likely_bytes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=12),
    max_leaves=40,
)
SHAPES = {
    "numbers": {"a": [i + 0.5 for i in range(20_000)]},
    "token ids": {"a": [[i * 1000 for i in range(200)] for _ in range(100)]},
    "empty arrays": {"a": [[] for _ in range(20_000)]},
    "arrays of one": {"a": [[i] for i in range(20_000)]},
    "nested arrays": {"a": [[[[[]]]] for _ in range(5_000)]},
    "empty objects": {"a": [{} for _ in range(20_000)]},
    "objects of one": {"a": [{"b": i} for i in range(20_000)]},
    "objects of six": {"a": [{str(j): i for j in range(6)} for i in range(4_000)]},
    "objects of twelve": {"a": [{str(j): i for j in range(12)} for i in range(3_000)]},
    "one large object": {str(i): i for i in range(40_000)},
    "short texts": {"a": [f"{i:x}" for i in range(20_000)]},
    "one long text": {"a": "x" * 2_000_000},
    "one wide letter": {"a": "x" * 500_000 + "\N{GRINNING FACE}"},
    "Chinese": {"a": "\u4e2d\u6587" * 100_000},
    "accents": {"a": "\u00e9" * 200_000},
}


def size(value):
    """Bytes of an object and all inside it, the collector's heads included."""
    own = sys.getsizeof(value)
    if isinstance(value, dict):
        return own + 16 + sum(size(key) + size(inner) for key, inner in value.items())
    if isinstance(value, list):
        return own + 16 + sum(map(size, value))
    if isinstance(value, str) and not value.isascii():
        return own + len(value.encode("utf-8", "surrogatepass"))  # which the string keeps once it was written
    return 0 if value is None or isinstance(value, bool) else own


def joined(value):
    """Bytes of its texts as one prompt."""
    if isinstance(value, dict):
        return sum(map(joined, value.values()))
    if isinstance(value, list):
        return sum(map(joined, value))
    return len(value) if isinstance(value, str) else 0


def comes_to(raw):
    parsed = orjson.loads(raw)
    return size(parsed) + COPIES * len(raw) + min(joined(parsed), JOINED_BYTES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("escaped", [False, True])
def test_the_worst_shapes_hold_no_more_than_was_said_and_not_much_less(shape, escaped):
    raw = json.dumps(SHAPES[shape], ensure_ascii=escaped, separators=(",", ":")).encode()
    real = comes_to(raw)
    assert real <= held_bytes(raw) <= 2.6 * real


@given(st.dictionaries(st.text(), VALUES, max_size=12), st.booleans())
def test_any_body_holds_no_more_than_was_said(body, escaped):
    try:
        raw = json.dumps(body, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        return
    try:
        real = comes_to(raw)
    except orjson.JSONDecodeError:
        return
    assert real <= held_bytes(raw)


def test_plain_text_needs_the_room_that_was_taken_before_it_came():
    raw = json.dumps({"a": "x" * 1_000_000}).encode()
    assert held_bytes(raw) == pytest.approx(likely_bytes(len(raw)), rel=0.001)
