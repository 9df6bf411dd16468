"""A bound on the bodies of all requests under way, so that many large ones cannot use up the memory."""

from types import TracebackType
from typing import Self

from serve_app.http.errors import bodies_too_large


class Bodies:
    """Counts the bytes of all bodies from their arrival to the end of their requests."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def room(self) -> "Room":
        """Room for one request's body, given back at the end of its context."""
        return Room(self)


class Room:
    """What one request holds."""

    __slots__ = ("_bodies", "held_bytes")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bodies.held_bytes -= self.held_bytes

    def take(self, more_bytes: int) -> None:
        """Hold more bytes; what is held already is not given back. Raises ApiError (503) without room."""
        more_bytes = max(0, more_bytes)
        if self._bodies.held_bytes + more_bytes > self._bodies.most_bytes:
            raise bodies_too_large(self._bodies.most_bytes)
        self._bodies.held_bytes += more_bytes
        self.held_bytes += more_bytes
