"""A comparison counts a loss in the direction in which each figure is bad."""

import pytest

from scripts.compare import divided, losses


def document(**values: tuple[str, float]) -> dict[str, object]:
    return {"bars": [{"name": name, "op": op, "value": value} for name, (op, value) in values.items()]}


def test_more_time_and_less_speed_are_losses() -> None:
    before = [document(p50_us=("<=", 100.0), tokens_per_s=(">=", 50.0))]
    after = [document(p50_us=("<=", 110.0), tokens_per_s=(">=", 40.0))]
    found = losses(before, after)
    assert found["p50_us"] == [pytest.approx(0.1)]
    assert found["tokens_per_s"] == [pytest.approx(0.2)]


def test_what_became_better_is_a_negative_loss() -> None:
    assert losses([document(p50_us=("<=", 100.0))], [document(p50_us=("<=", 80.0))])["p50_us"][0] < 0


def test_figures_of_one_side_only_are_left_out() -> None:
    assert (
        losses([document(old=("<=", 1.0), zero=("<=", 0.0))], [document(new=("<=", 1.0), zero=("<=", 1.0))])
        == {}
    )


def test_what_follows_two_dashes_belongs_to_the_benchmark() -> None:
    assert divided(["main", "decision", "--rounds", "3", "--", "--models", "2,8"]) == (
        ["main", "decision", "--rounds", "3"],
        ["--models", "2,8"],
    )
    assert divided(["main", "simulator"]) == (["main", "simulator"], [])
