"""How many replicas a model needs: from the requests that are planned for it, its load time and a target."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

FIRST_LOAD_S: Final = 30.0  # until a start was measured
_LOAD_S: Final = (1.0, 600.0)  # between these a start decides how far the plan looks ahead
_LOOK_S: Final = (1.0, 120.0)  # and how far it looks back
_OVERDUE: Final = (4.0, 60.0)  # starts, and seconds on top, after which something is wrong with one
_BUCKETS: Final = 32  # that one look back is kept in
_STARTS: Final = 3  # the longest of so many is expected of the next
_LEAST_SLACK: Final = 0.1  # of the target: a model that is slower when idle is not given replicas without end
_SLEEPS_AT: Final = 0.5  # of the level that wakes: what has just woken does not fall asleep at once


@dataclass(frozen=True, slots=True)
class Goal:
    """What replicas are to reach for: `share` of the first tokens within `ttft_s`.

    A model sleeps once nobody has named it for `idle_s` and `auto` would have sent it fewer requests than
    half of `wake_requests` of late, counts fading over `idle_s`.
    """

    ttft_s: float
    share: float
    idle_s: float
    wake_requests: float


@dataclass(frozen=True, slots=True)
class Planned:
    """Requests that were planned for a model, summed up. `requests` counts shares of one request too.

    `named` are those that named it. `ttft_s` and `service_s` are what was predicted of all of them: to the
    first token and to the last, where nothing waits.
    """

    requests: float = 0.0
    named: float = 0.0
    ttft_s: float = 0.0
    service_s: float = 0.0

    def __add__(self, other: "Planned") -> "Planned":
        return Planned(
            self.requests + other.requests,
            self.named + other.named,
            self.ttft_s + other.ttft_s,
            self.service_s + other.service_s,
        )

    def __sub__(self, other: "Planned") -> "Planned":
        return Planned(
            self.requests - other.requests,
            self.named - other.named,
            self.ttft_s - other.ttft_s,
            self.service_s - other.service_s,
        )


@dataclass(frozen=True, slots=True)
class Now:
    """A model as it is: `running` replicas of `slots` sequences each, from `least` to `most` of them, and the
    requests `in_flight`."""

    running: int
    least: int
    most: int
    slots: float = 1.0
    in_flight: int = 0


def late_share(busy: float, servers: float, slack: float) -> float:
    """Share of requests that wait longer than `slack` mean service times, by Erlang's formula C.

    `busy` servers would be busy on average; at or above `servers` every request waits for ever.
    """
    if busy >= servers:
        return 1.0
    if busy <= 0.0:
        return 0.0
    blocked = 1.0  # Erlang's B, by its recursion over the servers
    for count in range(1, int(servers) + 1):
        blocked = busy * blocked / (count + busy * blocked)
    waits = blocked / (1.0 - busy / servers * (1.0 - blocked))
    return waits * math.exp(-(servers - busy) * slack)


def replicas_for(busy: float, slots: float, slack: float, share: float, most: int) -> int:
    """The fewest replicas of `slots` sequences that keep `share` of the waits below `slack` service times."""
    for count in range(1, most):
        if late_share(busy, count * slots, slack) <= 1.0 - share:
            return count
    return most


class ReplicaPlan:
    """The plan of one model. Times are any clock's seconds; nothing here waits.

    Up: for what is planned of late and its rise until a replica that starts now serves. Down: a replica that
    was needed within one load time is kept, since it might be needed again before another could start.
    """

    def __init__(self, now_s: float) -> None:
        self.load_s = FIRST_LOAD_S
        self._took_s: deque[float] = deque(maxlen=_STARTS)
        self._born_s = now_s
        self._parts: deque[tuple[float, Planned]] = deque()
        self._needs: deque[tuple[float, int]] = deque()  # falling, for the most of the last load time
        self._level, self._level_s = 0.0, now_s
        self._named_s = -math.inf
        self._running = -1  # not asked yet
        self._starts_s: deque[float] = deque()  # when replicas that do not run yet were asked for
        self._mean = Planned()  # of one request, kept while none comes

    def ready_in_s(self, now_s: float) -> float:
        """Seconds until a replica that is asked for now serves, or the one that starts already; 0 where that
        one should have served long ago."""
        begun_s = now_s - self._starts_s[0] if self._starts_s else 0.0
        overdue_s = _OVERDUE[0] * self.load_s + _OVERDUE[1]
        return 0.0 if begun_s > overdue_s else max(self.load_s - begun_s, 1.0)

    def arrived(self, planned: Planned, idle_s: float, now_s: float) -> None:
        """Requests were planned for the model since the last call."""
        if planned.named > 0.0:
            self._named_s = now_s
        self._level = self._faded(idle_s, now_s) + planned.requests
        self._level_s = now_s
        if planned.requests <= 0.0:
            return
        began_s, last = self._parts[-1] if self._parts else (-math.inf, Planned())
        if now_s - began_s < self._look_s / _BUCKETS:
            self._parts[-1] = (began_s, last + planned)
        else:
            self._parts.append((now_s, planned))

    def wanted(self, goal: Goal, now: Now, now_s: float) -> int:
        """How many replicas the model should have now."""
        self._watch(now, now_s)
        need = self._need(goal, now, now_s)
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((now_s, need))
        while self._needs[0][0] < now_s - self._ahead_s:
            self._needs.popleft()
        wanted = self._needs[0][1]
        if now_s - self._born_s < self._ahead_s:  # what came before is not known
            wanted = max(wanted, now.running)
        wanted = max(wanted, now.least, int(self._is_awake(goal, now, now_s)))
        wanted = min(wanted, now.most)
        while len(self._starts_s) > max(wanted - now.running, 0):
            self._starts_s.pop()
        self._starts_s.extend([now_s] * (wanted - now.running - len(self._starts_s)))
        return wanted

    @property
    def _ahead_s(self) -> float:
        return min(max(self.load_s, _LOAD_S[0]), _LOAD_S[1])

    @property
    def _look_s(self) -> float:
        return min(max(self.load_s, _LOOK_S[0]), _LOOK_S[1])

    def _faded(self, idle_s: float, now_s: float) -> float:
        return self._level * math.exp(-max(now_s - self._level_s, 0.0) / idle_s)

    def _is_awake(self, goal: Goal, now: Now, now_s: float) -> bool:
        threshold = goal.wake_requests * (_SLEEPS_AT if now.running else 1.0)
        is_planned = goal.wake_requests > 0.0 and self._faded(goal.idle_s, now_s) >= threshold
        return is_planned or now.in_flight > 0 or now_s - self._named_s < goal.idle_s

    def _watch(self, now: Now, now_s: float) -> None:
        """Learn how long a start takes from when replicas that were wanted run."""
        if now.running > 0 >= self._running:
            self._named_s = now_s  # what was just loaded stays for a while
        for _ in range(min(now.running - self._running, len(self._starts_s))):
            begun_s = self._starts_s.popleft()
            if begun_s > self._born_s:  # else it had begun before anybody asked
                self._took_s.append(now_s - begun_s)
                self.load_s = max(self._took_s)
        self._running = now.running

    def _need(self, goal: Goal, now: Now, now_s: float) -> int:
        """Replicas for what is planned, without regard to what ran before; 0 where nothing is."""
        look_s = self._look_s
        while self._parts and self._parts[0][0] < now_s - 2.0 * look_s:
            self._parts.popleft()
        late = sum((part for at_s, part in self._parts if at_s >= now_s - look_s), Planned())
        early = sum((part for at_s, part in self._parts if at_s < now_s - look_s), Planned())
        if late.requests > 0.0:
            count = late.requests
            self._mean = Planned(1.0, 0.0, late.ttft_s / count, late.service_s / count)
        if late.requests + early.requests < 1.0:
            return 0
        noise = math.sqrt(late.requests + early.requests)
        rise = max(late.requests - early.requests - noise, 0.0)  # what chance does not explain, in one look
        looks = 0.5 + self._ahead_s / look_s  # from the middle of the look back until a replica would serve
        expected = late.requests + math.sqrt(late.requests) + looks * rise
        busy = expected / look_s * self._mean.service_s
        slack_s = max(goal.ttft_s - self._mean.ttft_s, _LEAST_SLACK * goal.ttft_s)
        slack = slack_s / max(self._mean.service_s, 1e-9)
        slots = max(now.slots, 1.0)
        backlog = math.ceil(now.in_flight / slots)
        return max(replicas_for(busy, slots, slack, goal.share, now.most), min(backlog, now.most))
