"""The reader of server-sent events against the standard's own steps, whatever the chunks and line ends."""

import re
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from deployments.sse import Event, Reader, events, parse

BOM = b"\xef\xbb\xbf"
FRAGMENTS = st.sampled_from(
    (
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\n\r\n",
            b"data",
            b"data:",
            b"data: ",
            b"data:  x",
            b"data: {}",
        ),
        *(
            b": a comment",
            b":",
            b"event: error",
            b"event",
            b"id: 3",
            b"retry: 10",
            b"Data: y",
            b"z",
            b" ",
            BOM,
        ),
        *("é\u2028\u0085".encode(), b"\x00\x0b\x0c\x1c", b"data: [DONE]", b"data: 1\ndata: 2\n\n"),
    )
)
STREAMS = st.lists(FRAGMENTS, max_size=24).map(b"".join)


def reference(stream: bytes) -> list[tuple[str, bytes]]:
    """The standard's algorithm over a whole stream, line by line: (type, data) of each dispatched event."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(BOM))[:-1]  # the last has no end: it is no line
    dispatched, data, kind = [], b"", b""
    for line in lines:
        if not line:
            if data:
                dispatched.append((kind.decode(errors="replace") or "message", data[:-1]))
            data, kind = b"", b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                kind = value
    return dispatched


def chunked(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


def pairs(found: list[Event]) -> list[tuple[str, bytes]]:
    return [(event.name, event.data) for event in found if event.data is not None]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_chunks_give_the_events_of_the_standard_and_every_byte(stream: bytes, cuts: list[int]) -> None:
    reader = Reader()
    found = [event for chunk in chunked(stream, cuts) for event in reader.feed(chunk)]
    assert pairs(found) == reference(stream)
    assert b"".join(event.raw for event in found) + reader.rest == stream


@given(STREAMS)
def test_byte_by_byte_is_the_same_as_at_once(stream: bytes) -> None:
    reader = Reader()
    found = [event for n in range(len(stream)) for event in reader.feed(stream[n : n + 1])]
    assert pairs(found) == reference(stream) == pairs(parse(stream))


@given(STREAMS)
def test_an_event_stands_for_itself(stream: bytes) -> None:
    """What one event holds, read alone, is that event: events may be left out without harm to others."""
    reader = Reader()
    for event in reader.feed(stream.replace(BOM, b"")):
        assert pairs(parse(event.raw)) == pairs([event])


def test_comments_names_blanks_and_many_lines() -> None:
    stream = b": ping\n\nevent: error\rdata:a\r\rdata:  b\r\ndata\r\ndata: c\r\n\r\nid: 1\n\n"
    found = Reader().feed(stream)
    assert [(event.name, event.data) for event in found] == [
        ("message", None),
        ("error", b"a"),
        ("message", b" b\n\nc"),
        ("message", None),
    ]


def test_a_stream_that_ends_inside_an_event_is_cut_and_one_that_ends_between_is_not() -> None:
    reader = Reader()
    assert reader.feed(b"data: 1\n\ndata: 2\n")[0].data == b"1"
    assert reader.is_cut
    assert reader.feed(b"\r\n\r\n")[0].data == b"2"
    assert not reader.is_cut
    assert reader.rest == b"\r\n"


def test_the_work_for_a_long_event_in_small_chunks_grows_with_its_length_only() -> None:
    reader = Reader()
    assert not [event for _ in range(2_000) for event in reader.feed(b"data: " + b"x" * 100)]
    assert reader._searched == 2_000 * 106 - 1  # what was searched once is not searched again
    assert len(reader.feed(b"\n\n")) == 1


async def test_an_async_stream_of_chunks_gives_its_events_with_data() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (BOM + b"da", b"ta: 1\n", b"\n: c\n\nda", b"ta: 2\r", b"\n\r\n"):
            yield chunk

    assert [event.data async for event in events(chunks())] == [b"1", b"2"]
