"""Limits of keys, teams and profiles: what is refused, for how long, and what comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from deployments.keys.entries import KeyLimits
from deployments.keys.key import Key
from deployments.records.budget import Budget
from deployments.records.records import OutcomeRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from serve_app.access.leases import Leases
from serve_app.access.limits import Limiter
from serve_app.http.errors import ApiError
from tests.clock import Clock

DAY_S = 86_400.0


def key(name: str = "a", **limits: object) -> Key:
    return Key(name, name, frozenset({"infer"}), KeyLimits.model_validate(limits), "salt")


class Shared:
    """Several ingress replicas' limiters over one table, on one clock."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock(1_700_000_000.0)
        self.table = Table(Store(f"sqlite:///{path}/store.sqlite3"), clock=self.clock)
        self.limiters = [self.limiter(f"ingress-{number}") for number in range(2)]
        self._reported = 0

    def limiter(self, name: str) -> Limiter:
        return Limiter(Leases(self.table, name, clock=self.clock), self.clock, self.clock)

    async def report(self, name: str, accounts: tuple[str, ...], cost_usd: float) -> None:
        """An outcome reaches the log."""
        self._reported += 1
        outcome = Outcome(Status.OK, cost_usd=cost_usd)
        record = OutcomeRecord(f"d-{self._reported}", self.clock.now_s, "m", "r", outcome, accounts=accounts)
        await self.table.report_ingress(name, self._reported, {}, [], [record])


@pytest_asyncio.fixture
async def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    yield made
    await made.table.close()


@pytest.fixture
def limiter(shared: Shared) -> Limiter:
    return shared.limiters[0]


async def refused(limiter: Limiter, key: Key, tokens: int = 0) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await limiter.enter(key, tokens)
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    return caught.value


async def spend(limiter: Limiter, key: Key, predicted_usd: float, budgets=None):
    """A request of a key with dollars, admitted. Raises ApiError."""
    account = f"key:{key.key_id}"
    budgets = budgets or ((account, key.limits.dollars),)
    reservation = await limiter.enter(key, 0, tuple(name for name, _ in budgets), budgets)
    try:
        await limiter.afford(reservation, predicted_usd, predicted_usd)
    except ApiError:
        limiter.refund(reservation)
        raise
    return reservation


async def test_no_limits_admit_everything_and_ask_nobody(shared, limiter):
    free = key()
    for _ in range(1000):
        await limiter.enter(free, 10**6)
    assert shared.table.store.commits <= 1


async def test_concurrency_is_over_all_replicas_and_is_given_back(shared):
    one, (first, second) = key(concurrency=1), shared.limiters
    held = await first.enter(one, 0)
    await refused(second, one)
    first.settle(held, 0, 0.0)
    held = await second.enter(one, 0)
    await refused(first, one)
    second.settle(held, 0, 0.0)


async def test_zero_admits_nothing(limiter):
    await refused(limiter, key(concurrency=0))
    await refused(limiter, key(tokens_per_min=0))


async def test_requests_a_second_are_over_all_replicas_and_refill(shared):
    slow, (first, second) = key(requests_per_s=2.0), shared.limiters
    await first.enter(slow, 0)
    await second.enter(slow, 0)
    await refused(first, slow)
    shared.clock.now_s += 0.5
    await first.enter(slow, 0)
    await refused(second, slow)


async def test_tokens_are_reserved_and_settled(shared, limiter):
    small = key(tokens_per_min=600)
    first = await limiter.enter(small, 500)
    await refused(limiter, small, 200)
    limiter.settle(first, 100, 0.0)
    second = await limiter.enter(small, 400)
    limiter.settle(second, 1000, 0.0)  # used more than expected: the rest is owed
    shared.clock.now_s += 1.0
    error = await refused(limiter, small, 100)
    assert int(error.headers["retry-after"]) >= 49
    shared.clock.now_s += 60.0
    await limiter.enter(small, 100)


