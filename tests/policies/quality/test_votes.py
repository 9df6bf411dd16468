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
from policies.quality.votes import (
    KEY_CAP,
    LEAF_ANSWERS,
    Anchor,
    Vote,
    VotedScore,
    aggregate,
    anchored,
    key_weights,
    with_votes,
)

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


QUALITY = {"a": 0.9, "b": 0.8, "c": 0.6, "d": 0.4}


def honest(rng: np.random.Generator, keys: int, votes: int) -> list[Vote]:
    """`keys` honest keys, `votes` each on models drawn at random."""
    made = []
    for key in range(keys):
        for model in rng.choice(list(QUALITY), size=votes):
            made.append(Vote(f"k{key}", str(model), float(rng.random() < QUALITY[str(model)])))
    return made


def liar(rng: np.random.Generator, votes: int) -> list[Vote]:
    """A key that praises the worst model and damns the others."""
    return [Vote("liar", str(m), float(m == "d")) for m in rng.choice(list(QUALITY), size=votes)]


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("keys", [1, 4, 20, 60])
@pytest.mark.parametrize("seed", range(5))
def test_a_liar_moves_no_estimate_by_more_than_five_points(share: float, keys: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = honest(rng, keys, 200)
    lies = liar(rng, int(len(votes) * share / (1 - share)))
    before, after = aggregate(votes, QUALITY), aggregate(votes + lies, QUALITY)
    for model in QUALITY:
        assert abs(after[model].mean - before[model].mean) <= 0.05 + 1e-9


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_raw_mean_would_have_moved_much_further(share: float) -> None:
    rng = np.random.default_rng(0)
    votes = honest(rng, 20, 200)
    lies = liar(rng, int(len(votes) * share / (1 - share)))
    raw = [np.mean([v.score for v in some if v.model == "a"]) for some in (votes, votes + lies)]
    assert raw[0] - raw[1] > 0.15


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_liar_moves_others_dispatch_by_at_most_five_points(share: float) -> None:
    rng = np.random.default_rng(1)
    votes = honest(rng, 20, 200)
    lies = liar(rng, int(len(votes) * share / (1 - share)))
    shares = []
    for given_votes in (votes, votes + lies):
        voted = aggregate(given_votes, QUALITY)
        logits = 20.0 * np.array([voted[model].mean for model in QUALITY])  # the formula's beta
        weights = np.exp(logits - logits.max())
        shares.append(weights / weights.sum())
    assert np.abs(shares[1] - shares[0]).max() <= 0.05


def test_many_honest_keys_are_heard() -> None:
    voted = aggregate(honest(np.random.default_rng(2), 60, 200), dict.fromkeys(QUALITY, 0.5))
    for model, quality in QUALITY.items():
        assert voted[model].mean == pytest.approx(quality, abs=0.05)
        assert voted[model].share == pytest.approx(1.0)


def test_few_keys_leave_most_to_the_prior() -> None:
    voted = aggregate([Vote("k", "a", 0.0)] * 1000, {"a": 0.9})["a"]
    assert voted == VotedScore(pytest.approx(0.95 * 0.9), pytest.approx(KEY_CAP), 1, 1000)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=80))
def test_weights_are_capped_and_sum_to_one_where_the_cap_allows(counts: list[int]) -> None:
    weights = key_weights(np.array(counts, dtype=np.float64))
    assert weights.max() <= KEY_CAP + 1e-12
    assert weights.sum() == pytest.approx(min(1.0, KEY_CAP * len(counts)))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_one_key_moves_an_estimate_by_at_most_the_cap(
    others: list[tuple[int, float]], own: list[float], prior: float
) -> None:
    votes = [Vote(f"k{key}", "a", score) for key, score in others]
    ways: list[list[float]] = [[], own, [0.0] * len(own), [1.0] * len(own), [1.0] * 5000]
    found = [prior if not votes else aggregate(votes, {"a": prior})["a"].mean]
    found += [
        aggregate(votes + [Vote("me", "a", s) for s in way], {"a": prior})["a"].mean for way in ways[1:]
    ]
    assert max(found) - min(found) <= KEY_CAP + 1e-9
    assert all(0.0 <= value <= 1.0 for value in found)


@given(st.floats(0, 1), st.integers(1, 100_000), st.floats(0, 1))
def test_votes_never_leave_the_evaluations_interval(mean: float, votes: int, share: float) -> None:
    anchor = Anchor(0.7, 0.62, 0.77, 120)
    value = anchored(anchor, VotedScore(mean, share, 30, votes))
    assert anchor.low <= value <= anchor.high
    assert (value - anchor.mean) * (mean - anchor.mean) >= 0


def test_without_votes_the_evaluation_stands() -> None:
    assert anchored(Anchor(0.7, 0.6, 0.8, 50), None) == 0.7


def test_a_score_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="must be in"):
        aggregate([Vote("k", "a", float("nan"))], {})
