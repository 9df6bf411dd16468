"""Hashed n-grams of a prompt in numpy: stable across processes and machines, any script.

Characters: runs of 3, 4 and 5 bytes of the UTF-8 text, read through one overlapping 8-byte view.
Words: single words, pairs, the first 1 to 6 and the last 1 to 6 words, which tell templates apart.
A Chinese, Japanese or Korean character is a word of its own. A word's hash is a polynomial modulo
2^64 (Karp and Rabin 1987); an odd base is invertible there, so it does not depend on the place.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

HASH_BITS: Final = 23
WORD_BIT: Final = 1 << HASH_BITS  # set in the ids of words, clear in those of characters
ID_BITS: Final = HASH_BITS + 1

_HEAD_CHARACTERS: Final = 1024
_TAIL_CHARACTERS: Final = 512
MAX_CHARACTERS: Final = _HEAD_CHARACTERS + _TAIL_CHARACTERS
_EDGE_WORDS: Final = 6
_BASE: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_MODULUS: Final = 1 << 64

U64 = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]


def _powers(base: int, count: int) -> U64:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % _MODULUS)
    return np.array(powers, dtype=np.uint64)


_POWERS: Final = _powers(_BASE, 3 * MAX_CHARACTERS + 8)  # lower() lengthens a text at most threefold
_INVERSES: Final = _powers(pow(_BASE, -1, _MODULUS), len(_POWERS))
_B: Final = np.uint64(_BASE)
_SPREAD: Final = np.uint64(0xD6E8FEB86659FD93)
_MIX: Final = np.uint64(0xFF51AFD7ED558CCD)
_SHIFT: Final = np.uint64(64 - HASH_BITS)
_FOLD: Final = np.uint64(32)
_WORD_FLAG: Final = np.uint64(WORD_BIT)
_PAIR: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_OPENING, _CLOSING = _powers(0x165667B19E3779F9, 2 * _EDGE_WORDS + 2)[2:].reshape(2, _EDGE_WORDS)
_GRAM_MASKS: Final = np.array([[0xFFFFFF], [0xFFFFFFFF], [0xFFFFFFFFFF]], dtype=np.uint64)
_GRAM_MIX: Final = _powers(_BASE, 4)[1:, None]

# Punctuation and symbols beyond Latin-1; [first, last] of the ranges that split words.
_PUNCTUATION: Final = ((0x2000, 0x2BFF), (0x3000, 0x303F), (0xFE30, 0xFE4F), (0xFF00, 0xFF0F))
# Scripts written without spaces: kana, CJK, Hangul syllables.
_UNSPACED: Final = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF))
_SPLITS, _JOINS, _ALONE, _BEYOND = range(4)  # kinds of characters; the last is alone too
_LAST: Final = 0xFFFF


def _kinds() -> npt.NDArray[np.uint8]:
    """[65536] kind of each code point; those beyond, mostly rare characters and emoji, count as the last."""
    kinds = np.full(_LAST + 1, _JOINS, dtype=np.uint8)
    kinds[:256] = [_JOINS if chr(c).isalnum() or chr(c) == "_" else _SPLITS for c in range(256)]
    for ranges, kind in ((_PUNCTUATION, _SPLITS), (_UNSPACED, _ALONE)):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    kinds[_LAST] = _BEYOND
    return kinds


_KIND: Final = _kinds()


def _letter_terms() -> U64:
    """[256] what a Latin-1 character adds to a word's polynomial; 0 for those that split words."""
    return np.where(_KIND[:256] == _JOINS, np.arange(256, dtype=np.uint64), 0) * _SPREAD


_LETTERS: Final = _letter_terms()


def clip(text: str) -> str:
    """Lower case, white space made single spaces; only the first 1,024 and last 512 characters."""
    if len(text) > MAX_CHARACTERS:
        text = text[:_HEAD_CHARACTERS] + " " + text[1 - _TAIL_CHARACTERS :]
    return " ".join(text.lower().split())


def unspaced_characters(text: str) -> int:
    """How many characters belong to scripts written without spaces (Chinese, Japanese, Korean)."""
    if text.isascii():
        return 0
    return int(np.count_nonzero(_KIND[np.minimum(_code_points(text), _LAST)] == _ALONE))


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    """[N] code points; lone surrogates pass, since clients do send them."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _word_terms(text: str, raw: bytes) -> tuple[U64, BoolArray]:
    """[N] what each character adds to its word (0 between words), [N] True where a word starts."""
    if text.isascii():
        terms = _LETTERS[np.frombuffer(raw, dtype=np.uint8)]
        word = terms != 0
        start = word.copy()
        start[1:] &= ~word[:-1]
        return terms, start
    codes = _code_points(text)
    kinds = _KIND[np.minimum(codes, _LAST)]
    word, alone = kinds != _SPLITS, kinds >= _ALONE
    start = word.copy()
    start[1:] &= ~word[:-1] | alone[1:] | alone[:-1]
    return codes * word * _SPREAD, start


def _word_hashes(text: str, raw: bytes) -> U64:
    """[W] 64-bit hash of each word in order, the same wherever the word stands."""
    terms, start = _word_terms(text, raw)
    starts = start.nonzero()[0]
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    terms *= _POWERS[: len(terms)]
    hashes: U64 = np.add.reduceat(terms, starts) * _INVERSES[starts]
    return hashes


def _word_ids(text: str, raw: bytes) -> U64:
    """Ids of the words, pairs, openings and closings of a text."""
    words = _word_hashes(text, raw)
    first, last = words[:_EDGE_WORDS], words[: -_EDGE_WORDS - 1 : -1]
    pairs = words[:-1] * _PAIR + words[1:]
    opening = (first * _OPENING[: len(first)]).cumsum()
    closing = (last * _CLOSING[: len(last)]).cumsum()
    ids: U64 = np.concatenate((words, pairs, opening, closing))
    ids ^= ids >> _FOLD
    ids *= _MIX
    ids >>= _SHIFT
    ids |= _WORD_FLAG
    return ids


def _character_ids(raw: bytes) -> U64:
    """Ids of the runs of 3, 4 and 5 bytes; runs that stick out at the end are filled with zeros."""
    count = max(len(raw) - 2, 0)
    view: U64 = np.ndarray((count,), dtype="<u8", buffer=raw + b"\0" * 8, strides=(1,))
    ids = (view & _GRAM_MASKS) * _GRAM_MIX
    ids >>= _SHIFT
    return ids.ravel()


def ngram_ids(text: str) -> npt.NDArray[np.uint32]:
    """[K] ids below 2^24 of the n-grams of a text from `clip`, repeats included, in no order."""
    raw = text.encode("utf-8", "surrogatepass")
    return np.concatenate((_character_ids(raw), _word_ids(text, raw)), dtype=np.uint32, casting="unsafe")
