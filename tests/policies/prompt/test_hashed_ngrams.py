"""The compiled pass over a prompt counts what a plain one counts."""

from collections import Counter
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.prompt.hashed_ngrams import MAX_COUNT, WORD_BIT, clip, count_ngrams

BASE, SPREAD, MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD
PAIR, EDGE = 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
TOP = (1 << 64) - 1


def kind(character: str) -> str:
    """What a character is to words, by the ranges of Unicode's blocks."""
    code = ord(character)
    if code >= 0xFFFF:
        return "symbol"
    if code < 256:
        return "joins" if character.isalnum() or character == "_" else "splits"
    if any(
        a <= code <= b for a, b in ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF))
    ):
        return "unspaced"
    splits = ((0x2000, 0x2BFF), (0x3000, 0x303F), (0xFE30, 0xFE4F), (0xFF00, 0xFF0F))
    return "splits" if any(a <= code <= b for a, b in splits) else "joins"


def words(text: str) -> list[str]:
    found = [""]
    for character in text:
        if kind(character) == "joins":
            found[-1] += character
        else:
            found += ["" if kind(character) == "splits" else character, ""]
    return [word for word in found if word]


def word_hash(word: str) -> int:
    return sum(ord(character) * SPREAD * pow(BASE, i, 1 << 64) for i, character in enumerate(word)) & TOP


def word_id(mixed: int) -> int:
    mixed &= TOP
    return ((mixed ^ (mixed >> 32)) * MIX & TOP) >> 41 | WORD_BIT


def plain_ngrams(text: str) -> list[int]:
    raw = text.encode("utf-8", "surrogatepass")
    ids = Counter(
        (int.from_bytes(raw[at : at + size], "little") * pow(BASE, size - 2, 1 << 64) & TOP) >> 41
        for at in range(len(raw) - 2)
        for size in (3, 4, 5)
    )
    hashes = [word_hash(word) for word in words(text)]
    ids.update(word_id(one) for one in hashes)
    ids.update(word_id(one * PAIR + other) for one, other in pairwise(hashes))
    for edge, first in ((hashes, 2), (hashes[::-1], 8)):
        for size in range(1, min(len(edge), 6) + 1):
            powers = [pow(EDGE, first + i, 1 << 64) for i in range(size)]
            ids[word_id(sum(a * b for a, b in zip(edge, powers, strict=False)))] += 1
    return [key << 8 | min(count, MAX_COUNT) for key, count in sorted(ids.items())]


texts = st.text(max_size=200) | st.text(st.sampled_from("ab 1_.,中文の한\n😀é\ud800"), max_size=400)


@settings(deadline=None)  # the plain one takes its time
@given(texts)
@example("a" * 2_000)
@example("İ" * 1_000)
def test_the_compiled_pass_counts_what_a_plain_one_counts(text: str) -> None:
    clipped = clip(text)
    grams, unspaced, digits = count_ngrams(clipped.encode("utf-8", "surrogatepass"))
    assert grams.tolist() == plain_ngrams(clipped)
    assert unspaced == sum(kind(character) == "unspaced" for character in clipped)
    assert digits == sum(character in "0123456789" for character in clipped)
