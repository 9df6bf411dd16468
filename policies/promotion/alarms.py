"""Watches the active policy after promotion: reward, errors, latency, cost, entropy, share."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.promotion.confidence import Betting, rescale


@dataclass(frozen=True, slots=True)
class Reference:
    """What the policy before earned, measured on its own traffic; the yardstick of the alarms."""

    reward: float
    failure_rate: float
    late_rate: float  # share of requests above `late_s`
    late_s: float
    cost_usd: float
    entropy: float  # mean entropy of the sampled distributions, nats


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """How far each quantity may move; `false_alarm_every`: mean requests between two false alarms."""

    reward_margin: float = 0.05
    failure_margin: float = 0.05
    late_margin: float = 0.10
    cost_factor: float = 2.0
    min_entropy_ratio: float = 0.02
    max_share: float = 0.995  # of one model while others were allowed
    window: int = 200
    false_alarm_every: float = 10_000.0


@dataclass(frozen=True, slots=True)
class Seen:
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
    _recent: deque[Seen] = field(init=False)

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

    def update(self, seen: Seen) -> str | None:
        """Take one request; the reason of an alarm, or None."""
        self._recent.append(seen)
        r = self.reference
        values = {
            "reward": rescale(r.reward - seen.reward, -1.0, 1.0),
            "errors": float(seen.failed),
            "latency": float(seen.e2e_s > r.late_s),
        }
        if r.cost_usd > 0.0:
            values["cost"] = min(seen.cost_usd / (2.0 * self.settings.cost_factor * r.cost_usd), 1.0)
        for name, value in values.items():
            if self._detectors[name].update(value):
                return f"{name}: moved away from the version before"
        return self._window_alarm() if len(self._recent) == self.settings.window else None

    def _window_alarm(self) -> str | None:
        free = [seen for seen in self._recent if seen.alternatives > 0]
        if len(free) < self.settings.window // 2:
            return None
        entropy = sum(seen.entropy for seen in free) / len(free)
        if entropy < self.settings.min_entropy_ratio * self.reference.entropy:
            return f"entropy: {entropy:.4f} nats, {self.reference.entropy:.4f} before"
        model, count = Counter(seen.model for seen in free).most_common(1)[0]
        if count > self.settings.max_share * len(free):
            return f"share: '{model}' takes {count} of {len(free)} requests that others could serve"
        return None
