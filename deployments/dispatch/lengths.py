"""How many tokens a model makes of a text, learned from what its engine counted."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np

from policies.arrays import F64

LEAST_CHARS: Final = 400  # of a text that teaches: in a shorter one the chat template weighs too much
_SAMPLE_CHARS: Final = 2_000
_STEP: Final = 0.1  # weight of the newest count
_WIDE: Final = 0.3  # share of characters beyond ASCII
_SPACED: Final = 0.1  # share of blanks in prose


class TextKind(StrEnum):
    """Texts of one kind have about the same tokens per character: prose, code and numbers, other scripts."""

    PROSE = "prose"
    DENSE = "dense"
    WIDE = "wide"


def kind_of(text: str) -> TextKind:
    """The kind of a text, by its beginning."""
    sample = text[:_SAMPLE_CHARS]
    size = max(len(sample), 1)
    if sum(1 for character in sample if character > "\x7f") / size > _WIDE:
        return TextKind.WIDE
    return TextKind.PROSE if len(sample.split()) / size > _SPACED else TextKind.DENSE


class Lengths:
    """Tokens per character by model and kind of text."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, TextKind], float] = {}

    def counted(self, model: str, text: str, tokens: int) -> None:
        """The engine counted `tokens` in a prompt with this text."""
        if len(text) >= LEAST_CHARS and tokens > 0:
            name, rate = (model, kind_of(text)), tokens / len(text)
            before = self._rates.get(name, rate)
            self._rates[name] = before + _STEP * (rate - before)

    def exceeded(self, model: str, text: str, context_tokens: float) -> None:
        """The engine found the text too long for its context: so many tokens at least."""
        name = (model, kind_of(text))
        self._rates[name] = max(self._rates.get(name, 0.0), context_tokens / max(len(text), 1))

    def likely(self, models: Sequence[str], text: str) -> F64:
        """[M] tokens that each model probably makes of the text; 0 where nothing is known."""
        kind = kind_of(text)
        return len(text) * np.array([self._rates.get((model, kind), 0.0) for model in models])
