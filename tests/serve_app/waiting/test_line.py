"""Start-time fair queueing: each key gets slots by its weight, whatever the others send."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.waiting.line import FairLine


@dataclass(eq=False)
class Asking:
    key: str
    weight: float = 1.0
    cost_s: float = 1.0
    number: int = 0
    since_s: float = 0.0
    deadline_s: float = 1e9


def filled(*asking: Asking) -> FairLine[Asking]:
    line: FairLine[Asking] = FairLine()
    for number, one in enumerate(asking):
        one.number = number
        line.add(one)
    return line


def served(line: FairLine[Asking], count: int) -> list[str]:
    return [line.take(0.0, 0.0).key for _ in range(count)]


def test_keys_take_turns_however_many_one_has():
    line = filled(*(Asking("flood") for _ in range(50)), *(Asking("calm") for _ in range(3)))
    assert served(line, 6) == ["flood", "calm", "flood", "calm", "flood", "calm"]


def test_a_key_of_twice_the_weight_gets_twice_as_much():
    line = filled(*(Asking("a", 2.0) for _ in range(40)), *(Asking("b") for _ in range(40)))
    keys = served(line, 30)
    assert (keys.count("a"), keys.count("b")) == (20, 10)


def test_long_answers_count_for_what_they_take():
    line = filled(*(Asking("long", cost_s=4.0) for _ in range(40)), *(Asking("short") for _ in range(40)))
    keys = served(line, 25)
    assert (keys.count("long"), keys.count("short")) == (5, 20)


def test_what_was_predicted_too_low_is_paid_for_later():
    line = filled(*(Asking("liar", cost_s=0.1) for _ in range(100)), *(Asking("honest") for _ in range(100)))
    took = {"liar": 0.0, "honest": 0.0}
    for _ in range(60):
        one = line.take(0.0, 0.0)
        took[one.key] += 1.0
        line.ended(one, 1.0)
    assert took["liar"] == pytest.approx(took["honest"], abs=2.0)


def test_nobody_saves_up_while_away():
    line = filled()
    for number in range(100):
        line.serve(Asking("steady", number=number))
    for number in range(10):
        line.add(Asking("back", number=100 + number))
        line.add(Asking("steady", number=200 + number))
    assert served(line, 11).count("back") == 6  # its absence is no credit, the other's work no debt


def test_requests_of_one_key_that_are_alike_keep_their_order():
    asking = [Asking("a") for _ in range(9)]
    line = filled(*asking)
    line.remove(asking[4])
    assert [line.take(0.0, 0.0).number for _ in range(8)] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_short_requests_of_a_key_take_no_turn_of_another_key():
    line = filled(*(Asking("long", cost_s=4.0) for _ in range(9)), *(Asking("short") for _ in range(9)))
    mixed = (Asking("mixed", cost_s=1.0 + i % 2) for i in range(9))
    other = filled(*(Asking("long", cost_s=4.0) for _ in range(9)), *mixed)
    assert served(line, 6).count("long") == served(other, 6).count("long") == 2


def test_what_it_remembers_of_keys_is_bounded():
    line = filled()
    for number in range(5_000):
        line.serve(Asking(f"key-{number}", number=number))
    assert len(line._ends) <= 4_096


def test_a_share_is_by_weight_and_never_less_than_one():
    line = filled(*(Asking("a") for _ in range(6)), Asking("b", 2.0))
    assert not line.has_share("a", 1.0, 9.0)  # six of the three that are its own
    assert line.has_share("b", 2.0, 9.0)
    assert line.has_share("new", 1.0, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.1, 5.0)), min_size=20, max_size=120),
    st.fixed_dictionaries({key: st.floats(0.5, 4.0) for key in "abcd"}),
)
def test_keys_that_wait_differ_in_service_by_no_more_than_their_largest_requests(requests, weights):
    """The bound of the paper, where predictions hold: |W_f/r_f - W_g/r_g| <= l_f/r_f + l_g/r_g."""
    line = filled(*(Asking(key, weights[key], cost_s) for key, cost_s in requests))
    asking = {key for key, _ in requests}
    got = dict.fromkeys(asking, 0.0)
    largest = {key: max(cost_s for k, cost_s in requests if k == key) / weights[key] for key in asking}
    while all(line.of(key) for key in asking):  # one that has nothing left leaves its share to the others
        for f in asking:
            for g in asking:
                assert got[f] - got[g] <= largest[f] + largest[g] + 1e-6
        one = line.take(0.0, 0.0)
        got[one.key] += one.cost_s / one.weight
        line.ended(one, one.cost_s)
