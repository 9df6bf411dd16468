"""When an answer is late: one in twenty is, whatever the predictions are worth."""

import random

import pytest

from serve_app.upstream.lateness import Lateness

KIND = ("m", "/v1/chat/completions", True)


@pytest.mark.parametrize("scale", [1.0, 4.0, 20.0])
def test_one_in_twenty_is_late_in_the_long_run(scale):
    lateness, draws, late = Lateness(), random.Random(0), 0
    for turn in range(6_000):
        predicted_s = draws.uniform(0.1, 2.0)
        took_s = predicted_s * scale * draws.lognormvariate(0.3, 0.4)
        is_late = took_s > lateness.limit_s(KIND, predicted_s)
        lateness.was(KIND, late=is_late)
        late += is_late and turn >= 2_000
    assert late / 4_000 == pytest.approx(0.05, abs=0.015)


def test_an_answer_in_its_predicted_time_is_never_late():
    lateness = Lateness()
    for _ in range(10_000):
        lateness.was(KIND, late=False)
    assert lateness.limit_s(KIND, 0.5) == 0.5
    assert lateness.limit_s(KIND, 0.001) >= 0.02, "the event loop's own delays are no reason"


def test_streams_and_plain_answers_are_told_apart():
    lateness = Lateness()
    before_s = lateness.limit_s(KIND, 1.0)
    lateness.was(("m", "/v1/chat/completions", False), late=True)
    assert lateness.limit_s(KIND, 1.0) == before_s
