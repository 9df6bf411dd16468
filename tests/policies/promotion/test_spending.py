"""Over a whole life no more is spent than there is."""

import pytest

from policies.promotion.spending import level


def test_the_levels_of_all_tests_sum_to_no_more_than_what_there_is() -> None:
    spent = sum(level(0.05, number) for number in range(1, 200_001))
    assert 0.04 < spent < 0.05


def test_each_test_gets_less_than_the_one_before() -> None:
    levels = [level(0.05, number) for number in range(1, 100)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 1e-6


def test_tests_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        level(0.05, 0)
