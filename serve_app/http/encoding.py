"""Compressed request bodies: decoded within the cap, so that a small body cannot become a large one."""

import asyncio
import zlib
from typing import Final

from serve_app.http.errors import bad_request, body_too_large, wrong_encoding

_CODE: Final = "invalid_encoding"
_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOWS: Final = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}
_RAW: Final = -zlib.MAX_WBITS
_DECODED_BYTES: Final = 12 * 2**20  # at most: more would keep the loop for long once it is decoded
_MEMBERS: Final = 1_000  # compressed bodies one after the other in one
_FIRST_BYTES: Final = 512  # that are given to a member at first: what it does not need is copied
_NEXT_BYTES: Final = 65_536
_INLINE_BYTES: Final = 65_536  # above it a thread decodes: the loop serves others meanwhile


class Decoding:
    """Decodes one body at a time: how large it becomes shows only then, and many would have no room."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def decoded(self, body: bytes, encoding: bytes, most_bytes: int) -> bytes:
        """A body without its `content-encoding`.

        Raises ApiError: 415 for another encoding than gzip and deflate, 413 where the body is larger than
        `most_bytes` or 12 MiB, 400 where it cannot be decoded.
        """
        most_bytes = min(most_bytes, _DECODED_BYTES)
        names = [name.strip().lower() for name in encoding.split(b",")]
        applied = [name for name in names if name not in (b"", b"identity")]
        if not applied:
            return body
        [name, *more] = applied
        if more or name not in _WINDOWS:
            raise wrong_encoding(encoding.decode("latin-1"))
        window = _RAW if name == b"deflate" and not _is_zlib(body) else _WINDOWS[name]
        if len(body) <= _INLINE_BYTES and most_bytes <= _INLINE_BYTES:
            return _inflated(body, window, most_bytes)
        async with self._turn:
            return await asyncio.to_thread(_inflated, body, window, most_bytes)


def _is_zlib(body: bytes) -> bool:
    """Whether a body begins as RFC 1950 has it; some clients send the bare stream in its place."""
    return len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflated(body: bytes, window: int, most_bytes: int) -> bytes:
    """All members of `body`, one after the other, each read from where the one before ended."""
    view, at, members = memoryview(body), 0, 0
    parts, left = list[bytes](), most_bytes + 1
    while at < len(view):
        members += 1
        if members > _MEMBERS:
            raise bad_request(f"The body has more than {_MEMBERS} compressed members.", code=_CODE)
        member, size = zlib.decompressobj(window), _FIRST_BYTES
        while not member.eof:
            if at >= len(view):
                raise bad_request("The body ends before its content-encoding does.", code=_CODE)
            chunk = view[at : at + size]
            at, size = at + len(chunk), _NEXT_BYTES
            try:
                parts.append(member.decompress(chunk, left))
            except zlib.error:
                raise bad_request("The body is not what its content-encoding says.", code=_CODE) from None
            left -= len(parts[-1])
            if left <= 0:
                raise body_too_large(most_bytes)
        at -= len(member.unused_data)
    return b"".join(parts)
