"""Votes move a fitted model inside the evaluation's interval and nothing else does."""

import numpy as np
import pytest

from deployments.learning.quality_fit import anchors_of, fit_quality, votes_of, with_feedback
from deployments.records.records import DecisionRecord, EvaluationRecord, FeedbackRecord, OutcomeRecord
from policies.outcome import Outcome, Status
from policies.promotion.confidence import wilson
from policies.prompt.features import extract, pack, unpack
from policies.quality.model import QualityModel
from policies.quality.votes import Vote


def records(n: int = 60) -> list[EvaluationRecord]:
    """'a' is right on two of three, 'b' on one of three."""
    made = []
    for item in range(n):
        features = pack(extract(f"question {item} about {'cats' if item % 2 else 'dogs'}"))
        for model, right in (("a", item % 3 > 0), ("b", item % 3 == 0)):
            made.append(
                EvaluationRecord("s", "1", f"i{item}", "t", "", model, "r", float(right), features=features)
            )
    return made


def mean_prediction(model: QualityModel, name: str) -> float:
    packed = dict.fromkeys(record.features for record in records())
    return float(np.mean([model.predict(unpack(one), [name])[0][0] for one in packed]))


def voted(votes: list[Vote], half_life_s: float = 1e9) -> QualityModel:
    return with_feedback(fit_quality(records()), records(), votes, 0.0, half_life_s)


def test_votes_of_many_keys_move_a_model_and_never_past_its_interval() -> None:
    plain = voted([])
    damned = voted([Vote(f"k{n % 100}", "a", 0.0) for n in range(50_000)])
    low, _ = wilson(40 / 60, 60)
    moved = mean_prediction(damned, "a") - mean_prediction(plain, "a")
    assert moved == pytest.approx(low - 40 / 60, abs=0.02)
    assert mean_prediction(damned, "b") == pytest.approx(mean_prediction(plain, "b"), abs=1e-9)


def test_one_loud_key_moves_a_model_by_at_most_five_points() -> None:
    plain = voted([])
    loud = voted([Vote("liar", "a", 0.0)] * 50_000)
    assert 0.0 <= mean_prediction(plain, "a") - mean_prediction(loud, "a") <= 0.05


def test_votes_move_the_prompts_that_they_are_about_and_leave_the_mean_to_the_evaluation() -> None:
    cats, dogs = (
        [pack(extract(f"question {item} about {kind}")) for item in range(60)] for kind in ("cats", "dogs")
    )
    votes = [Vote(f"k{n}", "a", 1.0, dogs[n % 60]) for n in range(300)]
    votes += [Vote(f"k{n}", "a", 0.3, cats[n % 60]) for n in range(300)]

    def mean(model: QualityModel, packed: list[bytes]) -> float:
        return float(np.mean([model.predict(unpack(one), ["a"])[0][0] for one in packed]))

    plain, heard = voted([]), voted(votes)
    assert mean(heard, dogs) - mean(heard, cats) > mean(plain, dogs) - mean(plain, cats) + 0.05
    assert mean_prediction(heard, "a") == pytest.approx(mean_prediction(plain, "a"), abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_liar_on_the_prompts_of_others_moves_their_estimates_by_at_most_five_points(share: float) -> None:
    about = [pack(extract(f"question {item} about dogs")) for item in range(60)]
    random = np.random.default_rng(0)
    votes = [Vote(f"k{n % 20}", "a", float(random.random() < 0.66), about[n % 60]) for n in range(400)]
    lies = [Vote("liar", "a", 0.0, about[n % 60]) for n in range(int(400 * share / (1 - share)))]
    before, after = (
        np.array([m.predict(unpack(p), ["a"])[0][0] for p in about])
        for m in (voted(votes), voted(votes + lies))
    )
    assert np.abs(after - before).max() <= 0.05


def test_anchors_are_the_evaluations_means_with_wilson_intervals() -> None:
    anchor = anchors_of(records())["a"]
    assert (anchor.mean, anchor.count) == (40 / 60, 60)
    assert anchor.low < anchor.mean < anchor.high


def decision(name: str, key: str = "k", model: str = "a") -> DecisionRecord:
    return DecisionRecord(name, 0.0, key, "auto", "", model, "formula", 1.0, 0.0, 0, features=b"f")


def ended(name: str, status: Status = Status.OK, attempts: int = 1) -> OutcomeRecord:
    return OutcomeRecord(name, 0.0, "a", "r", Outcome(status, attempts=attempts))


def vote(name: str, metric: str, score: float, detail: str | None = None, key: str = "k") -> FeedbackRecord:
    return FeedbackRecord(name, key, metric, score, 0.0, detail)


def test_a_decision_counts_once_however_many_metrics_were_sent() -> None:
    feedback = [vote("d", "quality", 1.0), vote("d", "browser", 0.0), vote("d", "toxicity", 1.0)]
    (found,) = votes_of(feedback, [(decision("d"), ended("d"))], ("quality", "browser"))
    assert (found.key_id, found.model, found.score) == ("k", "a", 0.5)
    assert (found.features, found.propensity, found.created_s) == (b"f", 1.0, 0.0)


def test_only_whole_answers_of_the_chosen_model_count() -> None:
    results = [None, ended("d", Status.FAILED), ended("d", Status.CANCELLED), ended("d", attempts=2)]
    for result in results:
        assert votes_of([vote("d", "quality", 0.0)], [(decision("d"), result)], ("quality",)) == []


def test_a_comparison_speaks_of_both_decisions_of_the_key_only() -> None:
    feedback = [vote("d1", "quality", 1.0, detail="d2")]
    pairs = [(decision("d1"), ended("d1")), (decision("d2", model="b"), ended("d2"))]
    assert said(votes_of(feedback, pairs, ("quality",))) == [("k", "a", 1.0), ("k", "b", 0.0)]
    foreign = [pairs[0], (decision("d2", key="other", model="b"), ended("d2"))]
    assert said(votes_of(feedback, foreign, ("quality",))) == [("k", "a", 1.0)]


def said(votes: list[Vote]) -> list[tuple[str, str, float]]:
    return [(vote.key_id, vote.model, vote.score) for vote in votes]
