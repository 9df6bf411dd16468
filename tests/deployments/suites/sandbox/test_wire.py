"""The wire carries plain data unchanged, and understands nothing else."""

import contextlib
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.suites.sandbox.wire import MOST_BYTES, Line, WireError, decode, encode

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3))
VALUES = st.recursive(
    HASHABLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3)
)


def no_object(handle: int) -> object:
    raise WireError("no objects here")


@given(VALUES)
def test_plain_data_arrives_as_it_was_sent(value: object) -> None:
    reading, writing = os.pipe()
    try:
        Line(reading, writing).send([encode(value)])
        received = decode(Line(reading, writing).receive()[0], no_object)
    finally:
        os.close(reading)
        os.close(writing)
    assert received == value
    assert type(received) is type(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(JSON | st.lists(st.sampled_from("ifcbltszdo") | JSON, max_size=4))
def test_whatever_arrives_is_a_value_or_an_error_of_the_wire(said: object) -> None:
    try:
        decode(said, no_object)
    except WireError:
        return


@pytest.mark.parametrize(
    "data", [b"", b"not json\n", b"{}\n", b"[]\n", b"x" * (MOST_BYTES + 1), b"[" * 99999 + b"\n"]
)
def test_a_line_that_is_no_message_is_an_error_of_the_wire(data: bytes) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as stream, contextlib.suppress(BrokenPipeError):
            stream.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(WireError):
            Line(reading, -1).receive()
    finally:
        os.close(reading)
        writer.join()


def test_an_object_needs_somebody_who_keeps_it() -> None:
    with pytest.raises(WireError, match="'object'"):
        encode([object()])
    assert encode([object()], lambda value: 7) == ["l", ["o", 7]]
