"""Learned idf: hashed n-grams to buckets, and TF-IDF values weighted by rarity."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.prompt.features import PromptFeatures
from policies.prompt.hashed_ngrams import HASH_BITS, WORD_BIT

F32 = npt.NDArray[np.float32]
HALF: Final = np.float32(0.5**0.5)  # characters and words each have half of the squared length
_TINY: Final = 1e-6


def buckets_of(ids: npt.NDArray[np.int32], buckets: int) -> npt.NDArray[np.int32]:
    """[K] bucket of each id: characters in the lower half, words in the upper half."""
    half = buckets >> 1
    return (ids & (half - 1)) + (ids >> HASH_BITS) * half


def term_weights(features: Sequence[PromptFeatures], buckets: int, least: int) -> F32:
    """[buckets] smoothed idf, ln((1 + N) / (1 + df)) + 1; 0 for buckets in fewer than `least` prompts."""
    count = np.zeros(buckets, dtype=np.int64)
    for prompt in features:
        count[buckets_of(prompt.ids, buckets)] += 1
    idf = np.log((1 + len(features)) / (1 + count)) + 1.0
    idf[count < least] = 0.0
    return idf.astype(np.float32)


def normalised(features: PromptFeatures, weights: F32, buckets: int) -> tuple[npt.NDArray[np.int32], F32]:
    """[K] buckets and [K] TF-IDF values of one prompt, characters and words each of length sqrt(1/2)."""
    columns = buckets_of(features.ids, buckets)
    values = features.values * weights.take(columns)
    split = int(features.ids.searchsorted(WORD_BIT))
    for part in (values[:split], values[split:]):
        part *= HALF / (np.sqrt(part @ part) + _TINY)
    return columns, values
