"""Compressed request bodies: decoded within the cap, so that a small body cannot become a large one."""

import asyncio
import zlib
from typing import Final

from serve_app.http.errors import bad_request, body_too_large, wrong_encoding

_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOWS: Final = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}
_INLINE_BYTES: Final = 65_536  # above it a thread decodes: the loop serves others meanwhile


async def decoded(body: bytes, encoding: bytes, most_bytes: int) -> bytes:
    """A body without its `content-encoding`.

    Raises ApiError: 415 for another encoding than gzip and deflate, 413 where the body is larger than
    `most_bytes`, 400 where it cannot be decoded.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in _WINDOWS:
        raise wrong_encoding(encoding.decode("latin-1"))
    if len(body) <= _INLINE_BYTES and most_bytes <= _INLINE_BYTES:
        return _inflated(body, _WINDOWS[name], most_bytes)
    return await asyncio.to_thread(_inflated, body, _WINDOWS[name], most_bytes)


def _inflated(body: bytes, window: int, most_bytes: int) -> bytes:
    parts, left = [], most_bytes + 1
    while body:  # gzip may hold several members, one after the other
        member = zlib.decompressobj(window)
        try:
            parts.append(member.decompress(body, left))
        except zlib.error:
            message = "The body is not what its content-encoding says."
            raise bad_request(message, code="invalid_encoding") from None
        left -= len(parts[-1])
        if left <= 0:
            raise body_too_large(most_bytes)
        if not member.eof:
            raise bad_request("The body ends before its content-encoding does.", code="invalid_encoding")
        body = member.unused_data
    return b"".join(parts)
