"""Watches the active policy after promotion: reward, errors, latency, cost, entropy, share."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from policies.promotion.confidence import Betting, rescale
from policies.promotion.rollout import Reference
from policies.strict import StrictModel


class AlarmSettings(StrictModel):
    """What rolls an active version back; all of it is compared with the version before."""

    # Roll back when the mean normalised reward, in [0, 1], is lower by this much.
    reward_margin: float = Field(default=0.05, gt=0.0)
    # Roll back when the error rate is higher by this much.
    failure_margin: float = Field(default=0.05, gt=0.0)
    # Roll back when the share of late requests is higher by this much.
    late_margin: float = Field(default=0.10, gt=0.0)
    cost_factor: float = Field(default=2.0, gt=1.0)  # Roll back when a request costs this many times as much.
    # Roll back when the mean entropy falls below this share of the previous version's.
    min_entropy_ratio: float = Field(default=0.02, ge=0.0)
    # Roll back when one model takes more than this share of the requests that others could serve.
    max_share: float = Field(default=0.995, gt=0.0, le=1.0)
    window: int = Field(default=200, ge=20)  # Take entropy and share over this many last requests.
    # Accept one false alarm in this many requests, on average.
    false_alarm_every: float = Field(default=10_000.0, ge=100.0)


@dataclass(frozen=True, slots=True)
class WatchedRequest:
    """One finished request of the active policy. `alternatives`: models that were allowed besides."""

    reward: float
    failed: bool
    e2e_s: float
    cost_usd: float
    entropy: float
    model: str
    alternatives: int


class Detector:
    """An e-CUSUM: restarts a betting e-process whenever its wealth falls below 1.

    Its mean time to a false alarm is at least the threshold (Shin, Ramdas, Rinaldo 2022, e-detectors).
    """

    def __init__(self, null: float, threshold: float) -> None:
        self._null = min(max(null, 1e-3), 1.0 - 1e-3)
        self._limit = math.log(threshold)
        self._bet = Betting(self._null)

    def update(self, x: float) -> bool:
        """Take x in [0, 1]; True when its mean has risen above the null."""
        self._bet.update(x)
        if self._bet.log_wealth >= self._limit:
            return True
        if self._bet.log_wealth < 0.0:
            self._bet = Betting(self._null)
        return False


@dataclass(slots=True)
class Alarms:
    """All watches of one promoted version."""

    reference: Reference
    settings: AlarmSettings = field(default_factory=AlarmSettings)
    _detectors: Mapping[str, Detector] = field(init=False)
    _recent: deque[WatchedRequest] = field(init=False)

    def __post_init__(self) -> None:
        s, r = self.settings, self.reference
        nulls = {
            "reward": rescale(s.reward_margin, -1.0, 1.0),
            "errors": r.failure_rate + s.failure_margin,
            "latency": r.late_rate + s.late_margin,
            "cost": 0.5,  # cost over (2 * factor * reference): the factor itself lies at one half
        }
        self._detectors = {name: Detector(null, s.false_alarm_every) for name, null in nulls.items()}
        self._recent = deque(maxlen=s.window)

    def update(self, request: WatchedRequest) -> str | None:
        """Take one request; the reason of an alarm, or None."""
        self._recent.append(request)
        r = self.reference
        values = {
            "reward": rescale(r.reward - request.reward, -1.0, 1.0),
            "errors": float(request.failed),
            "latency": float(request.e2e_s > r.late_s),
        }
        if r.cost_usd > 0.0:
            values["cost"] = min(request.cost_usd / (2.0 * self.settings.cost_factor * r.cost_usd), 1.0)
        for name, value in values.items():
            if self._detectors[name].update(value):
                return f"{name}: moved away from the version before"
        return self._window_alarm() if len(self._recent) == self.settings.window else None

    def _window_alarm(self) -> str | None:
        free = [request for request in self._recent if request.alternatives > 0]
        if len(free) < self.settings.window // 2:
            return None
        entropy = sum(request.entropy for request in free) / len(free)
        if entropy < self.settings.min_entropy_ratio * self.reference.entropy:
            return f"entropy: {entropy:.4f} nats, {self.reference.entropy:.4f} before"
        model, count = Counter(request.model for request in free).most_common(1)[0]
        if count > self.settings.max_share * len(free):
            return f"share: '{model}' takes {count} of {len(free)} requests that others could serve"
        return None
