"""Slices of time, each served by one version as a whole: units that carry their own consequences.

Versions that share queues at the same time cannot be compared request by request: who sends less to a crowded
model helps the other one's requests as much as its own. So the canary gets slices instead of requests. Which
ones is drawn from a seed in the rollout state, in every block of slices one: all ingress replicas know
without talking, and what changes slowly falls out of the difference within a block.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from policies.decision import hash64
from policies.promotion.confidence import wilson
from policies.promotion.rollout import Candidate, Stage, Step

WASHOUT: Final = 1.0 / 3.0  # of a slice: what begins in it meets the queues of the slice before
MOST: Final = 0.15  # of normalised reward: a block in which the versions differ by more counts as this
_LEAST_FAILURES: Final = 5  # that can end a slice early


@dataclass(frozen=True, slots=True)
class SlicedRequest:
    """One finished request of the candidate's slices or of the others.

    `surplus` is its reward in [0, 1] less what the prompt alone lets expect, whoever decides and whatever
    stands in the queues.
    """

    tested: bool  # whether the candidate was assigned
    created_s: float  # wall clock
    surplus: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """What came of the requests of one slice."""

    step: int
    number: int  # within its step
    tested: bool
    count: int = 0
    surplus: float = 0.0  # sum
    failures: int = 0
    is_cut: bool = False  # ended early because of failures
    end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The slices of one step of a canary."""

    seed: int
    slice_s: float
    step: Step

    @property
    def block(self) -> int:
        """Slices in a block, of which one is the candidate's."""
        return max(2, round(1.0 / self.step.share))

    def number(self, at_s: float) -> int:
        """The slice of this time."""
        return math.floor((at_s - self.step.began_s) / self.slice_s)

    def start_s(self, number: int) -> float:
        """When a slice begins."""
        return self.step.began_s + number * self.slice_s

    def is_tested(self, number: int) -> bool:
        """Whether the slice is the candidate's."""
        block, place = divmod(number, self.block)
        return place == _drawn(self.seed, self.step.began_s, block) % self.block


@lru_cache(maxsize=4096)
def _drawn(seed: int, began_s: float, block: int) -> int:
    """64 random bits of a block."""
    return hash64(f"{seed}:{began_s:.3f}:{block}")


def schedule(candidate: Candidate, step: int = -1) -> Schedule:
    """The slices of one of its steps, by default of the present one."""
    return Schedule(candidate.seed, candidate.slice_s, candidate.steps[step])


def serves(candidate: Candidate, now_s: float) -> bool:
    """Whether it is the candidate's turn."""
    if candidate.stage is not Stage.CANARY or not candidate.steps or now_s < candidate.held_until_s:
        return False
    slices = schedule(candidate)
    number = slices.number(now_s)
    return number >= 0 and slices.is_tested(number)


@dataclass(slots=True)
class Tally:
    """The requests of one slice that ended so far, in order of their ends.

    A slice of either version in which failures jump counts up to there: the same rule for both, which is why
    ending the candidate's early favours nobody.
    """

    counts_from_s: float  # creation of the first request after the washout
    count: int = 0
    surplus: float = 0.0
    kept: int = 0  # of them after the washout
    kept_surplus: float = 0.0
    failures: int = 0
    is_cut: bool = False

    def add(self, request: SlicedRequest, most_failures: float) -> None:
        """Take one; `most_failures` is the share of failed ones that is borne."""
        if self.is_cut:
            return
        self.count += 1
        self.surplus += request.surplus
        if request.created_s >= self.counts_from_s:
            self.kept += 1
            self.kept_surplus += request.surplus
        if request.failed:
            self.failures += 1
            low, _ = wilson(self.failures / self.count, self.count)
            self.is_cut = self.failures >= _LEAST_FAILURES and low > most_failures


