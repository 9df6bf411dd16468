"""Limits of keys, teams and profiles over all ingress replicas: requests, concurrency, tokens, dollars."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from deployments.keys.key import Key
from deployments.records.budget import Budget
from deployments.records.leases import NANO, Resource
from deployments.records.windows import bounds
from serve_app.access.leases import AwayError, Hold, Leases
from serve_app.access.purse import Purse
from serve_app.http.errors import ApiError, overloaded, unavailable

Header = tuple[bytes, bytes]
Budgets = tuple[tuple[str, Budget], ...]  # by account

_RATES: Final = ((Resource.REQUESTS, b"requests"), (Resource.TOKENS, b"tokens"))
_AFFORDABLE: Final = 4  # times its predicted cost is reserved for a request


@dataclass(slots=True)
class Reservation:
    """What one admitted request holds of its limits until it is settled."""

    key: Key
    accounts: tuple[str, ...]
    budgets: Budgets
    request: str = ""  # its name, see deployments/records/decision_id.py
    holds: list[Hold] = field(default_factory=list)


class Limiter:
    """Admits requests and settles what they really used; see Leases for how replicas share a limit."""

    def __init__(
        self,
        leases: Leases,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.leases = leases
        self._clock = clock
        self._wall = wall

    async def enter(
        self,
        key: Key,
        tokens: int,
        accounts: tuple[str, ...] = (),
        budgets: Budgets = (),
        request: str = "",
    ) -> Reservation:
        """Admit a request of this name that is expected to use `tokens`, and will be charged to `accounts`.

        Raises ApiError: 429 with Retry-After over a limit, 503 where the table cannot be asked. A refused
        request uses up nothing.
        """
        reservation = Reservation(key, accounts, budgets, request)
        holds = []
        for purse in self._purses(key):
            amount = max(1, min(tokens, int(purse.limit))) if purse.resource is Resource.TOKENS else 1
            holds.append(Hold(purse, amount, amount, request=request))
        await self._take(reservation, holds)
        return reservation

    async def afford(self, reservation: Reservation, predicted_usd: float, most_usd: float) -> None:
        """Reserve what the request may cost, once the model is known; near the end no less than predicted.

        Raises ApiError as `enter`; what was held before is still held then.
        """
        least = max(1, round(predicted_usd * NANO))
        want = max(least, min(round(most_usd * NANO), _AFFORDABLE * least))
        purses = [self._budget(account, budget) for account, budget in reservation.budgets]
        await self._take(
            reservation, [Hold(purse, want, least, request=reservation.request) for purse in purses]
        )

    def settle(self, reservation: Reservation, used: int, cost_usd: float) -> None:
        """The request is over: charge what it used in place of what it held."""
        nano_usd, held = round(cost_usd * NANO), {id(hold.purse) for hold in reservation.holds}
        for hold in reservation.holds:
            amounts = {Resource.TOKENS: used, Resource.REQUESTS: 1, Resource.USD: nano_usd}
            self.leases.settle(hold, amounts.get(hold.purse.resource, 0))
        for account in reservation.accounts:  # whose budget came, or was not reached, after it was admitted
            purse = self.leases.find(account, Resource.USD)
            if purse is not None and id(purse) not in held:
                purse.settle(0, nano_usd)

    def refund(self, reservation: Reservation) -> None:
        """The request was refused after all: it used up nothing."""
        for hold in reservation.holds:
            self.leases.settle(hold, 0)

    def headers(self, key: Key, budgets: Budgets = ()) -> list[Header]:
        """OpenAI's `x-ratelimit-*` headers for the limits of the key, and what is left of all budgets."""
        headers, now_s = [], self._clock()
        purses = {purse.resource: purse for purse in self._purses(key)}
        for resource, name in _RATES:
            purse = purses.get(resource)
            if purse is not None:
                left = purse.remaining(now_s)
                headers += [
                    (b"x-ratelimit-limit-" + name, b"%d" % purse.limit),
                    (b"x-ratelimit-remaining-" + name, b"%d" % left),
                    (b"x-ratelimit-reset-" + name, _duration(_wait_s(purse, purse.limit - left))),
                ]
        return headers + self._of_budgets(budgets, now_s)

    def _of_budgets(self, budgets: Budgets, now_s: float) -> list[Header]:
        """The budget with the least left, and until when; requests in flight are paid for."""
        if not budgets:
            return []
        left = {account: self._budget(account, budget).remaining(now_s) for account, budget in budgets}
        account, budget = min(budgets, key=lambda pair: left[pair[0]])
        reset_s = bounds(budget.window, self._wall())[1] - self._wall()
        headers = [
            (b"x-fastserve-budget-remaining-usd", f"{left[account] / NANO:.9f}".encode()),
            (b"x-fastserve-budget-reset", _duration(reset_s)),
            (b"x-fastserve-budget-account", account.partition(":")[0].encode()),
        ]
        return headers + ([(b"x-fastserve-degraded", b"limits")] if self.leases.is_away else [])

    async def _take(self, reservation: Reservation, holds: list[Hold]) -> None:
        if not holds:
            return
        try:
            lacking = await self.leases.take(holds)
        except AwayError:
            message = "The limits of this key cannot be checked now: the performance table does not answer."
            error = unavailable(message, "limits_unavailable")
            error.headers["x-fastserve-degraded"] = "limits"
            raise error from None
        if lacking is not None:
            raise self._refusal(reservation, lacking)
        reservation.holds += holds

    def _refusal(self, reservation: Reservation, lacking: Hold) -> ApiError:
        purse, limits = lacking.purse, reservation.key.limits
        if purse.resource is Resource.USD:
            return self._spent(reservation.budgets, purse)
        if purse.resource is Resource.SLOTS:
            return overloaded(f"This key may run {limits.concurrency} requests at once.")
        rule = f"use {limits.tokens_per_min} tokens a minute"
        if purse.resource is Resource.REQUESTS:
            rule = f"send {limits.requests_per_s} requests a second"
        owed = max(0.0, purse.spent - purse.limit)  # by requests that used more than they said
        wait_s = _wait_s(purse, lacking.least + owed - purse.remaining(self._clock()))
        return overloaded(f"This key may {rule}.", retry_after_s=wait_s + 0.5)

    def _spent(self, budgets: Budgets, purse: Purse) -> ApiError:
        """What is in flight may cost less than is reserved for it: then a little later there is more."""
        budget = dict(budgets)[purse.account]
        kind, _, name = purse.account.partition(":")
        whose = "this key" if kind == "key" else f"{kind} '{name}'"
        reset_s = bounds(budget.window, self._wall())[1] - self._wall()
        message = f"The budget of {whose}, {budget.usd:g} USD for each {budget.window}, is spent"
        if purse.spent < budget.nano_usd and (purse.others or purse.reserved):
            return overloaded(f"{message} or reserved.", "budget_exceeded", min(1.0, reset_s))
        return overloaded(f"{message}.", "budget_exceeded", reset_s)

    def _budget(self, account: str, budget: Budget) -> Purse:
        return self.leases.purse(account, Resource.USD, budget.nano_usd, 0.0, budget.window)

    def _purses(self, key: Key) -> Iterable[Purse]:
        """One for each limit of the key but dollars."""
        limits, account, purse = key.limits, f"key:{key.key_id}", self.leases.purse
        if limits.concurrency is not None:
            yield purse(account, Resource.SLOTS, limits.concurrency)
        if limits.requests_per_s is not None:
            yield purse(account, Resource.REQUESTS, max(1.0, limits.requests_per_s), limits.requests_per_s)
        if limits.tokens_per_min is not None:
            yield purse(account, Resource.TOKENS, limits.tokens_per_min, limits.tokens_per_min / 60.0)


def _wait_s(purse: Purse, amount: float) -> float:
    """Seconds until so much of a rate is back."""
    return max(0.0, amount) / purse.per_s if purse.per_s > 0 else 86_400.0


def _duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1.0:
        return b"%dms" % round(seconds * 1000)
    minutes, rest = divmod(seconds, 60.0)
    return (f"{minutes:.0f}m" if minutes else "").encode() + f"{rest:.3g}s".encode()
