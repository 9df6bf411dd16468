"""The benchmark of the waiting order: what its prompts tell, and what it counts."""

import numpy as np
import pytest

from policies.simulator.arrivals import synthetic_trace
from scripts.benchmarks.faults.arrivals import Seen
from scripts.benchmarks.faults.order import (
    ARRIVAL,
    KNOWN,
    PREDICTED,
    SLOTS,
    STEP_S,
    fitted,
    passed_over,
    prompt,
    skill,
    work_of,
)
from scripts.benchmarks.load.pool import DEADLINE_S
from scripts.benchmarks.load.study import LENGTH_SKILL


@pytest.fixture(scope="module")
def work():
    return work_of(synthetic_trace(2_000, 1))


def test_prompts_tell_of_the_length_as_much_as_they_are_meant_to(work):
    model = fitted(work, 1_400)
    assert skill(model, work, PREDICTED) == pytest.approx(LENGTH_SKILL, abs=0.05)
    assert skill(model, work, KNOWN) > 0.99


def test_of_the_model_in_order_of_arrival_nothing_is_told(work):
    _, *slopes = fitted(work, 1_400).parameters[ARRIVAL].length
    assert max(map(abs, slopes)) < 1e-9


def test_prompts_are_of_one_length():
    assert len({len(prompt(told)) for told in (-9.0, -1.0, 0.0, 0.3, 9.0)}) == 1


def test_a_part_of_the_work_comes_at_its_load(work):
    part = work.part(100, 700, 1.2)
    assert len(part) == 600
    assert np.array_equal(part.tokens, work.tokens[100:700])
    offered_s = part.tokens.sum() * STEP_S
    assert offered_s == pytest.approx(1.2 * SLOTS * (part.arrival_s[-1] - part.arrival_s[0]))


def seen(due_s, status, waited_s=0.0):
    return Seen("any", due_s, DEADLINE_S, status, waited_ms=round(1e3 * waited_s))


def test_a_request_is_passed_over_where_a_later_one_was_served_while_it_waited():
    late, refused = seen(10.0, 504), seen(11.0, 429)
    assert passed_over([late, refused, seen(9.0, 200, 30.0)]) == 0  # the other came first
    assert passed_over([late, seen(12.0, 200, 5.0)]) == 1
    assert passed_over([late, seen(12.0, 200, DEADLINE_S)]) == 0  # after it had given up
