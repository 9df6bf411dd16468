"""The formula's parts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.utility import Weights, relative, utility

amounts = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=8)


def test_the_worked_example() -> None:
    value = utility(
        accuracy=np.array([0.9, 0.8]),
        latency_s=np.array([0.100, 0.050]),
        cost_usd=np.zeros(2),
        weights=Weights(accuracy=2.0, latency=1.0),
        mask=np.array([True, True]),
    )
    assert np.allclose(value, [2.3, 2.6], atol=1e-6)


@given(amounts)
def test_relative_amounts_lie_in_the_unit_interval_and_the_smallest_has_1(values: list[float]) -> None:
    ratio = relative(np.array(values), np.ones(len(values), dtype=bool))
    assert (ratio > 0.0).all()
    assert (ratio <= 1.0).all()
    assert ratio[int(np.argmin(values))] == 1.0


@given(amounts.filter(lambda v: len(v) > 1))
def test_what_is_masked_does_not_set_the_scale(values: list[float]) -> None:
    mask = np.ones(len(values), dtype=bool)
    mask[0] = False
    changed = [0.0, *values[1:]]
    assert np.array_equal(relative(np.array(values), mask)[1:], relative(np.array(changed), mask)[1:])


def test_cost_counts_only_with_a_weight() -> None:
    same = {"accuracy": np.array([0.5, 0.5]), "latency_s": np.ones(2), "mask": np.ones(2, dtype=bool)}
    cost = np.array([1e-3, 1e-5])
    free = utility(cost_usd=cost, weights=Weights(1.0, 1.0, 0.0), **same)
    priced = utility(cost_usd=cost, weights=Weights(1.0, 1.0, 1.0), **same)
    assert free[0] == free[1]
    assert priced[1] > priced[0]
