"""The priced rule: the reward that is expected, less what the capacity is worth to others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import observation as column
from policies.arrays import F64
from policies.observation import Observation
from policies.policy import FormulaPolicy, PolicyError
from policies.priced import PricedPolicy, cost_shares, priced_utility
from policies.reward import expected_lateness
from policies.utility import MOST_LOAD

CALLER = np.array([1.0, 1.0, 0.5, 10.0])


def pool(**columns: tuple[float, float]) -> F64:
    """[2, F] rows of two models that are alike but for `columns`."""
    rows = np.zeros((2, len(column.MODEL_FIELDS)))
    usual = {"weight": 1.0, "accuracy": 0.5, "ttft_s": 0.1, "e2e_s": 2.0, "tpot_s": 0.02, "slots": 10.0}
    for name, value in usual.items():
        rows[:, column.MODEL_COLUMN[name]] = value
    for name, values in columns.items():
        rows[:, column.MODEL_COLUMN[name]] = values
    return rows


def prompt(output_tokens: float) -> F64:
    values = np.zeros(len(column.PROMPT_FIELDS))
    values[column.OUTPUT_TOKENS] = output_tokens
    return values


def utility(rows: F64, output_tokens: float = 100.0, caller: F64 = CALLER) -> F64:
    return priced_utility(rows, prompt(output_tokens), caller, np.ones(len(rows), dtype=bool))


def test_on_an_idle_pool_it_is_the_expected_reward() -> None:
    rows = pool(accuracy=(0.5, 0.8), cost_usd=(0.001, 0.004))
    late = expected_lateness(0.1, 2.0, 10.0)
    expected = np.array([0.5 - late - 0.5 * 0.25, 0.8 - late - 0.5])
    np.testing.assert_allclose(utility(rows), expected, atol=1e-6)


def test_capacity_costs_by_the_work_and_the_load_of_its_model() -> None:
    busy = utility(pool(in_flight=(0.0, 20.0)))
    assert busy[0] - busy[1] == pytest.approx(0.02 * 100.0 / 10.0 * 2.0)


def test_a_request_that_will_be_late_anyway_pays_nothing_for_capacity() -> None:
    hopeless = {"e2e_s": (60.0, 60.0), "ttft_s": (50.0, 50.0)}
    calm, busy = utility(pool(**hopeless, in_flight=(0.0, 20.0)))
    assert calm == pytest.approx(busy)


@given(st.floats(0.0, 1e4), st.floats(0.0, 1e6))
def test_the_price_is_bounded(in_flight: float, output_tokens: float) -> None:
    calm, busy = utility(pool(in_flight=(0.0, in_flight)), output_tokens)
    assert 0.0 <= calm - busy <= 4.0 * MOST_LOAD


def test_a_model_earns_only_by_the_answers_that_it_gives() -> None:
    sound, failing = utility(pool(error_rate=(0.0, 0.6), cost_usd=(0.001, 0.001)))
    assert failing == pytest.approx(0.4 * sound - 0.6 * CALLER[1])
    assert utility(pool(error_rate=(0.0, 1.0)))[1] == pytest.approx(-CALLER[1])


SHARES = st.floats(0.0, 1.0)


@given(SHARES, SHARES, SHARES, st.floats(0.1, 100.0), st.floats(0.0, 50.0))
def test_more_errors_never_raise_a_models_utility(
    a: float, b: float, accuracy: float, e2e_s: float, in_flight: float
) -> None:
    few, many = sorted((a, b))
    both = {"accuracy": (accuracy, accuracy), "e2e_s": (e2e_s, e2e_s), "in_flight": (in_flight, in_flight)}
    ours = utility(pool(error_rate=(few, many), **both))
    assert ours[1] <= ours[0] + 1e-9


def test_cost_is_relative_to_the_dearest_that_may_answer() -> None:
    rows = pool(cost_usd=(0.001, 0.01))
    np.testing.assert_allclose(cost_shares(rows, np.array([True, True])), [0.1, 1.0], rtol=1e-5)
    np.testing.assert_allclose(cost_shares(rows, np.array([True, False])), [1.0, 4.0], rtol=1e-5)
    assert (cost_shares(pool(), np.array([True, True])) == 0.0).all()  # all free


def test_under_load_it_leaves_the_strong_model_to_those_who_can_be_in_time() -> None:
    """The formula follows relative speed and sees no queue behind the request."""
    rows = pool(accuracy=(0.55, 0.7), tpot_s=(0.005, 0.06), in_flight=(5.0, 35.0), e2e_s=(2.0, 4.0))
    seen = Observation(("small", "large"), rows, prompt(200.0), CALLER, np.ones(2, dtype=bool))
    assert PricedPolicy().probabilities(seen)[0] > 0.9
    idle = rows.copy()
    idle[:, column.IN_FLIGHT] = 0.0
    calm = Observation(("small", "large"), idle, prompt(200.0), CALLER, np.ones(2, dtype=bool))
    assert PricedPolicy().probabilities(calm)[1] > 0.9
    assert FormulaPolicy().probabilities(calm)[1] < 0.5


def test_a_row_that_holds_no_number_is_refused() -> None:
    rows = pool(accuracy=(np.nan, 0.5))
    seen = Observation(("a", "b"), rows, prompt(10.0), CALLER, np.ones(2, dtype=bool))
    with pytest.raises(PolicyError, match="priced"):
        PricedPolicy().probabilities(seen)


def test_a_weight_of_nothing_takes_a_model_out() -> None:
    seen = Observation(("a", "b"), pool(weight=(0.0, 1.0)), prompt(10.0), CALLER, np.ones(2, dtype=bool))
    assert PricedPolicy().probabilities(seen).tolist() == [0.0, 1.0]


def test_beta_must_be_positive() -> None:
    with pytest.raises(ValueError, match="beta: 0"):
        PricedPolicy(0.0)
