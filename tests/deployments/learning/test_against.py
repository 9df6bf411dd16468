"""`auto` against one model alone, estimated from a log with a planted truth."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from deployments.learning.against import Comparison, NothingToCompareError, against
from deployments.learning.live_evidence import Finished, finished
from tests.deployments.traffic import MODELS, decision, outcome

TRUE_SCORE = {"large": 0.9, "small": 0.5}
LATENCY_S = {"large": 2.0, "small": 0.5}  # predicted: 1 s each
COST_USD = {"large": 0.002, "small": 0.0}


def log(count: int, share: float, seed: int = 0) -> tuple[list[Finished], dict[str, float]]:
    """Requests of which `large` got a share, each with a vote of its model's true score."""
    rng = np.random.default_rng(seed)
    pairs, votes = [], {}
    for number in range(count):
        model = MODELS[int(rng.random() >= share)]
        record = msgspec.structs.replace(
            decision(f"d{number}", float(number), model=model),
            probabilities=(share, 1.0 - share),
            propensity=share if model == "large" else 1.0 - share,
        )
        done = outcome(record, number + 1.0, e2e_s=LATENCY_S[model])
        pairs.append((record, replace(done, outcome=replace(done.outcome, cost_usd=COST_USD[model]))))
        votes[record.decision_id] = float(rng.random() < TRUE_SCORE[model])
    return finished(pairs, votes, 5.0), votes


def figures(found: Comparison) -> dict[str, tuple[float, float, float]]:
    return {row.figure.split(",")[0]: (row.auto, row.model, row.difference) for row in found.rows}


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_the_truth_is_found_from_what_was_drawn(share: float) -> None:
    requests, votes = log(4000, share)
    found = against(requests, votes, "large")
    assert (found.requests, found.voted, found.caution) == (4000, 4000, "")
    assert found.of_them_by_it == pytest.approx(4000 * share, rel=0.1)
    auto, alone, gain = figures(found)["score"]
    assert alone == pytest.approx(0.9, abs=0.03)
    assert auto == pytest.approx(share * 0.9 + (1 - share) * 0.5, abs=0.03)
    assert gain == pytest.approx(auto - alone)
    assert figures(found)["latency"][:2] == pytest.approx((share * 2.0 + (1 - share) * 0.5, 2.0), abs=0.05)
    assert figures(found)["cost"][1] == pytest.approx(0.002, abs=2e-4)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth = 0.3 * (0.9 - 0.5) + 0.5 - 0.9
    held = 0
    for seed in range(40):
        requests, votes = log(400, 0.3, seed)
        [score] = [row for row in against(requests, votes, "large").rows if row.figure.startswith("score")]
        held += score.low <= truth <= score.high
    assert held >= 33  # of 40 at 95 %: fewer than 34 in one of 50


def test_few_requests_of_the_model_are_said() -> None:
    requests, votes = log(400, 0.02)
    assert "rests on predictions" in against(requests, votes, "large").caution


def test_a_model_that_never_stood_to_choice_is_an_error() -> None:
    requests, votes = log(10, 0.5)
    with pytest.raises(NothingToCompareError, match="'gone'"):
        against(requests, votes, "gone")


def test_votes_on_few_answers_correct_what_was_predicted_of_all() -> None:
    _, votes = log(6000, 0.5)
    few = {name: score for number, (name, score) in enumerate(votes.items()) if number % 10 == 0}
    requests, _ = log(6000, 0.5)
    pairs = [(one.record, one.result) for one in requests]
    found = against(finished(pairs, few, 5.0), few, "large")
    assert found.voted == 600
    auto, alone, _ = figures(found)["score"]
    assert alone == pytest.approx(0.9, abs=0.06)  # predicted: 0.7
    assert auto == pytest.approx(0.7, abs=0.06)  # predicted: 0.6
