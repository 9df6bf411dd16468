"""Preferences: from the body, from headers, the body first; never in what a model gets."""

import pytest

from deployments.dispatch.request import NO_PREFERENCES, Preferences, Prompt
from policies.utility import Weights
from serve_app.body.calls import Call
from serve_app.body.preferences import take
from serve_app.http.errors import ApiError


def call(**body):
    return Call("/v1/chat/completions", {"model": "auto", **body}, "auto", Prompt())


def test_without_preferences_nothing_changes():
    made = call()
    assert take(made, {b"host": b"x"}) is NO_PREFERENCES
    assert not made.changed


def test_all_of_them_from_the_body():
    made = call(
        fastserve={
            "weights": {"accuracy": 2, "cost": 0.5},
            "models": ["a", "b"],
            "max_latency_s": 3,
            "max_cost_usd": 0.01,
            "deadline_s": 10,
            "session": "s1",
        }
    )
    assert take(made, {}) == Preferences(Weights(2.0, 0.0, 0.5), ("a", "b"), 3.0, 0.01, 10.0, "s1")
    assert "fastserve" not in made.body
    assert made.changed


def test_all_of_them_from_headers():
    headers = {
        b"x-fastserve-weights": b"accuracy=2, latency=1",
        b"x-fastserve-models": b"a, b",
        b"x-fastserve-max-latency-s": b"3",
        b"x-fastserve-max-cost-usd": b"0.01",
        b"x-fastserve-deadline-s": b"10",
        b"x-fastserve-session": b"s1",
    }
    assert take(call(), headers) == Preferences(Weights(2.0, 1.0, 0.0), ("a", "b"), 3.0, 0.01, 10.0, "s1")


@pytest.mark.parametrize(
    ("body", "headers", "is_batch"),
    [
        ({"fastserve": {"priority": "batch"}}, {}, True),
        ({"fastserve": {"priority": "interactive"}}, {b"x-fastserve-priority": b"batch"}, False),
        ({}, {b"x-fastserve-priority": b"batch"}, True),
        ({"service_tier": "flex"}, {}, True),
        ({"service_tier": "flex", "fastserve": {"priority": "interactive"}}, {}, False),
        ({"service_tier": "priority"}, {}, False),
    ],
)
def test_the_priority_is_asked_for_in_our_words_or_openai_s(body, headers, is_batch):
    assert take(call(**body), headers).is_batch is is_batch


def test_an_unknown_priority_is_refused():
    with pytest.raises(ApiError) as raised:
        take(call(fastserve={"priority": "urgent"}), {})
    assert raised.value.param == "fastserve.priority"


def test_the_body_wins_over_a_header():
    taken = take(
        call(fastserve={"models": ["a"]}), {b"x-fastserve-models": b"b", b"x-fastserve-session": b"s"}
    )
    assert (taken.models, taken.session) == (("a",), "s")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"x-fastserve-weights", b"accuracy"),
        (b"x-fastserve-weights", b"accuracy=nan"),
        (b"x-fastserve-weights", b"speed=1"),
        (b"x-fastserve-max-latency-s", b"inf"),
        (b"x-fastserve-max-latency-s", b"soon"),
        (b"x-fastserve-max-cost-usd", b"-1"),
        (b"x-fastserve-deadline-s", b"0"),
        (b"x-fastserve-session", b"s" * 300),
    ],
)
def test_a_bad_header_is_400_with_the_preference_s_name(header, value):
    with pytest.raises(ApiError) as caught:
        take(call(), {header: value})
    assert caught.value.status == 400
    assert caught.value.param.startswith("fastserve.")


@pytest.mark.parametrize("value", [[], "x", 1, True])
def test_preferences_that_are_no_object_are_400(value):
    with pytest.raises(ApiError):
        take(call(fastserve=value), {})


def test_null_is_none():
    made = call(fastserve=None)
    assert take(made, {}) is NO_PREFERENCES
    assert "fastserve" not in made.body
