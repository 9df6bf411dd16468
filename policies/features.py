"""Prompt features: hashed n-grams with counts, and the dense fields every policy sees. No text is kept."""

import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from policies.hashed_ngrams import clip, ngram_ids, unspaced_characters
from policies.observation import PROMPT_COLUMN, PROMPT_FIELDS, FloatArray
from policies.style import STYLE_SIZE, style

FEATURE_VERSION: Final = 1  # raised whenever an id, a value or a dense field changes its meaning

_MAX_COUNT: Final = 255
_LOG_COUNT: Final = (1.0 + np.log(np.maximum(np.arange(_MAX_COUNT + 1), 1))).astype(np.float32)
_HEADER: Final = struct.Struct("<BxHHxxI")  # version, dense fields, style fields, ids
_CODE_MARKS: Final = ("```", "def ", "():", "import ", "#include", "function", "class ", "return ", "};")
_MATHS_MARKS: Final = ("\\frac", "\\(", "$", " = ", "√", "∫", "^", "equation", "solve", "方程", "计算")
_STRUCTURE_MARKS: Final = ("json", "schema", "xml", "yaml", "csv", "| ---", "|---", "表格")


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """What learning knows of a prompt.

    `ids` int32 [K], sorted and distinct, below 2^24, of hashed n-grams (policies.hashed_ngrams);
    `values` float32 [K], 1 + ln(count), not normalised; `dense` float64 [P] in the order of
    PROMPT_FIELDS, where `output_tokens` is 0 until the latency model fills it; `style` float32 [S],
    how the text is written (policies.style).
    """

    ids: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    dense: FloatArray
    style: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(STYLE_SIZE, dtype=np.float32))


def _counted(ids: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Distinct ids [K] in ascending order and the count [K] of each, at most 255."""
    if not len(ids):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.intp)
    ids.sort()
    ends = np.ones(len(ids), dtype=np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=ends[:-1])
    last = ends.nonzero()[0]
    counts = last + 1
    counts[1:] -= counts[:-1].copy()
    return ids[last].astype(np.int32), np.minimum(counts, _MAX_COUNT)


def _has_any(text: str, marks: tuple[str, ...]) -> float:
    return 1.0 if any(mark in text for mark in marks) else 0.0


def _dense(text: str, clipped: str, turns: int, structured: bool) -> FloatArray:
    """[P] the prompt fields; shares are of the considered part of the prompt."""
    size = max(len(clipped), 1)
    cjk = unspaced_characters(clipped) / size
    digits = sum(map(clipped.count, "0123456789")) / size
    dense = np.zeros(len(PROMPT_FIELDS))
    dense[PROMPT_COLUMN["prompt_tokens"]] = len(text) * (0.25 + 0.5 * cjk)
    dense[PROMPT_COLUMN["turns"]] = turns
    dense[PROMPT_COLUMN["cjk_share"]] = cjk
    dense[PROMPT_COLUMN["digit_share"]] = digits
    dense[PROMPT_COLUMN["code_hint"]] = _has_any(clipped, _CODE_MARKS)
    dense[PROMPT_COLUMN["maths_hint"]] = _has_any(clipped, _MATHS_MARKS)
    dense[PROMPT_COLUMN["structure_hint"]] = 1.0 if structured else _has_any(clipped, _STRUCTURE_MARKS)
    return dense


def extract(
    text: str, turns: int = 1, structured: bool = False, max_tokens: int | None = None
) -> PromptFeatures:
    """Features of one prompt; `structured` says that the request asks for JSON, a schema or tools.

    `max_tokens` presets `output_tokens` so that a latency model can only lower it; None leaves 0.
    """
    clipped = clip(text)
    ids, counts = _counted(ngram_ids(clipped))
    dense = _dense(text, clipped, turns, structured)
    if max_tokens is not None:
        dense[PROMPT_COLUMN["output_tokens"]] = max_tokens
    return PromptFeatures(ids, _LOG_COUNT[counts], dense, style(text))


def pack(features: PromptFeatures) -> bytes:
    """Features as bytes: header, dense and style as float32, then id * 256 + count of each n-gram."""
    counts = np.rint(np.exp(features.values - 1.0)).astype(np.uint32)
    grams = (features.ids.astype(np.uint32) << np.uint32(8)) | counts
    header = _HEADER.pack(FEATURE_VERSION, len(features.dense), len(features.style), len(grams))
    dense = features.dense.astype("<f4").tobytes()
    return b"".join((header, dense, features.style.astype("<f4").tobytes(), grams.astype("<u4").tobytes()))


def unpack(data: bytes) -> PromptFeatures:
    """The features that `pack` packed. Raises ValueError for another version or a wrong length."""
    if len(data) < _HEADER.size:
        raise ValueError(f"packed features: {len(data)} bytes, at least {_HEADER.size} needed.")
    version, dense, style_size, size = _HEADER.unpack_from(data)
    if (version, dense, style_size) != (FEATURE_VERSION, len(PROMPT_FIELDS), STYLE_SIZE):
        raise ValueError(f"packed features: version {version}, {FEATURE_VERSION} is read.")
    expected = _HEADER.size + 4 * (dense + style_size + size)
    if len(data) != expected:
        raise ValueError(f"packed features: {len(data)} bytes, {expected} expected.")
    numbers = np.frombuffer(data, dtype="<f4", count=dense + style_size, offset=_HEADER.size)
    grams = np.frombuffer(data, dtype="<u4", offset=_HEADER.size + 4 * len(numbers))
    ids = (grams >> 8).astype(np.int32)
    return PromptFeatures(
        ids, _LOG_COUNT[grams & 255], numbers[:dense].astype(np.float64), numbers[dense:].copy()
    )
