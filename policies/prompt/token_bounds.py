"""How many tokens a text has at least, whatever the tokenizer: what is refused for length must not fit."""

from typing import Final

_MOST_CHARS: Final = 16  # of printed text in one token, on average; no tokenizer in use packs more
_MOST_WORDS: Final = 2  # in one token, on average: almost no tokenizer joins words across blanks


def least_tokens(text: str) -> int:
    """A lower bound on the tokens of `text`. Blanks count as nothing: some tokenizers pack runs of them."""
    words = text.split()
    return max(len(words) // _MOST_WORDS, sum(map(len, words)) // _MOST_CHARS)
