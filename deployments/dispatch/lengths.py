"""How many tokens a model makes of a text, learned from what its engine counted."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np

from deployments.dispatch.request import Prompt
from policies.arrays import F64

BELIEVED_S: Final = 600.0  # after a refusal for length
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
    if (len(sample) - len(sample.encode("ascii", "ignore"))) / size > _WIDE:
        return TextKind.WIDE
    return TextKind.PROSE if len(sample.split()) / size > _SPACED else TextKind.DENSE


class Lengths:
    """Tokens per character by model and kind of text, tools included. `now_s` is wall clock."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, TextKind], float] = {}
        self._refused: dict[tuple[str, TextKind], tuple[float, float]] = {}  # rate at least, valid until

    def counted(self, model: str, prompt: Prompt, tokens: int) -> None:
        """The engine counted `tokens` in this prompt."""
        chars = _chars(prompt)
        if chars >= LEAST_CHARS and tokens > 0:
            name, rate = (model, kind_of(prompt.text)), tokens / chars
            before = self._rates.get(name, rate)
            self._rates[name] = before + _STEP * (rate - before)

    def refused(self, model: str, prompt: Prompt, context_tokens: float, now_s: float) -> None:
        """The engine found the prompt too long for its context; believed for a while, where it can be so."""
        least = context_tokens - prompt.answer_tokens(context_tokens) + 1.0
        if 1.0 < least <= prompt.most_rendered_tokens:
            name = (model, kind_of(prompt.text))
            self._refused[name] = (least / _chars(prompt), now_s + BELIEVED_S)

    def likely(self, models: Sequence[str], prompt: Prompt, now_s: float) -> F64:
        """[M] tokens that each model probably makes of the prompt; the others' mean where nothing is known of
        it, 0 where nothing is known of any."""
        kind = kind_of(prompt.text)
        rates = np.array([self._rate((model, kind), now_s) for model in models])
        known = rates > 0.0
        if known.any():
            rates[~known] = rates[known].mean()
        return _chars(prompt) * rates

    def _rate(self, name: tuple[str, TextKind], now_s: float) -> float:
        least, until_s = self._refused.get(name, (0.0, 0.0))
        return max(self._rates.get(name, 0.0), least if now_s < until_s else 0.0)


def _chars(prompt: Prompt) -> int:
    return max(len(prompt.text) + prompt.extra_chars, 1)
