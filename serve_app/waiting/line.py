"""Whose request is next among those of one priority: start-time fair queueing over keys with weights.

P. Goyal, H. Vin, H. Cheng: "Start-time Fair Queueing" (SIGCOMM 1996); with many served at once it is SFQ(D)
of W. Jin, J. Chase, J. Kaur (SIGMETRICS 2004). Work is counted in seconds of a slot: predicted when a request
is served, corrected when it ends. Which of a key's own requests is next, `Turns` says.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from serve_app.waiting.turns import Timed, Turns

_MOST_REMEMBERED: Final = 4_096  # keys


class Waiter(Timed, Protocol):
    """What a line has to know of one request."""

    key: str
    weight: float  # of its key, above 0


W = TypeVar("W", bound=Waiter)


@dataclass(slots=True)
class _Own(Generic[W]):
    """The requests of one key."""

    weight: float
    waiters: Turns[W] = field(default_factory=Turns)


class FairLine(Generic[W]):
    """The requests of one priority that wait for one model."""

    def __init__(self) -> None:
        self.count = 0
        self.work_s = 0.0  # of all that wait, predicted
        self._keys: dict[str, _Own[W]] = {}  # those that wait
        self._weights = 0.0  # of all of these
        self._now = 0.0  # virtual time: the start of what was served last, in seconds of a slot by weight
        self._ends: dict[str, float] = {}  # virtual time at which what each key was given ends

    def add(self, waiter: W) -> None:
        """One more waits."""
        own = self._keys.get(waiter.key)
        if own is None:
            own = self._keys[waiter.key] = _Own(waiter.weight)
            self._weights += waiter.weight
        own.waiters.add(waiter)
        self.count += 1
        self.work_s += waiter.cost_s

    def take(self, now_s: float, each_s: float) -> W:
        """The next one, which is served now, where one more is served every `each_s`. At least one waits."""
        key = min(self._keys, key=self._turn)
        waiter = self._keys[key].waiters.next(now_s, self.count * each_s)
        self.remove(waiter)
        self.serve(waiter)
        return waiter

    def serve(self, waiter: W) -> None:
        """One that need not wait, or does no more, is served."""
        self._now = self._start(waiter.key)
        self._ends[waiter.key] = self._now + waiter.cost_s / waiter.weight
        if len(self._ends) > _MOST_REMEMBERED:  # the half that was given most
            most = sorted(self._ends, key=self._ends.__getitem__)[-_MOST_REMEMBERED // 2 :]
            self._ends = {key: self._ends[key] for key in most}

    def ended(self, waiter: W, took_s: float) -> None:
        """What was served is over: its key pays for what it took in place of what was predicted."""
        end = self._ends.get(waiter.key)
        if end is not None:
            self._ends[waiter.key] = end + (took_s - waiter.cost_s) / waiter.weight

    def remove(self, waiter: W) -> None:
        """One that waits leaves."""
        own = self._keys[waiter.key]
        own.waiters.remove(waiter)
        self.count -= 1
        self.work_s = self.work_s - waiter.cost_s if self.count else 0.0
        if not own.waiters:
            del self._keys[waiter.key]
            self._weights = self._weights - own.weight if self._keys else 0.0

    def of(self, key: str) -> int:
        """Requests of one key that wait."""
        own = self._keys.get(key)
        return 0 if own is None else len(own.waiters)

    def has_share(self, key: str, weight: float, places: float) -> bool:
        """Whether one more of `key` is within its share, by weight among the keys that wait, of `places`.

        A share is never less than one request.
        """
        return self.of(key) + 1 <= max(places * self.share(key, weight), 1.0)

    def share(self, key: str, weight: float) -> float:
        """What is due to `key`, by weight among the keys that wait."""
        return weight / (self._weights + (0.0 if key in self._keys else weight))

    def ahead(self, key: str, weight: float) -> float:
        """About how many are served before one more of `key`: its own, and of others as many by weight."""
        own = self.of(key)
        others = self._weights - (weight if key in self._keys else 0.0)
        return min(float(self.count), own + (own + 1) * others / weight)

    def last_of_greediest(self, key: str, weight: float) -> W | None:
        """The newest request of the key with the most by weight; None where that is `key` with one more."""
        most, found = (self.of(key) + 1) / weight, None
        for name, own in self._keys.items():
            held = len(own.waiters) / own.weight
            if name != key and held > most:
                most, found = held, own.waiters.newest
        return found

    def _start(self, key: str) -> float:
        return max(self._now, self._ends.get(key, 0.0))

    def _turn(self, key: str) -> tuple[float, int]:
        return self._start(key), self._keys[key].waiters.oldest.number
