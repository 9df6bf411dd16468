"""Which request of one key is next: short ones pass long ones for a while, and nobody past its deadline.

A request is served as if it had come later than it did, by so many times the work that is predicted for it:
the dynamic priority of J. R. Jackson ("Queues with dynamic priority discipline", Management Science 8, 1961).
Where nothing tells requests apart, that is the order in which they came.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

PATIENCE: Final = 8.0  # times its own predicted work for which a request may be passed by later ones
_CARE: Final = 1.5  # times what all that wait take: who has less until its deadline is next


class Timed(Protocol):
    """What the order within a key has to know of one request. Times are those of one clock."""

    number: int  # grows with each arrival
    since_s: float  # when it came
    cost_s: float  # seconds of a slot that it is predicted to take
    deadline_s: float  # when it gives up waiting


T = TypeVar("T", bound=Timed)


class Turns(Generic[T]):
    """The requests of one key that wait."""

    def __init__(self) -> None:
        self._all: OrderedDict[int, T] = OrderedDict()  # by number, the oldest first
        self._turns: list[tuple[float, int]] = []  # of each its turn and number, ascending
        self._deadlines: list[tuple[float, int]] = []  # of each its deadline and number, ascending

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: T) -> None:
        """One more waits."""
        self._all[one.number] = one
        insort(self._turns, (_turn(one), one.number))
        insort(self._deadlines, (one.deadline_s, one.number))

    def remove(self, one: T) -> None:
        """One that waits leaves."""
        del self._all[one.number]
        del self._turns[bisect_left(self._turns, (_turn(one), one.number))]
        del self._deadlines[bisect_left(self._deadlines, (one.deadline_s, one.number))]

    def next(self, now_s: float, all_s: float) -> T:
        """Whose turn it is where all that wait are served within about `all_s`. At least one waits.

        As long as no deadline comes before that, any order keeps all of them, and short ones may go first.
        The earliest deadline goes first as soon as it is as near.
        """
        first = self._all[self._deadlines[0][1]]
        if first.deadline_s - first.cost_s <= now_s + _CARE * all_s:
            return first
        return self._all[self._turns[0][1]]

    @property
    def oldest(self) -> T:
        """The one that came first."""
        return next(iter(self._all.values()))

    @property
    def newest(self) -> T:
        """The one that came last."""
        return next(reversed(self._all.values()))


def _turn(one: Timed) -> float:
    return one.since_s + PATIENCE * one.cost_s
