import string
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.observation import PROMPT_COLUMN, PROMPT_FIELDS
from policies.prompt.features import FEATURE_VERSION, extract, pack, unpack
from policies.prompt.hashed_ngrams import HASH_BITS, MAX_CHARACTERS, WORD_BIT
from policies.prompt.style import STYLE_SIZE


def shared(one: str, other: str) -> int:
    return len(np.intersect1d(extract(one).ids, extract(other).ids))


def dense(text: str, name: str) -> float:
    return float(extract(text).dense[PROMPT_COLUMN[name]])


@given(st.text(max_size=400))
def test_any_text_gives_sorted_distinct_ids_and_finite_numbers(text: str) -> None:
    features = extract(text)
    assert np.all(np.diff(features.ids) > 0)
    assert len(features.ids) == 0 or (features.ids[0] >= 0 and features.ids[-1] < 1 << HASH_BITS + 1)
    assert np.all(features.values >= 1.0)
    assert np.isfinite(features.dense).all()
    assert features.dense.shape == (len(PROMPT_FIELDS),)
    assert np.isfinite(features.style).all()
    assert features.style.shape == (STYLE_SIZE,)


@given(st.text(max_size=300))
def test_packed_features_come_back_as_they_were(text: str) -> None:
    features = extract(text, turns=3, structured=True, max_tokens=100)
    back = unpack(pack(features))
    assert np.array_equal(back.ids, features.ids)
    assert np.array_equal(back.values, features.values)
    assert np.array_equal(back.style, features.style)
    assert np.allclose(back.dense, features.dense, rtol=1e-6)


def test_the_same_text_has_the_same_features_in_another_process() -> None:
    code = "from policies.prompt.features import extract, pack; print(pack(extract('Wo ist 北京?')).hex())"
    run = [sys.executable, "-c", code]
    others = [
        subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)
    ]
    assert others == [pack(extract("Wo ist 北京?")).hex()] * 2


def test_a_lone_surrogate_and_a_growing_lower_case_are_taken() -> None:
    assert len(extract("\ud800 broken").ids)
    assert len(extract("İ" * 10_000).ids)


def test_an_empty_prompt_has_no_ngrams() -> None:
    assert len(extract("").ids) == 0
    assert len(extract("  \n ").ids) == 0


def test_case_and_white_space_do_not_change_the_ngrams() -> None:
    assert np.array_equal(extract("Sum  these\nnumbers ").ids, extract("sum these numbers").ids)


def test_a_word_has_one_hash_wherever_it_stands() -> None:
    def words(text: str) -> set[int]:
        return {i for i in extract(text).ids.tolist() if i & WORD_BIT}

    common = words("zebra alpha beta gamma delta epsilon one") & words("two three four five six seven zebra")
    assert len(common) == 1


def test_chinese_prompts_on_one_subject_share_more_than_prompts_on_two() -> None:
    one = "请把下面的句子翻译成英文。"
    assert shared(one, "请把这些句子翻译成法文。") > 3 * shared(one, "今天北京天气怎么样？")
    assert dense(one, "cjk_share") > 0.9


def test_only_the_head_and_the_tail_of_a_long_prompt_are_read() -> None:
    middle = string.ascii_letters * 1000
    assert np.array_equal(extract("a " * 600 + middle + "b " * 400).ids, extract("a " * 600 + "b " * 400).ids)
    assert len(extract("word " * 100_000).ids) < MAX_CHARACTERS * 5


def test_hints_and_shares_say_what_the_prompt_holds() -> None:
    assert dense("def f(x):\n    return x", "code_hint") == 1.0
    assert dense("Solve the equation $x^2 = 4$", "maths_hint") == 1.0
    assert dense("Answer in JSON with these keys", "structure_hint") == 1.0
    assert dense("12345", "digit_share") == 1.0
    assert dense("How are you?", "code_hint") == dense("How are you?", "maths_hint") == 0.0


def test_style_tells_a_question_from_a_bare_query() -> None:
    assert not np.allclose(extract("Who wrote Faust?").style, extract("who wrote faust").style)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "bytes"), (b"\xff" + pack(extract("x"))[1:], "version"), (pack(extract("x"))[:-1], "must be")],
)
def test_broken_packed_features_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        unpack(data)


def test_counts_beyond_a_byte_are_cut_and_still_packed() -> None:
    features = extract("a b " * 300)
    assert pack(features)[0] == FEATURE_VERSION
    assert np.array_equal(unpack(pack(features)).values, features.values)
