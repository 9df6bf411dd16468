from typing import Any

import numpy as np
import pytest

from policies.training.congestion import Served, delay_cost


def _served(count: int, **columns: object) -> Served:
    """One pool, one model, a request a second that needs 10 s; nobody waits, nobody is late."""
    arrival_s = np.arange(float(count))[:, None]
    values: dict[str, Any] = {
        "model": np.zeros((count, 1), dtype=np.int64),
        "episode": np.zeros((count, 1), dtype=np.int64),
        "arrival_s": arrival_s,
        "start_s": arrival_s,
        "end_s": arrival_s + 10.0,
        "waited": np.zeros((count, 1), dtype=np.bool_),
        "work_s": np.full((count, 1), 0.5),
        "prefill_s": np.zeros((count, 1)),
        "slope": np.zeros((count, 1)),
    }
    for name, column in columns.items():
        values[name] = np.array(column, dtype=values[name].dtype)[:, None]
    return Served(**values)


def test_each_late_request_that_waits_behind_costs_the_work_ahead_of_it() -> None:
    served = _served(3, waited=[False, True, True], slope=[0.0, 0.1, 0.2])
    cost = delay_cost(served, 1e9, 3)[:, 0]
    assert cost == pytest.approx([0.5 * 0.3, 0.5 * 0.2, 0.0])


def test_delays_of_those_who_come_later_are_discounted_by_the_seconds_between() -> None:
    served = _served(3, waited=[False, True, True], slope=[0.0, 0.1, 0.1])
    cost = delay_cost(served, 2.0, 1)[0, 0]
    assert cost == pytest.approx(0.05 * (np.exp(-0.5) + np.exp(-1.0)))


def test_a_request_that_is_gone_before_an_idle_moment_delays_nobody_after_it() -> None:
    served = _served(3, end_s=[0.5, 11.0, 12.0], waited=[False, False, True], slope=[0.0, 0.0, 0.1])
    assert delay_cost(served, 1e9, 2)[:, 0] == pytest.approx([0.0, 0.05])


def test_a_prefill_delays_those_who_decode_meanwhile() -> None:
    served = _served(3, end_s=[1.5, 11.0, 12.0], prefill_s=[0.0, 0.0, 0.2], slope=[0.1, 0.1, 0.0])
    assert delay_cost(served, 1e9, 3)[2, 0] == pytest.approx(0.2 * 0.1)  # the first had ended


@pytest.mark.parametrize("apart", ["model", "episode"])
def test_other_models_and_other_episodes_are_not_touched(apart: str) -> None:
    served = _served(2, waited=[False, True], slope=[0.1, 0.1], prefill_s=[0.2, 0.2], **{apart: [0, 1]})
    assert delay_cost(served, 1e9, 2)[:, 0] == pytest.approx([0.0, 0.0])


def test_a_step_without_a_decision_costs_nothing() -> None:
    served = _served(2, model=[-1, 0], waited=[False, True], slope=[0.0, 0.1])
    assert delay_cost(served, 1e9, 2)[:, 0] == pytest.approx([0.0, 0.0])
