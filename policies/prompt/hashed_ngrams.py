"""Hashed n-grams of a prompt, counted, in one compiled pass: stable across processes, any script.

Characters: runs of 3, 4 and 5 bytes of the UTF-8 text; those that stick out at its end are filled with
zeros. Words: single words, pairs, the first 1 to 6 and the last 1 to 6 words, which tell templates apart.
A Chinese, Japanese or Korean character is a word of its own. A word's hash is a polynomial modulo 2^64
(Karp and Rabin 1987).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from policies.arrays import U32, U64
from policies.compiled import BYTES, array, compiled, types

HASH_BITS: Final = 23
WORD_BIT: Final = 1 << HASH_BITS  # set in the ids of words, clear in those of characters
COUNT_BITS: Final = 8  # of an n-gram: its count, below its id
MAX_COUNT: Final = (1 << COUNT_BITS) - 1

_HEAD_CHARACTERS: Final = 1024
_TAIL_CHARACTERS: Final = 512
MAX_CHARACTERS: Final = _HEAD_CHARACTERS + _TAIL_CHARACTERS
_EDGE_WORDS: Final = 6
_BASE: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_MODULUS: Final = 1 << 64


def _powers(base: int, count: int) -> U64:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % _MODULUS)
    return np.array(powers, dtype=np.uint64)


# Compiled code makes floats of a uint64 and a signed number: all that meets a hash is unsigned.
_B: Final = np.uint64(_BASE)
_SPREAD: Final = np.uint64(0xD6E8FEB86659FD93)
_MIX: Final = np.uint64(0xFF51AFD7ED558CCD)
_SHIFT: Final = np.uint64(64 - HASH_BITS)
_FOLD: Final = np.uint64(32)
_PAIR: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_OPENING, _CLOSING = _powers(0x165667B19E3779F9, 2 * _EDGE_WORDS + 2)[2:].reshape(2, _EDGE_WORDS)
_MIX_3, _MIX_4, _MIX_5 = _powers(_BASE, 4)[1:]
_3_BYTES, _4_BYTES = np.uint64(0xFFFFFF), np.uint64(0xFFFFFFFF)
_BYTE, _5TH_BYTE = np.uint64(8), np.uint64(32)
_WORD: Final = np.uint32(WORD_BIT)
_0, _1 = np.uint64(0), np.uint64(1)
_NO_ID: Final = np.uint32(0xFFFFFFFF)
_DIGIT: Final = np.uint32(0xFF)  # of the radix sort
_COUNT_BITS: Final = np.uint32(COUNT_BITS)

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


def clip(text: str) -> str:
    """Lower case, white space made single spaces; only the first 1,024 and last 512 characters."""
    if len(text) > MAX_CHARACTERS:
        text = text[:_HEAD_CHARACTERS] + " " + text[1 - _TAIL_CHARACTERS :]
    return " ".join(text.lower().split())


@compiled()
def _character_ids(raw: bytes, ids: U32) -> int:
    """Write the ids of the runs of bytes; returns how many."""
    size, filled = len(raw), 0
    run = _0  # the next five bytes, the first in the lowest place
    for at in range(min(size, 4)):
        run |= np.uint64(raw[at]) << (np.uint64(at) * _BYTE)
    for at in range(size - 2):
        if at + 4 < size:
            run |= np.uint64(raw[at + 4]) << _5TH_BYTE
        ids[filled] = np.uint32(((run & _3_BYTES) * _MIX_3) >> _SHIFT)
        ids[filled + 1] = np.uint32(((run & _4_BYTES) * _MIX_4) >> _SHIFT)
        ids[filled + 2] = np.uint32((run * _MIX_5) >> _SHIFT)
        filled += 3
        run >>= _BYTE
    return filled


@compiled()
def _code_point(raw: bytes, at: int) -> tuple[int, int]:
    """The code point that starts at a place of UTF-8, in which lone surrogates may stand, and its bytes."""
    lead = raw[at]
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | (raw[at + 1] & 0x3F), 2
    if lead < 0xF0:
        return (lead & 0xF) << 12 | (raw[at + 1] & 0x3F) << 6 | (raw[at + 2] & 0x3F), 3
    tail = (raw[at + 1] & 0x3F) << 12 | (raw[at + 2] & 0x3F) << 6 | (raw[at + 3] & 0x3F)
    return (lead & 0x7) << 18 | tail, 4


@compiled()
def _words(raw: bytes, words: U64) -> tuple[int, int, int]:
    """Write the hash of each word in order; returns how many, unspaced characters, digits."""
    count, unspaced, digits, at = 0, 0, 0, 0
    word, power, inside = _0, _1, False
    while at < len(raw):
        code, size = _code_point(raw, at)
        at += size
        kind = _KIND[min(code, _LAST)]
        term = np.uint64(code) * _SPREAD
        if kind == _JOINS:
            digits += 48 <= code <= 57
            word += term * power
            power *= _B
            inside = True
            continue
        if inside:
            words[count] = word
            count += 1
            word, power, inside = _0, _1, False
        if kind != _SPLITS:
            unspaced += kind == _ALONE
            words[count] = term
            count += 1
    if inside:
        words[count] = word
        count += 1
    return count, unspaced, digits


@compiled()
def _word_id(mixed: np.uint64) -> np.uint32:
    return np.uint32(((mixed ^ (mixed >> _FOLD)) * _MIX) >> _SHIFT) | _WORD


@compiled()
def _word_ids(words: U64, count: int, ids: U32) -> int:
    """Write the ids of the words, pairs, openings and closings; returns how many."""
    filled = 0
    for i in range(count):
        ids[filled] = _word_id(words[i])
        filled += 1
    for i in range(count - 1):
        ids[filled] = _word_id(words[i] * _PAIR + words[i + 1])
        filled += 1
    opening, closing = _0, _0
    for i in range(min(count, _EDGE_WORDS)):
        opening += words[i] * _OPENING[i]
        closing += words[count - 1 - i] * _CLOSING[i]
        ids[filled] = _word_id(opening)
        ids[filled + 1] = _word_id(closing)
        filled += 2
    return filled


@compiled()
def _sort(ids: U32, spare: U32) -> U32:
    """The ids in ascending order, in one of the two arrays: radix sort in three passes of eight bits."""
    places = np.zeros((3, 256), dtype=np.int32)
    for value in ids:
        places[0, value & _DIGIT] += 1
        places[1, (value >> _COUNT_BITS) & _DIGIT] += 1
        places[2, value >> np.uint32(16)] += 1
    for step in range(3):
        shift, place, first = np.uint32(8 * step), places[step], 0
        for digit in range(256):
            size = place[digit]
            place[digit] = first
            first += size
        for value in ids:
            digit = (value >> shift) & _DIGIT
            spare[place[digit]] = value
            place[digit] += 1
        ids, spare = spare, ids
    return ids


@compiled()
def _counted(ids: U32, grams: U32) -> int:
    """Write each distinct one of the sorted ids with its count; returns how many. Without a branch."""
    last, count, before = -1, 0, _NO_ID
    for value in ids:
        count = count + 1 if value == before else 1
        last += value != before
        grams[last] = value << _COUNT_BITS | np.uint32(min(count, MAX_COUNT))
        before = value
    return last + 1


@compiled(types.Tuple((array(types.uint32), types.int64, types.int64))(BYTES))
def count_ngrams(raw: bytes) -> tuple[U32, int, int]:
    """The n-grams of a text from `clip`, as UTF-8; how many characters are unspaced; how many are digits.

    uint32 [K], ascending: id * 256 + count, the id below 2^24, the count at most 255.
    """
    size = len(raw)
    ids = np.empty(5 * size + 2 * _EDGE_WORDS, dtype=np.uint32)
    words = np.empty(size, dtype=np.uint64)
    filled = _character_ids(raw, ids)
    count, unspaced, digits = _words(raw, words)
    filled += _word_ids(words, count, ids[filled:])
    spare = np.empty(filled, dtype=np.uint32)
    ordered = _sort(ids[:filled], spare)
    grams = np.empty(filled, dtype=np.uint32)
    return grams[: _counted(ordered, grams)].copy(), unspaced, digits
