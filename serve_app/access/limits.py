"""Per-key limits of one ingress replica: requests per second, concurrency, tokens a minute, dollars a day."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serve_app.access.keys import Key
from serve_app.config import KeyLimits
from serve_app.http.errors import ApiError, overloaded

_DAY_S = 86_400.0


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
        return max(0.0, (min(amount, self.size) - self.level) / self.rate) if self.rate > 0 else _DAY_S


class KeyUsage:
    """What one key is using and has used."""

    def __init__(self, limits: KeyLimits, now_s: float) -> None:
        self.limits = limits
        self.active = 0
        self.day = 0
        self.spent_usd = 0.0
        per_s, per_min = limits.requests_per_s, limits.tokens_per_min
        self.requests = Bucket(per_s, max(1.0, per_s), now_s) if per_s is not None else None
        self.tokens = Bucket(per_min / 60.0, float(per_min), now_s) if per_min is not None else None


class Limiter:
    """Admits requests by key and settles what they really used."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._usage: dict[str, KeyUsage] = {}

    def enter(self, key: Key, tokens: int) -> None:
        """Admit a request that is expected to use `tokens`. Raises ApiError (429) with Retry-After."""
        usage = self._of(key)
        limits = usage.limits
        if limits.concurrency is not None and usage.active >= limits.concurrency:
            raise overloaded(f"This key may run {limits.concurrency} requests at once.")
        if limits.usd_per_day is not None and usage.spent_usd >= limits.usd_per_day:
            left_s = _DAY_S - self._wall() % _DAY_S
            raise overloaded(
                f"This key has spent its {limits.usd_per_day:g} USD of today.", "budget_exceeded", left_s
            )
        self._take(usage.requests, 1.0, f"This key may send {limits.requests_per_s} requests a second.")
        self._take(
            usage.tokens,
            _reserved(limits, tokens),
            f"This key may use {limits.tokens_per_min} tokens a minute.",
        )
        usage.active += 1

    def leave(self, key: Key, expected: int, used: int, cost_usd: float) -> None:
        """Give back what was reserved and not used, or charge the rest."""
        usage = self._of(key)
        usage.active -= 1
        usage.spent_usd += cost_usd
        if usage.tokens is not None:
            usage.tokens.level = min(
                usage.tokens.size, usage.tokens.level + _reserved(usage.limits, expected) - used
            )

    def _take(self, bucket: Bucket | None, amount: float, message: str) -> None:
        if bucket is None:
            return
        bucket.fill(self._clock())
        wait_s = bucket.wait_s(amount)
        if wait_s > 0.0:
            raise _limited(message, wait_s)
        bucket.level -= amount

    def _of(self, key: Key) -> KeyUsage:
        usage = self._usage.get(key.key_id)
        if usage is None or usage.limits is not key.limits:
            before = usage
            usage = self._usage[key.key_id] = KeyUsage(key.limits, self._clock())
            if before is not None:
                usage.active, usage.day, usage.spent_usd = before.active, before.day, before.spent_usd
        day = int(self._wall() // _DAY_S)
        if usage.day != day:
            usage.day, usage.spent_usd = day, 0.0
        return usage


def _reserved(limits: KeyLimits, tokens: int) -> float:
    """What a request may hold back at most: all that its key has in a minute."""
    return float(min(tokens, limits.tokens_per_min or 0))


def _limited(message: str, wait_s: float) -> ApiError:
    return overloaded(message, retry_after_s=wait_s + 0.5)
