"""Votes move what is predicted for prompts like theirs; one key moves it by at most the cap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.arrays import F64
from policies.prompt.features import extract, pack
from policies.quality.data import QualityData
from policies.quality.model import QualityModel
from policies.quality.training import QualitySettings, fit
from policies.quality.votes import KEY_CAP, LEAF_ANSWERS, Vote, with_votes

SUMS, SONGS = (
    [f"{kind} {i} and {i * 7}?" for i in range(60)] for kind in ("Add the numbers", "Sing a song of")
)
SCORES = np.repeat([[0.8, 0.4], [0.4, 0.8]], 60, axis=0)
MODEL = fit(
    QualityData.full([extract(text) for text in SUMS + SONGS], ["a", "b"], SCORES),
    QualitySettings(buckets=1 << 12, dimensions=8, hidden=8, epochs=4, trees=16),
    now_s=0.0,
)


def vote(text: str, score: float, key: str = "k", model: str = "a", **given: float) -> Vote:
    return Vote(key, model, score, pack(extract(text)), **given)


def expected(model: QualityModel, texts: list[str]) -> F64:
    """[N, 2]"""
    return np.array([model.predict_all(extract(text))[0] for text in texts])


def moved(*votes: Vote, now_s: float = 0.0, half_life_s: float = 100.0) -> QualityModel:
    return with_votes(MODEL, votes, now_s, half_life_s)


def test_prompts_like_those_voted_on_move_and_others_less() -> None:
    after = moved(*(vote(text, 0.0, key=f"k{i}") for i, text in enumerate(SUMS)))
    sums = (expected(MODEL, SUMS) - expected(after, SUMS)).mean(axis=0)
    songs = (expected(MODEL, SONGS) - expected(after, SONGS)).mean(axis=0)
    assert sums[0] > 0.1
    assert sums[0] > 3.0 * songs[0]
    assert sums[1] == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.floats(0.0, 1.0), st.floats(0.05, 1.0))
def test_one_key_decides_no_leaf_by_more_than_the_cap(count: int, score: float, propensity: float) -> None:
    votes = [vote(SUMS[i % 60], score, propensity=propensity) for i in range(count)]
    leaves = moved(*votes).arrays["leaves"] - MODEL.arrays["leaves"]
    most = max(abs(score - p) for p in expected(MODEL, SUMS)[:, 0])
    assert np.abs(leaves).max() <= KEY_CAP * most + 1e-6


def test_many_keys_are_heard() -> None:
    after = moved(*(vote(SUMS[0], 0.0, key=f"k{i}") for i in range(200)))
    assert expected(after, SUMS[:1])[0, 0] < 0.5 * expected(MODEL, SUMS[:1])[0, 0]


def test_old_votes_count_less() -> None:
    fresh, old = (
        expected(MODEL, SUMS)[:, 0] - expected(moved(vote(SUMS[0], 0.0), now_s=now_s), SUMS)[:, 0]
        for now_s in (0.0, 400.0)
    )
    assert 0.0 < old.mean() < 0.5 * fresh.mean()


def test_votes_of_a_rare_choice_weigh_more_within_a_key() -> None:
    rare, usual = vote(SUMS[0], 1.0, propensity=0.1), vote(SUMS[0], 0.0, propensity=1.0)
    assert expected(moved(rare, usual), SUMS[:1])[0, 0] > expected(MODEL, SUMS[:1])[0, 0]
    even = vote(SUMS[0], 1.0, propensity=1.0)
    assert expected(moved(even, usual), SUMS[:1])[0, 0] < expected(MODEL, SUMS[:1])[0, 0]


def test_a_leaf_moves_by_the_mean_of_keys_and_its_own_answers() -> None:
    after = moved(*(vote(SUMS[0], 0.0, key=f"k{i}") for i in range(3)))
    at = MODEL.leaves(extract(SUMS[0]))
    worth = 3.0 * LEAF_ANSWERS * KEY_CAP / (1.0 - KEY_CAP)
    wanted = -expected(MODEL, SUMS[:1])[0, 0] * worth / (LEAF_ANSWERS + worth)
    found = after.arrays["leaves"][at, 0] - MODEL.arrays["leaves"][at, 0]
    assert found == pytest.approx(np.full(len(at), wanted), abs=1e-6)


def test_what_cannot_be_placed_is_left_out() -> None:
    assert moved(Vote("k", "a", 0.0), vote(SUMS[0], 0.0, model="unknown")) is MODEL
    with pytest.raises(ValueError, match=r"propensity: 0.0, must be in \(0, 1\]"):
        moved(vote(SUMS[0], 0.0, propensity=0.0))
