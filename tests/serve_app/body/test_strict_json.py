"""Strict JSON: whatever bytes come, the answer is an object or a 400, and no two parsers could disagree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.body.strict_json import MAX_DEPTH, depth, parse
from serve_app.http.errors import ApiError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def attempt(raw):
    """The parsed object and no error, or nothing and the error."""
    try:
        return parse(raw), None
    except ApiError as error:
        return None, error


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_400(raw):
    parsed, error = attempt(raw)
    assert isinstance(parsed, dict) if error is None else error.status == 400


@given(st.dictionaries(st.text(), values, max_size=6))
def test_an_object_means_the_same_to_the_standard_parser(body):
    for ascii_only in (True, False):
        try:
            raw = json.dumps(body, ensure_ascii=ascii_only).encode()
        except UnicodeEncodeError:  # a lone surrogate, which only escapes can carry
            continue
        parsed, error = attempt(raw)
        assert parsed == json.loads(raw) if error is None else "surrogate" in error.message


@given(st.text(min_size=1), values, values)
def test_a_key_given_twice_is_refused_however_it_is_written(key, first, second):
    try:
        keys = json.dumps(key), json.dumps(key, ensure_ascii=False)
        raw = f"{{{keys[0]}:{json.dumps(first)},{keys[1]}:{json.dumps(second)}}}"
        encoded = raw.encode()
    except UnicodeEncodeError:
        return
    with pytest.raises(ApiError) as caught:
        parse(encoded)
    assert caught.value.status == 400


def test_a_large_body_with_a_key_twice_is_refused():
    raw = b'{"model":"a","x":"%s","model":"b"}' % (b"y" * 100_000)
    with pytest.raises(ApiError, match="'model' is given twice"):
        parse(raw)


def test_a_key_may_appear_again_inside():
    raw = b'{"model":"auto","metadata":{"model":"x"},"user":"\\"model\\""}'
    assert parse(raw)["metadata"] == {"model": "x"}


@pytest.mark.parametrize(("levels", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_depth_is_bounded_exactly(levels, fits):
    raw = b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    if fits:
        assert depth(parse(raw), 100) == levels
    else:
        with pytest.raises(ApiError, match="levels deep"):
            parse(raw)


def test_brackets_inside_text_are_no_depth():
    assert parse(json.dumps({"a": "[{" * 500}).encode())
