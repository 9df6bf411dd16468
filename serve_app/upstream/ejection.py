"""Local ejection: a replica that keeps failing is left alone for a while, longer each time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.http.errors import ApiError

FAILURES = 3  # in a row, then it is out
FIRST_S = 1.0
LONGEST_S = 30.0


@dataclass(slots=True)
class _Health:
    failures: int = 0
    times: int = 0  # ejections in a row
    until_s: float = 0.0
    refusal: ApiError | None = None  # what it said last


class Ejections:
    """Replicas that this ingress avoids. A success forgets everything about a replica."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._health: dict[str, _Health] = {}
        self._ejected: frozenset[str] = frozenset()
        self._valid_until_s = 0.0

    def succeeded(self, replica: str) -> None:
        """The replica answered."""
        if replica in self._health:
            del self._health[replica]
            self._valid_until_s = 0.0

    def failed(self, replica: str, *, gone: bool = False, refusal: ApiError | None = None) -> bool:
        """The replica failed; `gone` (nobody listens there) ejects at once. Returns whether it is out now."""
        health = self._health.setdefault(replica, _Health())
        health.refusal = refusal
        health.failures += 1
        if not gone and health.failures < FAILURES:
            return False
        period_s = min(FIRST_S * 2.0**health.times, LONGEST_S)
        health.times += 1
        health.failures = 0
        health.until_s = self._clock() + period_s
        self._valid_until_s = 0.0
        return True

    def rest(self, replica: str, period_s: float, refusal: ApiError | None) -> None:
        """The replica asked to be left alone for so long."""
        health = self._health.setdefault(replica, _Health())
        health.refusal = refusal
        health.until_s = max(health.until_s, self._clock() + period_s)
        self._valid_until_s = 0.0

    def refusal(self, replica: str) -> ApiError | None:
        """What a replica that is left alone said last, where it said more than that it failed."""
        health = self._health.get(replica)
        left_s = 0.0 if health is None else health.until_s - self._clock()
        if health is None or health.refusal is None or left_s <= 0:
            return None
        said, headers = health.refusal, dict(health.refusal.headers)
        if "retry-after" in headers:
            headers["retry-after"] = str(math.ceil(left_s))
        return ApiError(said.status, said.message, code=said.code, param=said.param, headers=headers)

    def current(self) -> frozenset[str]:
        """The replicas to avoid now; the same object while nothing changes."""
        if not self._health:
            return self._ejected if not self._ejected else self._set(frozenset())
        now_s = self._clock()
        if now_s >= self._valid_until_s:
            out = {replica: h.until_s for replica, h in self._health.items() if h.until_s > now_s}
            self._valid_until_s = min(out.values(), default=float("inf"))
            if out.keys() != self._ejected:
                self._set(frozenset(out))
        return self._ejected

    def forget(self, known: frozenset[str]) -> None:
        """Drop replicas that the table does not know any more and whose time is up."""
        now_s = self._clock()
        for replica in [r for r, h in self._health.items() if r not in known and h.until_s <= now_s]:
            del self._health[replica]

    def _set(self, ejected: frozenset[str]) -> frozenset[str]:
        self._ejected = ejected
        return ejected
