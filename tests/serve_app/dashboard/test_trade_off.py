"""The frontier of static mixes."""

from serve_app.dashboard.trade_off import frontier


def point(e2e_s: float, accuracy: float) -> dict[str, float]:
    return {"e2e_s": e2e_s, "accuracy": accuracy}


def test_the_frontier_leaves_out_what_a_mix_of_others_beats() -> None:
    fast, middle, slow = point(1.0, 0.2), point(2.0, 0.4), point(3.0, 0.9)
    assert frontier([slow, middle, fast], "e2e_s") == [fast, slow], "half of each gives 0.55 in 2 s"
    good = point(2.0, 0.7)
    assert frontier([slow, good, fast, point(2.5, 0.6)], "e2e_s") == [fast, good, slow]


def test_models_that_cost_the_same_leave_the_better_one() -> None:
    assert frontier([point(1.0, 0.2), point(1.0, 0.5)], "e2e_s") == [point(1.0, 0.5)]
    assert frontier([], "e2e_s") == []
