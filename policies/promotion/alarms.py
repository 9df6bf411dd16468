"""Watches the active version after promotion, against requests that the version before still decides."""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import Field

from policies.promotion.compared import ComparedRequest
from policies.promotion.confidence import Betting, rescale
from policies.promotion.rollout import YARDSTICK_SHARE, Candidate
from policies.promotion.slices import MOST, Blocks, SliceBook, SlicedRequest
from policies.strict import StrictModel

_MEMORY: Final = 25.0  # blocks over which a detector remembers
_BOLDNESS: Final = 0.9  # of the largest bet that cannot lose all
_LATE: Final = 2.0  # times the 95th percentile of the version before: late
_LEAST_YARDSTICK: Final = 5  # requests of the version before, from which on latency and cost are compared
_RECENT: Final = 1_000  # requests over which the share of each key is counted
_SLICE_REQUESTS: Final = 20  # that a slice of time has at least, where traffic is not very thin


class AlarmSettings(StrictModel):
    """What rolls an active version back: its requests are compared with those of the version before."""

    # Leave this share of requests, and of slices of time, to the version before, to compare with.
    yardstick_share: float = Field(default=YARDSTICK_SHARE, ge=0.01, le=0.2)
    # Roll back when the mean normalised reward, in [0, 1], is lower by this much.
    reward_margin: float = Field(default=0.05, gt=0.0)
    # Roll back when the error rate is higher by this much.
    failure_margin: float = Field(default=0.05, gt=0.0)
    # Roll back when the share of late requests is higher by this much.
    late_margin: float = Field(default=0.10, gt=0.0)
    cost_factor: float = Field(default=2.0, gt=1.0)  # Roll back when a request costs this many times as much.
    # Let the requests of one API key weigh no more than this share of all, or an equal share among few keys.
    max_key_share: float = Field(default=0.04, gt=0.0, le=1.0)
    # Accept one false alarm in this many requests, on average.
    false_alarm_every: float = Field(default=10_000.0, ge=100.0)


class Detector:
    """An e-CUSUM: a betting e-process whose wealth never falls below 1.

    Its mean time to a false alarm is at least the threshold (Shin, Ramdas, Rinaldo 2022, e-detectors). Bets
    follow the last observations only, so that a long good time does not delay the alarm.
    """

    def __init__(self, null: float, threshold: float) -> None:
        null = min(max(null, 1e-3), 1.0 - 1e-3)
        self._limit = math.log(threshold)
        self._bet = Betting(null, memory=_MEMORY, boldness=_BOLDNESS)

    def update(self, x: float) -> bool:
        """Take x in [0, 1]; True when its mean has risen above the null."""
        self._bet.update(x)
        self._bet.log_wealth = max(self._bet.log_wealth, 0.0)
        return self._bet.log_wealth >= self._limit


