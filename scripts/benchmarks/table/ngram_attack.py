"""What a thief of the store can do with hashed n-grams: rebuild a prompt from them.

The attack knows the code. It hashes every run of three characters, keeps those whose hash is in the record,
and joins runs that overlap wherever the runs of four and of five characters are in the record too.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np

from policies.arrays import I64
from policies.prompt.features import PromptFeatures, extract
from policies.prompt.hashed_ngrams import HASH_BITS, WORD_BIT

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789 .,:-'@"
_BASE: Final = 0x9E3779B97F4A7C15  # of the hash in policies.prompt.hashed_ngrams
_MOST_OPEN: Final = 64  # continuations that are followed at once
_LONGEST: Final = 40  # characters of one rebuilt piece


class Rebuilder:
    """Rebuilds texts from features. The dictionary of all runs of three characters is made once."""

    def __init__(self) -> None:
        self._triples = ["".join(run) for run in product(ALPHABET, repeat=3)]
        self._triple_ids = np.array([run_id(run) for run in self._triples])
        ids = extract("abcde").ids.tolist()
        if not {run_id("abc"), run_id("abcd"), run_id("abcde")} <= set(ids):
            raise RuntimeError("The attack's hash is not that of policies.prompt.hashed_ngrams any more.")

    def pieces(self, features: PromptFeatures) -> set[str]:
        """Texts of up to 40 characters that the n-grams of one prompt allow."""
        ids: I64 = features.ids[features.ids < WORD_BIT].astype(np.int64)
        known = [self._triples[i] for i in np.flatnonzero(np.isin(self._triple_ids, ids)).tolist()]
        following: dict[str, list[str]] = defaultdict(list)
        for run in known:
            following[run[:2]].append(run[2])
        members = set(ids.tolist())
        return {text for start in known for text in _grown(start, following, members)}


def _grown(start: str, following: dict[str, list[str]], members: set[int]) -> Iterator[str]:
    front = [start]
    while front:
        text = front.pop()
        longer = [
            text + c
            for c in following[text[-2:]]
            if all(run_id((text + c)[-n:]) in members for n in (4, 5) if len(text) >= n - 1)
        ]
        if not longer or len(text) >= _LONGEST or len(front) > _MOST_OPEN:
            yield text
        else:
            front.extend(longer)


def run_id(run: str) -> int:
    """The id of a run of three to five characters."""
    number = sum(byte << (8 * place) for place, byte in enumerate(run.encode()))
    return (number * pow(_BASE, len(run) - 2, 1 << 64) & ((1 << 64) - 1)) >> (64 - HASH_BITS)
