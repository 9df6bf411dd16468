"""Wordings with held-out splits, and the small template language that the generated items are written in."""

import random
import re
from collections.abc import Mapping
from typing import Literal

Split = Literal["train", "suite", "traffic"]
Language = Literal["en", "zh"]

_ALTERNATIVES = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z_]+)\}")


class Wordings:
    """Texts that say the same; of every five, three are for training, one for the suites, one for traffic.

    The three splits share no wording, so what is measured is a reading of new sentences, not memory.
    """

    def __init__(self, *texts: str) -> None:
        if len(texts) < 5:
            raise ValueError(f"Wordings need at least 5 texts, one per split place, got {len(texts)}.")
        self._texts: dict[Split, tuple[str, ...]] = {
            "train": tuple(text for place, text in enumerate(texts) if place % 5 < 3),
            "suite": tuple(text for place, text in enumerate(texts) if place % 5 == 3),
            "traffic": tuple(text for place, text in enumerate(texts) if place % 5 == 4),
        }

    def of(self, split: Split) -> tuple[str, ...]:
        return self._texts[split]

    def pick(self, split: Split, rng: random.Random) -> str:
        return rng.choice(self._texts[split])


Labelled = Mapping[Language, Mapping[str, Wordings]]
"""Wordings by language and label."""


def expand(text: str, rng: random.Random, words: Mapping[str, str] | None = None) -> str:
    """Choose one of every `[a|b|c]` and fill every `{slot}` of `words`, then tidy the spaces."""
    while _ALTERNATIVES.search(text):
        text = _ALTERNATIVES.sub(lambda found: rng.choice(found.group(1).split("|")), text)
    text = _SLOT.sub(lambda found: words[found.group(1)] if words else found.group(0), text)
    return re.sub(r" {2,}", " ", text).strip()
