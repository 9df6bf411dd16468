import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.reward import NO_TARGET_S, lateness, reward


@pytest.mark.parametrize(
    ("e2e_s", "target_s", "late"),
    [(3.0, 10.0, 0.0), (10.0, 10.0, 0.0), (15.0, 10.0, 0.5), (20.0, 10.0, 1.0), (float("inf"), 10.0, 1.0)],
)
def test_lateness_starts_at_the_target_and_is_whole_at_twice_it(
    e2e_s: float, target_s: float, late: float
) -> None:
    assert lateness(e2e_s, target_s) == pytest.approx(late)


def test_without_a_target_every_second_counts() -> None:
    assert lateness(NO_TARGET_S / 4, 0.0) == pytest.approx(0.25)


@given(a=st.floats(0, 1), b=st.floats(0, 1), late=st.floats(0, 1), cost=st.floats(0, 10))
def test_better_answers_never_earn_less(a: float, b: float, late: float, cost: float) -> None:
    low, high = sorted((a, b))
    assert reward(low, late, cost, 1.0, 1.0, 0.2) <= reward(high, late, cost, 1.0, 1.0, 0.2)
    assert reward(a, late, cost, 0.0, 0.0, 0.0) == 0.0
