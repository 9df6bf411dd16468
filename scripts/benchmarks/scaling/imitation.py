"""A quick imitation of a model that is scaled, in which Serve's target is chosen before the real run."""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from policies.arrays import F64
from policies.scaling import Goal, Now, Planned, ReplicaPlan

_TURN_S: Final = 0.1  # Serve's controller
_MOST: Final = 4


@dataclass(frozen=True, slots=True)
class Engine:
    """The simulated engine in numbers, and how long a replica takes to start and to leave."""

    slots: int
    step_s: float
    mean_output_tokens: float
    start_s: float
    leave_s: float
    first_s: float = 0.03  # through the endpoint to the first token


class Scaler(Protocol):
    """Says how many replicas there should be."""

    def arrived(self) -> None:
        """A request came."""

    def wanted(self, now_s: float, running: int, target: int, ongoing: int) -> int:
        """Asked at every turn of the controller."""


@dataclass(slots=True)
class ServeScaler:
    """Serve's own: ongoing requests over the look back, at `target` a replica, changed after delays."""

    target: float
    look_s: float
    up_s: float
    down_s: float
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _way: int = 0
    _since_s: float = 0.0

    def arrived(self) -> None:
        """It counts requests under way only."""

    def wanted(self, now_s: float, running: int, target: int, ongoing: int) -> int:
        """See Scaler."""
        self._seen.append((now_s, ongoing))
        while self._seen[0][0] < now_s - self.look_s:
            self._seen.popleft()
        mean = sum(count for _, count in self._seen) / len(self._seen)
        desired = min(max(math.ceil(mean / self.target), 1), _MOST)
        way = (desired > target) - (desired < target)
        if way != self._way:
            self._way, self._since_s = way, now_s
        if way and now_s - self._since_s >= (self.up_s if way > 0 else self.down_s) - 1e-9:
            self._way = 0
            return desired
        return target


class PlanScaler:
    """Ours, with at least one replica."""

    def __init__(self, goal: Goal, engine: Engine) -> None:
        self._goal, self._slots, self._plan = goal, float(engine.slots), ReplicaPlan(0.0)
        self._plan.load_s = engine.start_s
        self._first_s = engine.first_s
        self._each = Planned(
            1.0, 0.0, engine.first_s, engine.first_s + engine.mean_output_tokens * engine.step_s
        )
        self._came = Planned()

    def arrived(self) -> None:
        """See Scaler."""
        self._came += self._each

    def wanted(self, now_s: float, running: int, target: int, ongoing: int) -> int:
        """See Scaler."""
        self._plan.arrived(self._came, self._goal.idle_s, now_s)
        self._came = Planned()
        now = Now(running, 1, _MOST, slots=self._slots, in_flight=ongoing)
        return self._plan.wanted(self._goal, now, now_s)


@dataclass(slots=True)
class _Replica:
    ready_s: float
    busy: int = 0
    leaves_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Imitated:
    """What a day came to."""

    replica_s: float
    share: float  # of first tokens within the target
    requests: int


def imitate(times: F64, scaler: Scaler, engine: Engine, target_s: float, seconds: float) -> Imitated:
    """One model's day. Requests wait in one line; the replica with the fewest takes the next."""
    day = _Day(engine, seconds)
    events = heapq.merge(((float(time), 0) for time in times), _turns(seconds))
    for now_s, kind in events:
        day.go(now_s)
        if kind == 0:
            scaler.arrived()
            day.line.append(now_s)
        else:
            day.scale(scaler, now_s)
        day.take(now_s)
    while day.ends or day.line:
        now_s = day.ends[0][0] if day.ends else day.now_s + _TURN_S
        day.go(now_s)
        day.take(now_s)
    waits = np.array(day.waits)
    return Imitated(day.replica_s, float((waits + engine.first_s <= target_s).mean()), len(waits))


def _turns(seconds: float) -> Iterator[tuple[float, int]]:
    for turn in range(int(seconds / _TURN_S)):
        yield turn * _TURN_S, 1


class _Day:
    def __init__(self, engine: Engine, seconds: float) -> None:
        self.engine, self.seconds = engine, seconds
        self.replicas = [_Replica(0.0)]
        self.line = deque[float]()
        self.ends: list[tuple[float, int, _Replica]] = []
        self.waits: list[float] = []
        self.now_s = self.replica_s = 0.0
        self._draw = np.random.default_rng(7)
        self._number = 0

    def go(self, until_s: float) -> None:
        """Requests end, replicas are paid for, until that time."""
        while self.ends and self.ends[0][0] <= until_s:
            at_s, _, replica = heapq.heappop(self.ends)
            self._pay(at_s)
            replica.busy -= 1
            self.take(at_s)
        self._pay(until_s)

    def _pay(self, until_s: float) -> None:
        there = sum(one.busy > 0 or one.leaves_s > self.now_s for one in self.replicas)
        self.replica_s += there * max(min(until_s, self.seconds) - min(self.now_s, self.seconds), 0.0)
        self.now_s = until_s

    def take(self, now_s: float) -> None:
        """Replicas take from the line what they have slots for."""
        engine = self.engine
        while self.line:
            free = [
                one
                for one in self.replicas
                if one.ready_s <= now_s and math.isinf(one.leaves_s) and one.busy < engine.slots
            ]
            if not free:
                return
            replica = min(free, key=lambda one: one.busy)
            replica.busy += 1
            self.waits.append(now_s - self.line.popleft())
            tokens = self._draw.geometric(1.0 / engine.mean_output_tokens)
            self._number += 1
            heapq.heappush(
                self.ends, (now_s + engine.first_s + tokens * engine.step_s, self._number, replica)
            )

    def scale(self, scaler: Scaler, now_s: float) -> None:
        """One turn of the controller."""
        self.replicas = [one for one in self.replicas if one.busy or one.leaves_s > now_s]
        staying = [one for one in self.replicas if math.isinf(one.leaves_s)]
        running = sum(one.ready_s <= now_s for one in staying)
        ongoing = sum(one.busy for one in staying) + len(self.line)
        wanted = scaler.wanted(now_s, running, len(staying), ongoing)
        for _ in range(wanted - len(staying)):
            self.replicas.append(_Replica(now_s + self.engine.start_s))
        idle = sorted(staying, key=lambda one: (one.ready_s <= now_s, one.busy))
        for one in idle[: max(len(staying) - wanted, 0)]:
            one.leaves_s = now_s + self.engine.leave_s
