"""The compiled style of a prompt is the plain one."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.prompt.style import STYLE_SIZE, style

KINDS = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", " ", "\n\r\t", "\"'`", "()[]{}",
    "+-*/=<>^%", "$", "\\", "_", "?", ".!", ",", ":;",
)  # fmt: skip


def kind(byte: int) -> int:
    if byte > 127:
        return len(KINDS) + 1
    return next((i for i, characters in enumerate(KINDS) if chr(byte) in characters), len(KINDS))


def plain_style(text: str) -> list[float]:
    text = text.strip().replace("\n\n", "\n").replace("  ", " ")
    raw = text.encode("utf-8", "surrogatepass")
    if not raw:
        return [0.0] * STYLE_SIZE
    kinds = [kind(byte) for byte in raw]
    size = len(KINDS) + 2
    shares = [math.sqrt(kinds.count(i) / len(raw)) for i in range(size)]
    ends = [float(kinds[end] == i) for end in (0, -1) for i in range(size)]
    words = kinds.count(3) + kinds.count(4) + 1
    return [*shares, *ends, math.log(len(raw)) / 3.0, math.log(len(raw) / words)]


@given(st.text(max_size=1536) | st.text(st.characters(max_codepoint=127), max_size=1536))
def test_the_compiled_style_is_the_plain_one(text: str) -> None:
    assert np.allclose(style(text), plain_style(text), rtol=1e-6, atol=0.0)


def test_a_long_text_is_known_by_its_start_its_last_byte_and_its_length() -> None:
    long, longer = "a" * 5_000 + "?", "a" * 9_000 + "?"
    assert np.array_equal(style(long)[:-2], style(longer)[:-2])
    assert style(longer)[-2] > style(long)[-2]
    assert not np.array_equal(style(long), style(long[:-1] + "!"))
