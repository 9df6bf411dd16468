"""Prompt features: hashed n-grams with counts, and the dense fields every policy sees. No text is kept."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.observation import PROMPT_FIELDS
from policies.prompt.hashed_ngrams import COUNT_BITS, MAX_COUNT, clip, count_ngrams
from policies.prompt.hints import hints
from policies.prompt.style import STYLE_SIZE, style

FEATURE_VERSION: Final = 1  # raised whenever an id, a value or a dense field changes its meaning

_LOG_COUNT: Final = (1.0 + np.log(np.maximum(np.arange(MAX_COUNT + 1), 1))).astype(np.float32)
_HEADER: Final = struct.Struct("<BxHHxxI")  # version, dense fields, style fields, ids


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """What learning knows of a prompt.

    `grams` uint32 [K], ascending: id * 256 + count of each hashed n-gram (policies.prompt.hashed_ngrams);
    `dense` float64 [P] in the order of PROMPT_FIELDS, where `output_tokens` is 0 until the latency model
    fills it; `style` float32 [S], how the text is written (policies.prompt.style).
    """

    grams: npt.NDArray[np.uint32]
    dense: F64
    style: npt.NDArray[np.float32]

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """[K] the n-grams, sorted and distinct, below 2^24."""
        return (self.grams >> COUNT_BITS).astype(np.int32)

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """[K] 1 + ln(count) of each n-gram, not normalised."""
        return _LOG_COUNT[self.grams & MAX_COUNT]


def extract(
    text: str, turns: int = 1, structured: bool = False, max_tokens: int | None = None
) -> PromptFeatures:
    """Features of one prompt; `structured` says that the request asks for JSON, a schema or tools.

    `max_tokens` presets `output_tokens` so that a latency model can only lower it; None leaves 0. Shares
    and hints are of the considered part of the prompt.
    """
    clipped = clip(text)
    raw = clipped.encode("utf-8", "surrogatepass")
    grams, unspaced, digits = count_ngrams(raw)
    code, maths, structure = hints(raw)
    size = max(len(clipped), 1)
    dense = np.array(
        [
            len(text) * (0.25 + 0.5 * (unspaced / size)),
            max_tokens or 0.0,
            turns,
            unspaced / size,
            digits / size,
            code,
            maths,
            structured or structure,
        ]
    )  # in the order of PROMPT_FIELDS
    return PromptFeatures(grams, dense, style(text))


def pack(features: PromptFeatures) -> bytes:
    """Features as bytes: header, dense and style as float32, then the n-grams. Little-endian."""
    dense = features.dense.astype("<f4")
    style, grams = features.style.astype("<f4", copy=False), features.grams.astype("<u4", copy=False)
    header = _HEADER.pack(FEATURE_VERSION, len(dense), len(style), len(grams))
    return b"".join((header, dense.tobytes(), style.tobytes(), grams.tobytes()))


def unpack(data: bytes) -> PromptFeatures:
    """The features that `pack` packed. Raises ValueError for another version or a wrong length."""
    if len(data) < _HEADER.size:
        raise ValueError(f"packed features: {len(data)} bytes, must be at least {_HEADER.size}.")
    version, dense, style_size, size = _HEADER.unpack_from(data)
    if (version, dense, style_size) != (FEATURE_VERSION, len(PROMPT_FIELDS), STYLE_SIZE):
        raise ValueError(f"packed features: version {version}, must be {FEATURE_VERSION}.")
    expected = _HEADER.size + 4 * (dense + style_size + size)
    if len(data) != expected:
        raise ValueError(f"packed features: {len(data)} bytes, must be {expected}.")
    numbers = np.frombuffer(data, dtype="<f4", count=dense + style_size, offset=_HEADER.size)
    grams = np.frombuffer(data, dtype="<u4", offset=_HEADER.size + 4 * len(numbers))
    return PromptFeatures(grams.copy(), numbers[:dense].astype(np.float64), numbers[dense:].copy())
