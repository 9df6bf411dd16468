"""How a prompt is written: shares of kinds of characters, how it opens and closes, its length."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.arrays import F32
from policies.compiled import BYTES, array, compiled, types

_KINDS: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", " ", "\n\r\t", "\"'`", "()[]{}",
    "+-*/=<>^%", "$", "\\", "_", "?", ".!", ",", ":;",
)  # fmt: skip
_OTHER: Final = len(_KINDS)
_BEYOND_ASCII: Final = _OTHER + 1
_COUNT: Final = _BEYOND_ASCII + 1
_SPACE, _NEWLINE = 3, 4
_CONSIDERED: Final = 1536  # characters
STYLE_SIZE: Final = 3 * _COUNT + 2


def _kind_table() -> npt.NDArray[np.uint8]:
    """[256] kind of each byte."""
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[128:] = _BEYOND_ASCII
    for kind, characters in enumerate(_KINDS):
        table[[ord(character) for character in characters]] = kind
    return table


_KIND: Final = _kind_table()


def style(text: str) -> F32:
    """[S] style of a text: square roots of the shares of 17 kinds of bytes, one-hot kind of the first
    and of the last byte, ln(bytes) / 3, ln(bytes a word); zeros for an empty text. White space around
    the text does not count, nor do doubled spaces and line ends."""
    beyond = max(len(text) - 2 * _CONSIDERED, 0)
    if beyond:
        text = text[:_CONSIDERED] + text[-_CONSIDERED:]
    text = text.strip().replace("\n\n", "\n").replace("  ", " ")
    if len(text) <= _CONSIDERED:
        raw = text.encode("utf-8", "surrogatepass")
        return _style(raw, raw[-1], len(raw)) if raw else np.zeros(STYLE_SIZE, dtype=np.float32)
    raw = text[:_CONSIDERED].encode("utf-8", "surrogatepass")
    last = text[-1].encode("utf-8", "surrogatepass")[-1]
    return _style(raw, last, len(raw) + len(text) - _CONSIDERED + beyond)


@compiled(array(types.float32)(BYTES, types.int64, types.int64))
def _style(raw: bytes, last: int, size: int) -> F32:
    """The style by the considered bytes, the last byte and the size of the text; `raw` is not empty."""
    vector = np.zeros(STYLE_SIZE, dtype=np.float32)
    counts = np.zeros(_COUNT, dtype=np.int64)
    for byte in raw:
        counts[_KIND[byte]] += 1
    for kind in range(_COUNT):
        vector[kind] = math.sqrt(counts[kind] / len(raw))
    vector[_COUNT + _KIND[raw[0]]] = 1.0
    vector[2 * _COUNT + _KIND[last]] = 1.0
    vector[-2] = math.log(size) / 3.0
    vector[-1] = math.log(len(raw) / (counts[_SPACE] + counts[_NEWLINE] + 1))
    return vector
