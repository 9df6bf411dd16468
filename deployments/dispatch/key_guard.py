"""Per-key protection outside the policy: exploration caps, a daily budget, the alarm on expensive models."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from deployments.dispatch.settings import DispatchSettings

_DAY_S: Final = 86_400.0
_MAX_KEYS: Final = 10_000
LEAST_ALARM_SHARE: Final = 0.25  # below it a multiple of almost nothing is no attack
_ABOVE_ALL: Final = 2.0  # times the share of all keys: what the load does to everyone is no attack
_ALL_REQUESTS: Final = 1_000.0  # memory of the share of all keys


@dataclass(slots=True)
class KeyState:
    """What one key did. Counts fade with the guard's window, `recent` with its last requests."""

    requests: int = 0
    explored: int = 0
    faded_requests: float = 0.0
    faded_expensive: float = 0.0
    recent: float = 0.0  # share of expensive choices among the last requests
    seen_s: float = 0.0
    day: int = -1
    spent_usd: float = 0.0  # on `day`


class KeyGuard:
    """Counts choices by key, the 10,000 most recently seen. `now_s` is wall clock, so that days are days."""

    def __init__(self, settings: DispatchSettings) -> None:
        self.settings = settings
        self._keys: OrderedDict[str, KeyState] = OrderedDict()
        self._day = -1
        self._explored_usd = 0.0
        self._all = 0.0  # recent share of expensive choices over all keys

    def epsilon(self, key: str) -> float:
        """Exploration for the next request: the setting, or 0 where a cap is reached."""
        settings, state = self.settings, self._keys.get(key) or KeyState()
        if self._explored_usd >= settings.exploration.usd_per_day:
            return 0.0
        allowed = settings.exploration.key_share * (state.requests + 1)
        return settings.epsilon if state.explored + 1 <= allowed else 0.0

    def is_alarmed(self, key: str) -> bool:
        """Whether the key's recent share of expensive models is far above its own mean and that of all."""
        state, guard = self._keys.get(key), self.settings.guard
        if state is None or state.requests < guard.min_requests:
            return False
        mean = state.faded_expensive / max(state.faded_requests, 1.0)
        return state.recent > max(guard.share_factor * mean, _ABOVE_ALL * self._all, LEAST_ALARM_SHARE)

    def is_spent(self, key: str, now_s: float) -> bool:
        """Whether the key's budget of this day is spent."""
        limit, state = self.settings.guard.key_usd_per_day, self._keys.get(key)
        return (
            limit > 0.0
            and state is not None
            and state.day == int(now_s // _DAY_S)
            and state.spent_usd >= limit
        )

    def chosen(self, key: str, now_s: float, cost_usd: float, *, expensive: bool, explored: bool) -> None:
        """Count one choice of `auto` at its predicted cost."""
        state = self._state(key, now_s)
        window_s = self.settings.guard.window_days * _DAY_S
        fade = math.exp(-max(now_s - state.seen_s, 0.0) / window_s) if state.requests else 1.0
        state.faded_requests = state.faded_requests * fade + 1.0
        state.faded_expensive = state.faded_expensive * fade + expensive
        state.recent += (expensive - state.recent) / min(
            state.requests + 1.0, self.settings.guard.min_requests
        )
        self._all += (expensive - self._all) / _ALL_REQUESTS
        state.requests += 1
        state.seen_s = now_s
        if explored:
            state.explored += 1
            self._explored_usd += cost_usd
        self.spend(key, now_s, cost_usd)

    def spend(self, key: str, now_s: float, usd: float) -> None:
        """Add to the key's spending of today; negative where a prediction was too high."""
        self._state(key, now_s).spent_usd += usd

    def _state(self, key: str, now_s: float) -> KeyState:
        day = int(now_s // _DAY_S)
        if day != self._day:
            self._day, self._explored_usd = day, 0.0
        state = self._keys.get(key)
        if state is None:
            state = self._keys[key] = KeyState(seen_s=now_s, day=day)
            if len(self._keys) > _MAX_KEYS:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        if state.day != day:
            state.day, state.spent_usd = day, 0.0
        return state
