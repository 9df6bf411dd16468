"""The lower bound on tokens holds for byte pairs that join a lot, and for tokenizers that join no words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.prompt.token_bounds import least_tokens


@given(st.text(max_size=300))
def test_the_bound_is_below_a_tokenizer_of_four_bytes(text: str) -> None:
    assert least_tokens(text) <= max(1, math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4))


@given(st.text(max_size=300))
def test_the_bound_is_never_above_the_characters(text: str) -> None:
    assert least_tokens(text) <= len(text)


@pytest.mark.parametrize(
    ("text", "least"), [("hello there my friend " * 4_000, 8_000), ("x" * 160, 10), (" " * 10_000, 0)]
)
def test_what_is_far_too_long_is_known_to_be(text: str, least: int) -> None:
    assert least_tokens(text) == least
