"""How a prompt is written: shares of kinds of characters, how it opens and closes, its length."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

_KINDS: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", " ", "\n\r\t", "\"'`", "()[]{}",
    "+-*/=<>^%", "$", "\\", "_", "?", ".!", ",", ":;",
)  # fmt: skip
_OTHER: Final = len(_KINDS)
_BEYOND_ASCII: Final = _OTHER + 1
_COUNT: Final = _BEYOND_ASCII + 1
_SPACE, _NEWLINE = 3, 4
_CONSIDERED_BYTES: Final = 1536
STYLE_SIZE: Final = 3 * _COUNT + 2


def _kind_table() -> npt.NDArray[np.uint8]:
    """[256] kind of each byte."""
    table = np.full(256, _OTHER, dtype=np.uint8)
    table[128:] = _BEYOND_ASCII
    for kind, characters in enumerate(_KINDS):
        table[[ord(character) for character in characters]] = kind
    return table


_KIND: Final = _kind_table()


def style(text: str) -> npt.NDArray[np.float32]:
    """[S] style of a text: square roots of the shares of 17 kinds of bytes, one-hot kind of the first
    and of the last byte, ln(bytes) / 3, ln(bytes a word); zeros for an empty text. White space around
    the text does not count, nor do doubled spaces and line ends."""
    vector = np.zeros(STYLE_SIZE, dtype=np.float32)
    if len(text) > 2 * _CONSIDERED_BYTES:
        middle = len(text) - 2 * _CONSIDERED_BYTES
        text = text[:_CONSIDERED_BYTES] + text[-_CONSIDERED_BYTES:]
    else:
        middle = 0
    text = text.strip().replace("\n\n", "\n").replace("  ", " ")
    raw = text[:_CONSIDERED_BYTES].encode("utf-8", "surrogatepass")
    if not raw:
        return vector
    kinds = _KIND[np.frombuffer(raw, dtype=np.uint8)]
    counts = np.bincount(kinds, minlength=_COUNT)
    vector[:_COUNT] = np.sqrt(counts / len(raw))
    vector[_COUNT + kinds[0]] = 1.0
    last = (
        kinds[-1] if len(text) <= _CONSIDERED_BYTES else _KIND[text[-1].encode("utf-8", "surrogatepass")[-1]]
    )
    vector[2 * _COUNT + last] = 1.0
    vector[-2] = math.log(len(raw) - min(len(text), _CONSIDERED_BYTES) + len(text) + middle) / 3.0
    vector[-1] = math.log(len(raw) / (int(counts[_SPACE]) + int(counts[_NEWLINE]) + 1))
    return vector