async def test_a_request_larger_than_the_bucket_takes_a_full_one(limiter):
    small = key(tokens_per_min=100)
    first = await limiter.enter(small, 10**15)
    await refused(limiter, small, 1)
    limiter.settle(first, 10, 0.0)
    await limiter.enter(small, 90)


async def test_a_refused_request_uses_up_nothing(shared, limiter):
    both = key(requests_per_s=1.0, tokens_per_min=100, concurrency=2)
    for _ in range(3):  # refused further on: all of it comes back
        limiter.refund(await limiter.enter(both, 60))
    running = await limiter.enter(both, 60)
    shared.clock.now_s += 1.0
    for _ in range(3):
        await refused(limiter, both, 99)
    limiter.settle(running, 0, 0.0)
    await limiter.enter(both, 100)


async def test_a_budget_is_spent_over_all_replicas(shared):
    poor, (first, second) = key(usd_per_day=1.0), shared.limiters
    held = [await spend(first, poor, 0.5), await spend(second, poor, 0.4)]
    with pytest.raises(ApiError) as caught:
        await spend(second, poor, 0.2)
    assert caught.value.code == "budget_exceeded"
    assert caught.value.headers["retry-after"] == "1", "what is in flight may cost less"
    first.settle(held[0], 10, 0.1)
    await first.leases.renew()
    shared.clock.now_s += 1.0
    await spend(second, poor, 0.2)


@pytest.mark.parametrize(
    ("limits", "window_s"),
    [({"usd_per_day": 1.0}, DAY_S), ({"budget": {"usd": 1.0, "window": "2h"}}, 7200.0)],
)
async def test_a_spent_budget_comes_back_with_the_next_window(shared, limits, window_s):
    poor, (first, second) = key(**limits), shared.limiters
    first.settle(await spend(first, poor, 0.5), 0, 1.5)
    await shared.report("ingress-0", ("key:a",), 1.5)
    with pytest.raises(ApiError) as caught:
        await spend(second, poor, 0.1)
    assert 1 <= int(caught.value.headers["retry-after"]) <= window_s
    shared.clock.now_s += window_s
    await spend(second, poor, 0.1)
    await spend(first, poor, 0.1)


async def test_teams_and_profiles_share_a_budget(shared):
    budgets = (("team:t", Budget(usd=1.0)), ("profile:p", Budget(usd=5.0)))
    first, second = shared.limiters
    await spend(first, key("a"), 0.7, budgets)
    with pytest.raises(ApiError, match="team 't'"):
        await spend(second, key("b"), 0.7, budgets)
    headers = dict(second.headers(key("b"), budgets))
    assert headers[b"x-fastserve-budget-account"] == b"team"


async def test_small_costs_add_up_exactly(shared, limiter):
    rich = key(usd_per_day=1.0)
    for _ in range(1_000):
        limiter.settle(await spend(limiter, rich, 1e-7), 1, 1e-7)
    await limiter.leases.renew()
    assert (b"x-fastserve-budget-remaining-usd", b"0.999900000") in limiter.headers(
        rich, (("key:a", rich.limits.dollars),)
    )


async def test_headers_say_what_is_left_in_openais_words(limiter):
    assert limiter.headers(key("free")) == []
    both = key(requests_per_s=2.0, tokens_per_min=600)
    await limiter.enter(both, 450)
    assert dict(limiter.headers(both)) == {
        b"x-ratelimit-limit-requests": b"2",
        b"x-ratelimit-remaining-requests": b"1",
        b"x-ratelimit-reset-requests": b"500ms",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"150",
        b"x-ratelimit-reset-tokens": b"45s",
    }


async def test_one_key_does_not_feel_another(limiter):
    await limiter.enter(key("a", concurrency=1), 0)
    await limiter.enter(key("b", concurrency=1), 0)


async def test_changed_limits_keep_what_is_running_and_spent(limiter):
    limiter.settle(await spend(limiter, key(usd_per_day=1.0), 0.5), 0, 0.5)
    await limiter.enter(key(concurrency=5), 0)
    await refused(limiter, key(concurrency=1))
    with pytest.raises(ApiError):
        await spend(limiter, key(usd_per_day=0.4), 0.1)
