"""Strict JSON: whatever bytes come, the answer is an object or a 400, and no two parsers could disagree."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.body.strict_json import MAX_CONTAINERS, MAX_MEMBERS, MAX_VALUES, depth, parse
from serve_app.http.errors import ApiError
from serve_app.http.scan import MAX_DEPTH, counts

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


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"temperature":NaN}', "temperature"),
        (b'{"temperature":-Infinity}', "temperature"),
        (b'{"a":"\xc3\xa9","temperature":1e400}', "temperature"),
        (b'{"max_tokens":' + b"9" * 5000 + b"}", "max_tokens"),
        (b'{"a":{"b\\"":[1,{"c":0},1e999]}}', 'a.b\\"[2]'),
        (b'{"a":[[0],[0,-]]}', "a[1][1]"),
        (b'{"model":"auto"', None),
        (b"hello", None),
    ],
)
def test_a_number_that_json_does_not_have_is_named_by_its_field(raw, param):
    with pytest.raises(ApiError) as caught:
        parse(raw)
    assert (caught.value.status, caught.value.param) == (400, param)


def weight(value):
    """(levels, objects and arrays, members, commas) of a parsed value, counted by hand."""
    if not isinstance(value, dict | list):
        return 0, 0, 0, 0
    inner = [weight(child) for child in (value.values() if isinstance(value, dict) else value)]
    levels, containers, members, commas = [
        column(part[i] for part in inner) for i, column in enumerate((max_of, sum, sum, sum))
    ]
    own = len(value) if isinstance(value, dict) else 0
    return levels + 1, containers + 1, members + own, commas + max(0, len(value) - 1)


def max_of(values):
    return max(values, default=0)


@given(st.dictionaries(st.text(), values), st.booleans(), st.sampled_from([None, 1]))
def test_the_compiled_pass_counts_what_the_parser_finds(body, ascii_only, indent):
    try:
        raw = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    assert counts(raw)[:5] == (*weight(body), len(body))


@pytest.mark.parametrize(
    ("unit", "most"), [(b"[]", MAX_CONTAINERS), (b'{"":0}', MAX_MEMBERS), (b"0", MAX_VALUES)]
)
def test_more_than_a_request_can_need_is_refused_before_it_is_parsed(unit, most):
    with pytest.raises(ApiError, match="may have"):
        parse(b'{"a":[' + b",".join([unit] * (most + 1)) + b"]}")


WORST = {
    "arrays": b"[" + b",".join([b"[]"] * 32_000) + b"]",
    "many arrays": b"[" + b",".join([b"[]"] * 700_000) + b"]",
    "members": b"{" + b",".join(b'"%d":0' % (i << 9) for i in range(60_000)) + b"}",
    "many members": b"{" + b",".join(b'"%d":0' % i for i in range(160_000)) + b"}",
    "numbers": b"[" + b",".join([b"1e9"] * 499_000) + b"]",
    "strings": b"[" + b",".join([b'""'] * 499_000) + b"]",
    "escapes": b'"' + b"\\u4e00" * 349_000 + b'"',
    "quotes": b'"' + b'\\"' * 1_048_000 + b'"',
    "error at the end": b"[" + b"0," * 400_000 + b"NaN]",
}


@pytest.mark.timing
@pytest.mark.parametrize("shape", WORST)
def test_the_worst_two_mebibytes_keep_the_loop_for_fifty_milliseconds_at_most(shape):
    raw = b'{"model":"auto","a":' + WORST[shape] + b"}"
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        attempt(raw)
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.05
