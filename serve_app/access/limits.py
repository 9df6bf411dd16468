"""Per-key limits of one ingress replica: requests per second, concurrency, tokens a minute, dollars a day."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from serve_app.access.keys import Key
from serve_app.config import KeyLimits
from serve_app.http.errors import overloaded

DAY_S: Final = 86_400.0
_NANO = 1_000_000_000  # of a US dollar: sums of whole numbers are exact

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` a second, at most `size`; below 0 when the true cost is known only later."""

    rate: float
    size: float
    updated_s: float
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.size

    def fill(self, now_s: float) -> None:
        """Add what has accrued since the last look."""
        self.level = min(self.size, self.level + (now_s - self.updated_s) * self.rate)
        self.updated_s = now_s

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there."""
        return max(0.0, (min(amount, self.size) - self.level) / self.rate) if self.rate > 0 else DAY_S

    def put_back(self, amount: float) -> None:
        """Return what was taken and not used; negative for what was used beyond it."""
        self.level = min(self.size, self.level + amount)


class KeyUsage:
    """What one key is using and has used."""

    def __init__(self, limits: KeyLimits, now_s: float) -> None:
        self.limits = limits
        self.active = 0
        self.day = 0
        self.spent_nano_usd = 0  # today
        self.finished = 0  # requests of today
        self.used_tokens = 0  # today
        self.reserved_nano_usd = 0  # by the requests in flight
        per_s, per_min = limits.requests_per_s, limits.tokens_per_min
        self.requests = Bucket(per_s, max(1.0, per_s), now_s) if per_s is not None else None
        self.tokens = Bucket(per_min / 60.0, float(per_min), now_s) if per_min is not None else None

    def turn(self, day: int) -> None:
        """Begin anew where another day has begun."""
        if self.day != day:
            self.day, self.spent_nano_usd, self.finished, self.used_tokens = day, 0, 0, 0

    @property
    def left_nano_usd(self) -> int | None:
        """What is left of today's dollars, requests in flight paid for; None without such a limit."""
        if self.limits.usd_per_day is None:
            return None
        return round(self.limits.usd_per_day * _NANO) - self.spent_nano_usd - self.reserved_nano_usd


@dataclass(slots=True)
class Reservation:
    """What one admitted request holds of its key's limits until it is settled."""

    key: Key
    tokens: int
    nano_usd: int = 0


