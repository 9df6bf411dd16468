"""What a run of late replicas comes to: how much they pause, who was there, what a second try costs."""

import itertools

import pytest

from policies.outcome import Outcome, Status
from scripts.benchmarks.faults.hedge import Found, bars, during, extra_work, slow
from scripts.benchmarks.faults.late_replicas import Pause, Seen, block, pauses


def seen(began_s: float = 0.0, first_s: float = 0.05, took_s: float = 0.5, status: int = 200) -> Seen:
    return Seen(began_s, first_s, took_s, status)


def test_every_replica_pauses_for_its_share_of_the_time_and_never_twice_at_once() -> None:
    planned = pauses(4, 1_000.0, 0.02, seed=1)
    for replica in range(4):
        own = [one for one in planned if one.replica == replica]
        assert sum(one.length_s for one in own) == pytest.approx(20.0)
        assert all(a.at_s + a.length_s <= b.at_s for a, b in itertools.pairwise(own))
        assert own[0].at_s >= 0.0
        assert own[-1].at_s + own[-1].length_s <= 1_000.0
    assert planned == pauses(4, 1_000.0, 0.02, seed=1), "both blocks of a pair have the same"


def test_a_plan_is_cut_into_blocks() -> None:
    planned = pauses(4, 100.0, 0.02, seed=1)
    blocks = [block(planned, number, 25.0) for number in range(4)]
    assert sum(map(len, blocks)) == len(planned)
    assert all(0.0 <= one.at_s < 25.0 for part in blocks for one in part)


def test_requests_count_that_were_under_way_while_one_hung() -> None:
    before, across, inside, after = seen(1.0), seen(2.8), seen(5.0), seen(11.1)
    assert during([before, across, inside, after], Pause(3.0, 0, 8.0)) == [across, inside]
    assert slow([seen(), seen(took_s=2.1), seen(status=503), seen()]) == 0.5


def test_the_bars_compare_the_tail_and_count_what_was_spent() -> None:
    answered = Outcome(Status.OK, prompt_tokens=30, output_tokens=20, hedges=1, hedged_tokens=30)
    plain = Outcome(Status.OK, prompt_tokens=30, output_tokens=20)
    assert extra_work([answered, plain]) == 0.3
    with_it = Found([seen(first_s=0.1)] * 100, [seen()] * 100, [answered] + [plain] * 99)
    without = Found([seen(first_s=1.0)] * 100, [seen(took_s=3.0)], [plain])
    found = {one.name: one for one in bars({True: with_it, False: without})}
    ratio = found["p99 TTFT with hedging over without, four replicas that pause"]
    assert (ratio.value, ratio.passed) == (pytest.approx(0.1), True)
    assert found["extra work, share of the tokens"].value == pytest.approx(30 / 5_000)
    assert found["one of two hangs: answers later than 2 s, share"].value == 0.0
    assert all(one.passed for one in found.values())
