"""Which bars of a stored result the page of promises shows."""

from typing import Any

from scripts.reliability import worst


def _bar(name: str, value: float, op: str = "<=", limit: float = 50.0) -> dict[str, Any]:
    passed = value <= limit if op == "<=" else value >= limit
    return {"name": name, "value": value, "op": op, "bar": limit, "passed": passed}


def test_of_many_settings_the_worst_is_shown_and_all_must_hold() -> None:
    bars = [
        _bar(f"shape {number}: longest step, ms", float(value)) for number, value in enumerate((3, 60, 9))
    ]
    [shown] = worst(bars)
    assert shown["name"] == "longest step, ms, the worst of 3 (shape 1)"
    assert (shown["value"], shown["passed"]) == (60.0, False)


def test_where_more_is_better_the_least_is_the_worst() -> None:
    bars = [
        _bar(f"from {number}: answered", float(value), ">=", 20.0)
        for number, value in enumerate((20, 22, 21))
    ]
    [shown] = worst(bars)
    assert (shown["value"], shown["passed"]) == (20.0, True)


def test_few_bars_and_bars_of_other_limits_stay_apart() -> None:
    bars = [
        _bar("a: growth", 1.0),
        _bar("b: growth", 2.0),
        _bar("c: growth", 3.0, limit=10.0),
        _bar("whole", 4.0),
    ]
    assert list(worst(bars)) == bars
