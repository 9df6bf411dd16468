"""Whose request is next among those of one priority: start-time fair queueing over keys with weights.

P. Goyal, H. Vin, H. Cheng: "Start-time Fair Queueing" (SIGCOMM 1996); with many served at once it is SFQ(D)
of W. Jin, J. Chase, J. Kaur (SIGMETRICS 2004). Work is counted in seconds of a slot: predicted when a request
is served, corrected when it ends.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

_MOST_REMEMBERED: Final = 4_096  # keys


class Waiter(Protocol):
    """What a line has to know of one request."""

    key: str
    weight: float  # of its key, above 0
    cost_s: float  # seconds of a slot that it is predicted to take
    number: int  # grows with each arrival


W = TypeVar("W", bound=Waiter)


@dataclass(slots=True)
class _Own(Generic[W]):
    """The requests of one key, oldest first."""

    weight: float
    waiters: deque[W] = field(default_factory=deque)


class FairLine(Generic[W]):
    """The requests of one priority that wait for one model."""

    def __init__(self) -> None:
        self.count = 0
        self._keys: dict[str, _Own[W]] = {}  # those that wait
        self._weights = 0.0  # of all of these
        self._now = 0.0  # virtual time: the start of what was served last, in seconds of a slot by weight
        self._ends: dict[str, float] = {}  # virtual time at which what each key was given ends

    def add(self, waiter: W) -> None:
        """One more, the last of its key."""
        own = self._keys.get(waiter.key)
        if own is None:
            own = self._keys[waiter.key] = _Own(waiter.weight)
            self._weights += waiter.weight
        own.waiters.append(waiter)
        self.count += 1

    def take(self) -> W:
        """The next one, which is served now. At least one waits."""
        own = min(self._keys.values(), key=self._turn)
        waiter = own.waiters[0]
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
                most, found = held, own.waiters[-1]
        return found

    def _start(self, key: str) -> float:
        return max(self._now, self._ends.get(key, 0.0))

    def _turn(self, own: _Own[W]) -> tuple[float, int]:
        first = own.waiters[0]
        return self._start(first.key), first.number
