"""Per-key limits: what is refused, for how long, and what comes back."""

import pytest

from serve_app.access.keys import Key
from serve_app.access.limits import Limiter
from serve_app.config import KeyLimits
from serve_app.http.errors import ApiError
from tests.clock import Clock


def key(name="a", **limits) -> Key:
    return Key(name, name, frozenset({"infer"}), KeyLimits(**limits), "salt")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return Limiter(clock, clock)


def refused(limiter, key, tokens=0) -> ApiError:
    with pytest.raises(ApiError) as caught:
        limiter.enter(key, tokens)
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    return caught.value


def test_no_limits_admit_everything(limiter):
    free = key()
    for _ in range(1000):
        limiter.enter(free, 10**6)


def test_concurrency_is_given_back(limiter):
    one = key(concurrency=1)
    first = limiter.enter(one, 0)
    refused(limiter, one)
    limiter.settle(first, 0, 0.0)
    limiter.enter(one, 0)


def test_zero_concurrency_admits_nothing(limiter):
    refused(limiter, key(concurrency=0))


def test_requests_a_second_refill(limiter, clock):
    slow = key(requests_per_s=2.0)
    for _ in range(2):
        limiter.enter(slow, 0)
    refused(limiter, slow)
    clock.now_s += 0.5
    limiter.enter(slow, 0)
    refused(limiter, slow)


def test_tokens_are_reserved_and_settled(limiter, clock):
    small = key(tokens_per_min=600)
    first = limiter.enter(small, 500)
    refused(limiter, small, 200)
    limiter.settle(first, 100, 0.0)
    second = limiter.enter(small, 400)
    limiter.settle(second, 1000, 0.0)  # used more than expected: the rest is owed
    error = refused(limiter, small, 100)
    assert int(error.headers["retry-after"]) >= 50
    clock.now_s += 60.0
    limiter.enter(small, 100)


def test_a_request_larger_than_the_bucket_takes_a_full_one_and_gives_it_back(limiter):
    small = key(tokens_per_min=100)
    first = limiter.enter(small, 10**15)
    refused(limiter, small, 1)
    limiter.settle(first, 10, 0.0)
    limiter.enter(small, 90)
    refused(limiter, small, 1)


def test_a_refused_request_uses_up_nothing(limiter):
    both = key(requests_per_s=1.0, tokens_per_min=100, concurrency=2)
    refused_by_tokens = limiter.enter(both, 100)
    limiter.refund(refused_by_tokens)  # refused further on: all of it comes back
    first = limiter.enter(both, 60)
    limiter.refund(first)
    running = limiter.enter(both, 60)
    before = limiter.headers(both)
    for _ in range(3):
        refused(limiter, both, 60)
    assert limiter.headers(both) == before
    limiter.settle(running, 60, 0.0)


def test_a_refusal_for_tokens_leaves_the_request_of_this_second(limiter, clock):
    both = key(requests_per_s=1.0, tokens_per_min=60)
    limiter.enter(both, 60)
    clock.now_s += 1.0
    refused(limiter, both, 60)
    limiter.enter(both, 1)


def test_dollars_of_a_day_come_back_the_next_day(limiter, clock):
    poor = key(usd_per_day=1.0)
    limiter.settle(limiter.enter(poor, 0), 0, 1.5)
    assert refused(limiter, poor).code == "budget_exceeded"
    clock.now_s += 86_400.0
    limiter.enter(poor, 0)


def test_dollars_are_reserved_while_requests_are_in_flight(limiter):
    poor = key(usd_per_day=1.0)
    held = [limiter.enter(poor, 0) for _ in range(2)]
    for reservation in held:
        limiter.expect(reservation, 0.5)
    assert refused(limiter, poor).code == "budget_exceeded"
    limiter.settle(held[0], 10, 0.3)
    limiter.settle(held[1], 10, 0.1)
    assert (b"x-fastserve-budget-remaining-usd", b"0.600000000") in limiter.headers(poor)
    limiter.enter(poor, 0)


def test_small_costs_add_up_exactly(limiter):
    rich = key(usd_per_day=1.0)
    for _ in range(1_000):
        limiter.settle(limiter.enter(rich, 0), 1, 1e-7)
    assert (b"x-fastserve-budget-remaining-usd", b"0.999900000") in limiter.headers(rich)


def test_headers_say_what_is_left_in_openais_words(limiter):
    assert limiter.headers(key("free")) == []
    both = key(requests_per_s=2.0, tokens_per_min=600)
    limiter.enter(both, 450)
    assert dict(limiter.headers(both)) == {
        b"x-ratelimit-limit-requests": b"2",
        b"x-ratelimit-remaining-requests": b"1",
        b"x-ratelimit-reset-requests": b"500ms",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"150",
        b"x-ratelimit-reset-tokens": b"45s",
    }


def test_what_was_spent_before_a_restart_counts(limiter, clock):
    known, new = key("known", usd_per_day=1.0), key("new", usd_per_day=1.0)
    limiter.settle(limiter.enter(known, 0), 1, 0.25)
    limiter.restore({"known": 500_000_000, "new": 1_000_000_000})
    assert (b"x-fastserve-budget-remaining-usd", b"0.250000000") in limiter.headers(known)
    assert refused(limiter, new).code == "budget_exceeded"
    clock.now_s += 86_400.0
    limiter.enter(new, 0)
    limiter.enter(key("later", usd_per_day=1.0), 0)


def test_one_key_does_not_feel_another(limiter):
    limiter.enter(key("a", concurrency=1), 0)
    limiter.enter(key("b", concurrency=1), 0)


def test_changed_limits_keep_what_is_running_and_spent(limiter):
    limiter.settle(limiter.enter(key(concurrency=5, usd_per_day=1.0), 0), 0, 0.5)
    limiter.enter(key(concurrency=5, usd_per_day=1.0), 0)
    refused(limiter, key(concurrency=1))
    refused(limiter, key(usd_per_day=0.4))


def test_a_key_file_read_again_fills_no_bucket(limiter):
    limiter.enter(key(tokens_per_min=100), 100)
    refused(limiter, key(tokens_per_min=100), 100)