class KeyWeights:
    """How much a request weighs, so that no API key dominates: by its share of the last requests."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._recent: deque[str] = deque()
        self._count: Counter[str] = Counter()

    def add(self, key_id: str) -> None:
        """Count one request."""
        self._recent.append(key_id)
        self._count[key_id] += 1
        if len(self._recent) > _RECENT:
            oldest = self._recent.popleft()
            self._count[oldest] -= 1
            if not self._count[oldest]:
                del self._count[oldest]

    def __getitem__(self, key_id: str) -> float:
        """Weight in (0, 1] of a request of this key."""
        share = max(self._max_share, 1.0 / max(len(self._count), 1))
        return min(1.0, share * len(self._recent) / max(self._count[key_id], 1))


def _nulls(settings: AlarmSettings) -> dict[str, float]:
    """The alarms on requests: what the mean of each difference, on the scale of [0, 1], may be."""
    return {
        "reward": rescale(settings.reward_margin, -1.0, 1.0),
        "errors": rescale(settings.failure_margin, -1.0, 1.0),
        "latency": rescale(settings.late_margin, -1.0, 1.0),
        "cost": 0.5,  # the factor is in the values
    }


def _sharing(settings: AlarmSettings) -> int:
    """Detectors that share the chance of a false alarm: those of requests, and the one of slices."""
    return len(_nulls(settings)) + 1


@dataclass(slots=True)
class Alarms:
    """All alarms of one promoted version.

    A request of the version before closes a block: it is compared with the mean over the requests that the
    active version decided since the last one. What happens to all requests alike moves both.
    """

    settings: AlarmSettings = field(default_factory=AlarmSettings)
    unmatched: int = 0  # requests of the active version since the last one of the version before
    _detectors: Mapping[str, Detector] = field(init=False)
    _keys: KeyWeights = field(init=False)
    _block: deque[ComparedRequest] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _yardstick: deque[ComparedRequest] = field(default_factory=lambda: deque(maxlen=100))

    def __post_init__(self) -> None:
        s = self.settings
        blocks = max(s.false_alarm_every * s.yardstick_share, 1.0)
        self._detectors = {name: Detector(null, _sharing(s) * blocks) for name, null in _nulls(s).items()}
        self._keys = KeyWeights(s.max_key_share)

    def update(self, request: ComparedRequest) -> str | None:
        """Take one request; the reason of an alarm, or None."""
        self._keys.add(request.key_id)
        if request.tested:
            self.unmatched += 1
            self._block.append(request)
            return None
        differences = self._differences(request) if self._block else {}
        self._yardstick.append(request)
        self._block.clear()
        self.unmatched = 0
        for name, difference in differences.items():
            if self._detectors[name].update(rescale(difference, -1.0, 1.0)):
                return f"{name}: worse than the version before on requests of the same time"
        return None

    def _differences(self, before: ComparedRequest) -> dict[str, float]:
        """How much worse the block did than the request of the version before, each in [-1, 1]."""
        measures: dict[str, Callable[[ComparedRequest], float]] = {
            "reward": lambda one: -one.surprise,
            "errors": lambda one: float(one.failed),
        }
        if len(self._yardstick) >= _LEAST_YARDSTICK:
            late_s = _LATE * float(np.quantile([one.e2e_s for one in self._yardstick], 0.95))
            measures["latency"] = lambda one: float(one.e2e_s > late_s)
        weights = np.array([self._keys[one.key_id] for one in self._block])
        weights /= weights.sum()
        weight = self._keys[before.key_id]
        found = {}
        for name, measure in measures.items():
            values = np.array([measure(one) for one in self._block])
            found[name] = weight * (float(weights @ values) - measure(before))
        cost_usd = float(weights @ np.array([one.cost_usd for one in self._block]))
        return found | self._dearer(cost_usd, before.cost_usd, weight)

    def _dearer(self, cost_usd: float, before_usd: float, weight: float) -> dict[str, float]:
        """Cost above `cost_factor` times that of the version before, over twice as much as is usual."""
        factor = self.settings.cost_factor
        scale_usd = 2.0 * factor * sum(one.cost_usd for one in self._yardstick) / max(len(self._yardstick), 1)
        if len(self._yardstick) < _LEAST_YARDSTICK or scale_usd <= 0.0:
            return {}
        before = min(factor * before_usd / scale_usd, 1.0)
        return {"cost": weight * (min(cost_usd / scale_usd, 1.0) - before)}


class SliceAlarm:
    """Whole slices of time of the version before against the active one's, block by block.

    Requests that share queues hide a version that fills these for both. In a slice each version bears what it
    brings about; it takes hours, and the alarms on requests are there for what breaks at once.
    """

    def __init__(self, settings: AlarmSettings) -> None:
        size = max(2, round(1.0 / settings.yardstick_share))
        blocks = max(settings.false_alarm_every / (size * _SLICE_REQUESTS), 1.0)
        null = rescale(settings.reward_margin, -MOST, MOST)
        self._detector = Detector(null, _sharing(settings) * blocks)
        self._book = SliceBook(max_failures_above=math.inf)  # errors have an alarm of their own
        self._blocks = Blocks()

    def finished(self, before: Candidate, request: SlicedRequest) -> None:
        """Take a request that ended; `tested` are those of the version before."""
        self._book.add(before, request)

    def looked(self, before: Candidate, complete_s: float) -> str | None:
        """The reason of an alarm, or None; all requests that began until `complete_s` were given."""
        for one in self._book.closed(before, complete_s):
            block = self._blocks.add(before, one)
            if block is None or block.difference is None:
                continue
            if self._detector.update(rescale(block.difference, -MOST, MOST)):
                return "reward: worse than the version before, slice of time by slice of time"
        return None
