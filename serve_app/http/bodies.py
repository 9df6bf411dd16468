"""A bound on what the bodies of all requests under way come to, so that many cannot use up the memory.

A body costs more than its bytes: it is parsed into objects, its texts are joined into a prompt, and it is
written anew for a model. What that comes to is known from one pass over its bytes, before it is parsed.
"""

from collections import Counter
from types import TracebackType
from typing import Final, Self

from serve_app.http.errors import bodies_too_large

SHARE: Final = 0.5  # of the room, for one caller with several bodies: the rest is left to others
COPIES: Final = 2  # of the bytes: as they came, and as a model gets them
JOINED_BYTES: Final = 32 * 2**20  # of texts that are joined: `caps.text_chars` at four bytes each

# Bytes of Python's objects beside what a text holds; measured over the shapes of test_bodies.py.
_CONTAINER: Final = 136
_MEMBER: Final = 112
_VALUE: Final = 44
_STRING: Final = 64


def likely_bytes(size: int) -> int:
    """What a body of so many bytes comes to if it is plain text: room for it is taken before it is read."""
    return (COPIES + 1) * size + min(size, JOINED_BYTES)


def held_bytes(raw: bytes) -> int:
    """What a body comes to at most while its request is under way."""
    from serve_app.http.scan import counts  # compiled: what only reads the config file must not load it

    _, containers, members, commas, _, strings, text_bytes = counts(raw)
    objects = _CONTAINER * containers + _MEMBER * members + _VALUE * (commas + 1) + _STRING * strings
    return COPIES * len(raw) + objects + text_bytes + min(text_bytes, JOINED_BYTES)


class Bodies:
    """Counts what all bodies hold from their arrival to the end of their requests, by caller."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self.by_caller: Counter[str] = Counter()
        held_bytes(b"")  # compiles now what the first request would wait for

    def room(self, caller: str = "") -> "Room":
        """Room for one request's body, given back at the end of its context."""
        return Room(self, caller)

    def take(self, caller: str, more_bytes: int, own_bytes: int = 0) -> None:
        """Hold more bytes for a caller, whose body holds `own_bytes` already. Raises ApiError (503)."""
        if self.held_bytes + more_bytes > self.most_bytes:
            raise bodies_too_large(self.most_bytes)
        others = self.by_caller[caller] - own_bytes  # a body that is the caller's only one may need more
        share = self.most_bytes * SHARE
        if caller and others and others + own_bytes + more_bytes > share:
            raise bodies_too_large(int(share), "this key")
        self.held_bytes += more_bytes
        self.by_caller[caller] += more_bytes

    def give_back(self, caller: str, held_bytes: int) -> None:
        """Hold them no longer."""
        self.held_bytes -= held_bytes
        self.by_caller[caller] -= held_bytes
        if not self.by_caller[caller]:
            del self.by_caller[caller]


class Room:
    """What one request holds."""

    __slots__ = ("_bodies", "_caller", "held_bytes")

    def __init__(self, bodies: Bodies, caller: str) -> None:
        self._bodies = bodies
        self._caller = caller
        self.held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bodies.give_back(self._caller, self.held_bytes)

    @property
    def most_bytes(self) -> int:
        """All that there is: a body that needs more never has room."""
        return self._bodies.most_bytes

    def hold(self, all_bytes: int) -> None:
        """Hold so many in all. Raises ApiError (503) without room."""
        more_bytes = all_bytes - self.held_bytes
        if more_bytes > 0:
            self._bodies.take(self._caller, more_bytes, self.held_bytes)
        else:
            self._bodies.give_back(self._caller, -more_bytes)
        self.held_bytes = all_bytes