class Limiter:
    """Admits requests by key and settles what they really used."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._usage: dict[str, KeyUsage] = {}
        self._before: tuple[int, dict[str, int]] = (-1, {})  # day, nano-dollars by key id

    def enter(self, key: Key, tokens: int) -> Reservation:
        """Admit a request that is expected to use `tokens`.

        Raises ApiError (429) with Retry-After; a request that is refused uses up nothing.
        """
        usage = self._of(key)
        limits = usage.limits
        if limits.concurrency is not None and usage.active >= limits.concurrency:
            raise overloaded(f"This key may run {limits.concurrency} requests at once.")
        left = usage.left_nano_usd
        if left is not None and left <= 0:
            left_s = DAY_S - self._wall() % DAY_S
            raise overloaded(
                f"This key has spent its {limits.usd_per_day:g} USD of today.", "budget_exceeded", left_s
            )
        held = _held(limits, tokens)
        for bucket, amount, rule in (
            (usage.requests, 1.0, f"send {limits.requests_per_s} requests a second"),
            (usage.tokens, held, f"use {limits.tokens_per_min} tokens a minute"),
        ):
            wait_s = bucket.wait_s(amount) if bucket is not None else 0.0
            if wait_s > 0.0:
                raise overloaded(f"This key may {rule}.", retry_after_s=wait_s + 0.5)
        if usage.requests is not None:
            usage.requests.level -= 1.0
        if usage.tokens is not None:
            usage.tokens.level -= held
        usage.active += 1
        return Reservation(key, tokens)

    def expect(self, reservation: Reservation, cost_usd: float) -> None:
        """Reserve the predicted cost, once the model is known."""
        nano_usd = round(cost_usd * _NANO)
        self._of(reservation.key).reserved_nano_usd += nano_usd - reservation.nano_usd
        reservation.nano_usd = nano_usd

    def settle(self, reservation: Reservation, used: int, cost_usd: float) -> None:
        """The request is over: charge what it used in place of what it held."""
        usage = self._release(reservation)
        usage.spent_nano_usd += round(cost_usd * _NANO)
        usage.finished += 1
        usage.used_tokens += used
        if usage.tokens is not None:
            usage.tokens.put_back(_held(usage.limits, reservation.tokens) - used)

    def refund(self, reservation: Reservation) -> None:
        """The request was refused after all: it used up nothing."""
        usage = self._release(reservation)
        if usage.requests is not None:
            usage.requests.put_back(1.0)
        if usage.tokens is not None:
            usage.tokens.put_back(_held(usage.limits, reservation.tokens))

    def restore(self, spent_nano_usd: Mapping[str, int]) -> None:
        """Add what keys (by id) spent today before this replica began to count."""
        day = int(self._wall() // DAY_S)
        self._before = (day, dict(spent_nano_usd))
        for key_id, usage in self._usage.items():
            usage.turn(day)
            usage.spent_nano_usd += spent_nano_usd.get(key_id, 0)

    def headers(self, key: Key) -> list[Header]:
        """OpenAI's `x-ratelimit-*` headers for the limits of the key, and what is left of its dollars."""
        usage = self._of(key)
        headers: list[Header] = []
        for kind, bucket in ((b"requests", usage.requests), (b"tokens", usage.tokens)):
            if bucket is not None:
                headers += [
                    (b"x-ratelimit-limit-" + kind, b"%d" % bucket.size),
                    (b"x-ratelimit-remaining-" + kind, b"%d" % max(0.0, bucket.level)),
                    (b"x-ratelimit-reset-" + kind, _duration(bucket.wait_s(bucket.size))),
                ]
        left = usage.left_nano_usd
        if left is not None:
            headers.append((b"x-fastserve-budget-remaining-usd", f"{max(0, left) / _NANO:.9f}".encode()))
        return headers

    def today(self, key: Key) -> dict[str, object]:
        """What a key has used today (UTC) of this ingress replica, and what it is using."""
        usage = self._of(key)
        return {
            "key": key.name,
            "key_id": key.key_id,
            "requests": usage.finished,
            "tokens": usage.used_tokens,
            "in_flight": usage.active,
            "spent_usd": usage.spent_nano_usd / _NANO,
            "reserved_usd": usage.reserved_nano_usd / _NANO,
            "limit_usd": usage.limits.usd_per_day,
        }

    def _release(self, reservation: Reservation) -> KeyUsage:
        usage = self._of(reservation.key)
        usage.active -= 1
        usage.reserved_nano_usd -= reservation.nano_usd
        return usage

    def _of(self, key: Key) -> KeyUsage:
        """The key's usage now: buckets filled, the day turned, changed limits in force."""
        usage, now_s = self._usage.get(key.key_id), self._clock()
        if usage is None or (usage.limits is not key.limits and usage.limits != key.limits):
            before = usage
            usage = self._usage[key.key_id] = KeyUsage(key.limits, now_s)
            if before is not None:
                usage.active, usage.day = before.active, before.day
                usage.finished, usage.used_tokens = before.finished, before.used_tokens
                usage.spent_nano_usd = before.spent_nano_usd
                usage.reserved_nano_usd = before.reserved_nano_usd
            else:
                usage.day, earlier = self._before
                usage.spent_nano_usd = earlier.get(key.key_id, 0)
        for bucket in (usage.requests, usage.tokens):
            if bucket is not None:
                bucket.fill(now_s)
        usage.turn(int(self._wall() // DAY_S))
        return usage


def _held(limits: KeyLimits, tokens: int) -> float:
    """What a request may hold back at most: all that its key has in a minute."""
    return float(min(tokens, limits.tokens_per_min or 0))


def _duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1.0:
        return b"%dms" % round(seconds * 1000)
    minutes, rest = divmod(seconds, 60.0)
    return (f"{minutes:.0f}m" if minutes else "").encode() + f"{rest:.3g}s".encode()
