"""What judge and guest say to each other: one JSON array a line. Only plain data arrives as data.

Objects of other kinds stay in the guest; the judge gets a handle. So nothing that the guest sends can run,
and an object whose comparison always says yes compares as what it is: not a number, not a list.
"""

import json
import math
import os
from collections.abc import Callable
from typing import Any, Final

MOST_BYTES: Final = 1 << 20  # of one message

Keep = Callable[[Any], int]  # where an object stays; returns its handle
Object = Callable[[int], Any]  # what stands for a handle on this side


class WireError(Exception):
    """The other side is gone, or said what cannot be understood."""


def encode(value: Any, keep: Keep | None = None) -> Any:
    """JSON for plain data. Raises WireError for another kind of object where nobody keeps it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return ["i", format(int.__int__(value), "x")]
    if isinstance(value, float):
        return ["f", float.hex(value)] if math.isfinite(value) else ["f", float.__repr__(value)]
    if isinstance(value, complex):
        return ["c", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    for kind, tag in ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "z")):
        if isinstance(value, kind):
            return [tag, *(encode(item, keep) for item in value)]
    if isinstance(value, dict):
        return ["d", *([encode(k, keep), encode(v, keep)] for k, v in dict.items(value))]
    if keep is None:
        raise WireError(
            f"An object of type '{type(value).__name__}' cannot be handed to the code under test."
        )
    return ["o", keep(value)]


def decode(said: Any, handle: Object) -> Any:
    """The value behind `encode`'s JSON. Raises WireError where it is none."""
    if said is None or isinstance(said, bool | str):
        return said
    try:
        tag, *rest = said
        return _READERS[tag](rest, handle)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise WireError(f"not a value: {type(error).__name__}") from None


def _items(rest: list[Any], handle: Object) -> list[Any]:
    return [decode(item, handle) for item in rest]


_READERS: Final[dict[str, Callable[[list[Any], Object], Any]]] = {
    "i": lambda rest, _: int(rest[0], 16),
    "f": lambda rest, _: float(rest[0]) if rest[0] in ("nan", "inf", "-inf") else float.fromhex(rest[0]),
    "c": lambda rest, _: complex(float.fromhex(rest[0]), float.fromhex(rest[1])),
    "b": lambda rest, _: bytes.fromhex(rest[0]),
    "l": _items,
    "t": lambda rest, handle: tuple(_items(rest, handle)),
    "s": lambda rest, handle: set(_items(rest, handle)),
    "z": lambda rest, handle: frozenset(_items(rest, handle)),
    "d": lambda rest, handle: {decode(k, handle): decode(v, handle) for k, v in rest},
    "o": lambda rest, handle: handle(int(rest[0])),
}


class Line:
    """One end of the conversation, over two file descriptors."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""

    def send(self, message: list[Any]) -> None:
        """Raises WireError where the message is too long or nobody listens."""
        data = json.dumps(message).encode() + b"\n"
        if len(data) > MOST_BYTES:
            raise WireError("too much data")
        try:
            while data:
                data = data[os.write(self._writing, data) :]
        except OSError as error:
            raise WireError("gone") from error

    def receive(self) -> list[Any]:
        """The next message. Raises WireError."""
        while b"\n" not in self._rest:
            part = os.read(self._reading, 65536)
            if not part:
                raise WireError("gone")
            self._rest += part
            if len(self._rest) > MOST_BYTES:
                raise WireError("too much data")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise WireError("not JSON") from None
        if not isinstance(message, list) or not message:
            raise WireError("not a message")
        return message
