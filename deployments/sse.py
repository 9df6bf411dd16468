"""Server-sent events by the grammar of the HTML standard (9.2.6), read as the bytes arrive."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

import msgspec

DONE: Final = b"[DONE]"  # the data of the event that ends an OpenAI stream
_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One block of a stream, up to and with its blank line.

    A struct: one is made for every token, and a dataclass takes several times as long.
    """

    raw: bytes  # the bytes as they came
    data: bytes | None  # the lines of `data`, joined by LF; None where the block has none, such as a comment
    name: str = "message"


class Reader:
    """Cuts a stream into events, wherever its chunks begin and end."""

    def __init__(self) -> None:
        self._held = b""
        self._searched = 0  # bytes of `_held` in which no blank line begins
        self._begun = False

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._held

    @property
    def is_cut(self) -> bool:
        """Whether an event has begun and not ended; line ends between events are none."""
        return bool(self._held.strip(b"\r\n"))

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk."""
        if (  # nearly every chunk is exactly one line `data: ...` and its blank line
            chunk[-2:] == b"\n\n"
            and chunk[:6] == b"data: "
            and not self._held
            and chunk.find(_LF) == len(chunk) - 2  # numbers are searched for ten times faster than strings
            and _CR not in chunk
        ):
            self._begun = True
            return [Event(chunk, chunk[6:-2])]
        data = self._held + chunk
        find = _blank_line if _CR in data else _double_lf
        events, start = [], 0
        end = find(data, self._searched)
        while end:
            events.append(self._event(data[start:end]))
            start = end
            end = find(data, start)
        self._held = data[start:]
        self._searched = max(len(self._held) - 1, 0)
        return events

    def _event(self, raw: bytes) -> Event:
        text = raw if self._begun else raw.removeprefix(_BOM)
        self._begun = True
        lines: list[bytes] = []
        name = ""
        for line in text.splitlines():  # of bytes: at LF, CR and CR LF only
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ").decode(errors="replace")
        return Event(raw, b"\n".join(lines) if lines else None, name or "message")


def _double_lf(data: bytes, start: int) -> int:
    """Where the first event after `start` ends, in bytes without CR; 0 if it does not yet."""
    at = data.find(b"\n\n", start)
    return at + 2 if at >= 0 else 0


def _blank_line(data: bytes, start: int) -> int:
    """Where the first event after `start` ends, whatever its line ends are; 0 if it does not yet."""
    places = [at for pair in (b"\n\n", b"\n\r", b"\r\r") if (at := data.find(pair, start)) >= 0]
    if not places:
        return 0
    end = min(places) + 2
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end


def parse(stream: bytes) -> list[Event]:
    """The events with data of a whole stream."""
    return [event for event in Reader().feed(stream) if event.data is not None]


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Event]:
    """The events with data, as they end."""
    reader = Reader()
    async for chunk in chunks:
        for event in reader.feed(chunk):
            if event.data is not None:
                yield event