@dataclass(slots=True)
class SliceBook:
    """Groups finished requests by slice, and gives each slice once, when all of it is known.

    A request whose version is not that of its slice (an ingress replica that had not heard yet, a slice that
    was ended early) is left out.
    """

    max_failures_above: float
    _tallies: dict[tuple[int, int], Tally] = field(default_factory=dict)
    _next: tuple[int, int] = (0, 0)  # step and number of the slice that closes next
    _usual_count: int = 0  # requests of the other slices that closed
    _usual_failures: int = 0

    def add(self, candidate: Candidate, request: SlicedRequest) -> None:
        """Take a request that ended, in order of the ends."""
        step = len(candidate.steps) - 1
        while step >= 0 and candidate.steps[step].began_s > request.created_s:
            step -= 1
        if step < 0:
            return
        slices = schedule(candidate, step)
        number = slices.number(request.created_s)
        if (step, number) < self._next or slices.is_tested(number) != request.tested:
            return
        tally = self._tallies.get((step, number))
        if tally is None:
            counts_from_s = slices.start_s(number) + WASHOUT * slices.slice_s
            tally = self._tallies[step, number] = Tally(counts_from_s)
        usual = self._usual_failures / max(self._usual_count, 1)
        tally.add(request, usual + self.max_failures_above)

    def closed(self, candidate: Candidate, complete_s: float) -> Iterator[Slice]:
        """Slices of which every request is known, where all that began until `complete_s` are.

        The last slice of a step, which the next step broke off, is left out.
        """
        step, number = self._next
        while step < len(candidate.steps):
            slices = schedule(candidate, step)
            is_last = step + 1 == len(candidate.steps)
            limit_s = complete_s if is_last else min(complete_s, candidate.steps[step + 1].began_s)
            while slices.start_s(number + 1) <= limit_s:
                self._next = step, number + 1
                yield self._close(slices, step, number)
                number += 1
            if is_last or complete_s < candidate.steps[step + 1].began_s:
                return
            step, number = self._next = step + 1, 0

    def is_cut(self, candidate: Candidate, now_s: float) -> bool:
        """Whether the candidate's slice of this time is to end now."""
        step = len(candidate.steps) - 1
        number = schedule(candidate).number(now_s)
        tally = self._tallies.get((step, number))
        return tally is not None and tally.is_cut and schedule(candidate).is_tested(number)

    def _close(self, slices: Schedule, step: int, number: int) -> Slice:
        tested, end_s = slices.is_tested(number), slices.start_s(number + 1)
        tally = self._tallies.pop((step, number), None)
        if tally is None:
            return Slice(step, number, tested, end_s=end_s)
        if not tested:
            self._usual_count += tally.count
            self._usual_failures += tally.failures
        count, surplus = tally.kept, tally.kept_surplus
        if tally.is_cut:  # its washout too: there may be nothing else
            count, surplus = tally.count, tally.surplus
        return Slice(step, number, tested, count, surplus, tally.failures, tally.is_cut, end_s)


@dataclass(slots=True)
class Block:
    """The slices of one block: how the candidate's did against the mean of the others.

    What had ended of a slice when it was cut are its quick requests. So a slice that was cut, whoever's it
    is, counts as worse than the others by `cut_loss`.
    """

    size: int
    cut_loss: float
    tested: Slice | None = None
    seen: int = 0
    others: int = 0  # requests
    surplus: float = 0.0  # of the others, sum
    whole: int = 0  # other slices with requests that were not cut
    other_cuts: int = 0

    def add(self, one: Slice) -> bool:
        """Take a slice; whether it was the last one."""
        self.seen += 1
        if one.tested:
            self.tested = one
        elif one.is_cut:
            self.other_cuts += 1
        elif one.count:
            self.whole += 1
            self.others += one.count
            self.surplus += one.surplus
        return self.seen == self.size

    @property
    def difference(self) -> float | None:
        """Mean reward of the candidate's slice less that of the others; None without requests on a side."""
        if self.tested is None or not self.tested.count or not self.others:
            return None
        usual = self.surplus / self.others
        own = usual - self.cut_loss if self.tested.is_cut else self.tested.surplus / self.tested.count
        return own - usual + self.cut_loss * self.other_cuts / (self.whole + self.other_cuts)


class Blocks:
    """Slices in, one number a block out: how much better the candidate's slice did than the others."""

    def __init__(self) -> None:
        self._key = (-1, -1)
        self._block = Block(0, MOST)

    def add(self, state: Candidate, one: Slice) -> Block | None:
        """The block, where this slice was its last one."""
        size = schedule(state, one.step).block
        key = one.step, one.number // size
        if key != self._key:
            self._key, self._block = key, Block(size, MOST)
        return self._block if self._block.add(one) else None
